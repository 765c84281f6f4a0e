"""Batches of generated clips with captions. A batch is a function of seed and step, and each process renders only its share."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from percept.core.errors import PerceptError, unknown_name
from percept.core.seed import derive
from percept.data.batch import Batch
from percept.data.source import share as share_of
from percept.data.tokenizers import Tokenizer
from percept.world.clips.clip import Clip
from percept.world.clips.elements import Plan
from percept.world.clips.language import long_caption, short_caption
from percept.world.clips.planning import plan_clip
from percept.world.clips.render import render_clip
from percept.world.clips.rows import SAMPLED, TASKS, Row, clip_rows

TEXTS = {"short": short_caption, "long": long_caption}
"""Kinds of captions. A step uses one kind for all its clips."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ClipText(Batch):
    """Clips and matching captions."""

    frames: Float[Tensor, "b t 3 y x"]
    """Frames in [-1, 1]."""
    tokens: Int[Tensor, "b n"]
    """Token ids, padded with 0."""


class ClipSource:
    """Batches of clips that are generated as they are needed; no clip occurs twice unless `clips` says so."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        batch: int,
        frames: int = 8,
        size: int = 96,
        split: str = "train",
        text: str = "mixed",
        clips: int | None = None,
        seed: int = 0,
    ) -> None:
        """Prepare a source; nothing is generated yet.

        Args:
            tokenizer: tokenizer of the captions.
            batch: clips of a step, all processes together.
            frames: frames of a clip.
            size: side of the frames in pixels.
            split: a name of `percept.world.SPLITS`.
            text: a name of `TEXTS`, or "mixed" for a random kind in every step.
            clips: number of different clips, in a new order in every epoch; unlimited if None.
            seed: seed of the clips, of their order and of the captions.

        Raises:
            PerceptError: unknown kind of text, a batch below 1, or fewer clips than one batch.
        """
        if text not in (*TEXTS, "mixed"):
            raise unknown_name("kind of text", text, (*TEXTS, "mixed"))
        if batch < 1:
            raise PerceptError(f"batch must be at least 1, got {batch}.")
        if clips is not None and clips < batch:
            raise PerceptError(f"{clips} clips are fewer than the {batch} of one batch. Use more clips.")
        self.tokenizer, self.batch_size, self.frames, self.size = tokenizer, batch, frames, size
        self.split, self.text, self.clips, self.seed = split, text, clips, seed

    def keys(self, step: int, *, rank: int = 0, world_size: int = 1) -> list[int]:
        """Return the seeds of this process's clips of a step."""
        rows = range(self.batch_size)[share_of(self.batch_size, rank, world_size)]
        first = step * self.batch_size
        if self.clips is None:
            return [derive(self.seed, "clips", first + row) for row in rows]
        epoch, place = divmod(step, self.clips // self.batch_size)
        order = np.random.default_rng(derive(self.seed, "clip order", epoch)).permutation(self.clips)
        chosen = order[place * self.batch_size : (place + 1) * self.batch_size]
        return [derive(self.seed, "clips", int(chosen[row])) for row in rows]

    def batch(self, step: int, *, rank: int = 0, world_size: int = 1) -> ClipText:
        """Return this process's share of the batch of a step."""
        frames, texts = [], []
        for seed in self.keys(step, rank=rank, world_size=world_size):
            clip = self._clip(seed, truth=False)
            frames.append(torch.from_numpy(clip.frames))
            texts.append(self._caption(step, seed, clip.plan))
        if not frames:
            empty = torch.zeros(0, self.frames, 3, self.size, self.size)
            return ClipText(frames=empty, tokens=torch.zeros(0, self.tokenizer.context, dtype=torch.long))
        pixels = torch.stack(frames).permute(0, 1, 4, 2, 3)
        return ClipText(frames=pixels.float().div_(127.5).sub_(1), tokens=self.tokenizer(texts))

    def captions(self, step: int) -> list[str]:
        """Return the captions of the global batch of a step, without rendering its clips."""
        return [self._caption(step, seed, self._plan(seed)) for seed in self.keys(step)]

    def clip(self, step: int, row: int) -> Clip:
        """Return one clip of the global batch of a step, with its ground truth."""
        return self._clip(self.keys(step)[row], truth=True)

    def _clip(self, seed: int, *, truth: bool) -> Clip:
        return render_clip(self._plan(seed), size=self.size, truth=truth)

    def _plan(self, seed: int) -> Plan:
        return plan_clip(seed, split=self.split, frames=self.frames)

    def _caption(self, step: int, seed: int, plan: Plan) -> str:
        kinds = random.Random(derive(self.seed, "clip text", step))
        kind = kinds.choice(tuple(TEXTS)) if self.text == "mixed" else self.text
        return TEXTS[kind](plan, random.Random(derive(self.seed, "caption", step, seed)))


def generated_rows(
    first: int,
    count: int,
    *,
    split: str = "train",
    frames: int = 32,
    size: int = 96,
    tasks: tuple[str, ...] = TASKS,
    sampled: int = SAMPLED,
    video: str = "{split}-{seed:06d}.mp4",
) -> Iterator[Row]:
    """Yield the rows of `count` clips of a split, from number `first` on.

    Args:
        first: number of the first clip.
        count: number of clips.
        split: a name of `percept.world.SPLITS`.
        frames: frames of a clip.
        size: side of the frames in pixels, the unit of the boxes.
        tasks: names of `TASKS`.
        sampled: frames that the model samples.
        video: name of the video file of a clip, with the fields `split` and `seed`.
    """
    for seed in range(first, first + count):
        clip = render_clip(plan_clip(seed, split=split, frames=frames), size=size)
        yield from clip_rows(clip, video=video.format(split=split, seed=seed), tasks=tasks, sampled=sampled)
