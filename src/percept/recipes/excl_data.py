"""Frozen features of clips and queries for ExCL: computed once, kept on disk as float16, and put together to batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from percept.core.errors import PerceptError
from percept.core.io import content_hash, load_tensors, save_tensors
from percept.core.report import track
from percept.core.seed import derive
from percept.data.source import share
from percept.methods.video.excl import Asked, ExCL, frame_features, word_features
from percept.world.cache import cache_home
from percept.world.clips.queries import queried_clip

CHUNK = 40
"""Clips of one file."""
DRAWING = 1
"""Version of the clips. Raise it when a number gives a different clip, so that features are computed again."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Features:
    """Clips of one set with their queries."""

    frames: Float[Tensor, "f d"]
    """Of all clips one after the other."""
    frame_count: Int[Tensor, " c"]
    """Frames of each clip."""
    words: Float[Tensor, "l w"]
    """Of all queries one after the other."""
    word_count: Int[Tensor, " q"]
    text: Float[Tensor, "q e"]
    """Unit vector of each query in the space of the images."""
    clip: Int[Tensor, " q"]
    """Clip of each query."""
    start: Int[Tensor, " q"]
    end: Int[Tensor, " q"]

    def __len__(self) -> int:
        """Return the number of queries."""
        return len(self.clip)

    def batch(self, queries: Sequence[int] | Tensor) -> Asked:
        """Return some queries with their clips as a batch."""
        rows = torch.as_tensor(queries, dtype=torch.int64)
        clips = self.clip[rows]
        frames = _rows(self.frames, self.frame_count, clips)
        words = _rows(self.words, self.word_count, rows)
        return Asked(
            frames=frames, frame_count=self.frame_count[clips], words=words, word_count=self.word_count[rows],
            text=self.text[rows].float(), start=self.start[rows], end=self.end[rows],
        )  # fmt: skip


def _rows(values: Tensor, counts: Tensor, chosen: Tensor) -> Tensor:
    """Return some of the pieces that were joined, padded with 0."""
    ends = counts.cumsum(0)
    parts = [values[int(ends[place] - counts[place]) : int(ends[place])].float() for place in chosen.tolist()]
    return torch.nn.utils.rnn.pad_sequence(parts, batch_first=True)


def joined(parts: Sequence[Features]) -> Features:
    """Return the clips and queries of several sets as one."""
    before, values = 0, {name: [] for name in vars(parts[0])}
    for part in parts:
        for name, value in vars(part).items():
            values[name].append(value + before if name == "clip" else value)
        before += len(part.frame_count)
    return Features(**{name: torch.cat(each) for name, each in values.items()})


def features_of(
    encoder: Any, config: ExCL.Config, kind: str, clips: int, *, split: str = "train", home: Path | None = None
) -> Features:
    """Return the features of the first clips of a set; those not on disk are computed, file by file.

    Args:
        encoder: what `percept.load` returns for the base model.
        config: its image_size and grid are used.
        kind: a name of `percept.world.clips.queries.KINDS`.
        clips: number of clips.
        split: a name of `percept.world.SPLITS`.
        home: folder of the files; default: `moments` in the cache of the world.

    Raises:
        PerceptError: unknown kind or split, or less than one clip.
    """
    if clips < 1:
        raise PerceptError(f"clips must be at least 1, got {clips}.")
    identity = content_hash(repr((encoder.identity.image, encoder.identity.text, config.grid, DRAWING)).encode())[:12]
    folder = (home or cache_home() / "moments") / f"{config.image_size}-{identity}"
    names = [(folder / f"{kind}-{split}-{first:06d}.safetensors", first) for first in range(0, clips, CHUNK)]
    missing = [(file, first) for file, first in names if not file.is_file()]
    for file, first in track(missing, f"features of {kind} clips", len(missing)):
        save_tensors(file, _chunk(encoder, config, kind, split, range(first, first + CHUNK)))
    return _first(joined([Features(**load_tensors(file)) for file, _ in names]), clips)


def _first(features: Features, clips: int) -> Features:
    """Return the first clips with their queries."""
    queries = int((features.clip < clips).sum())
    frames, words = int(features.frame_count[:clips].sum()), int(features.word_count[:queries].sum())
    ends = {"frames": frames, "frame_count": clips, "words": words}
    return Features(**{name: value[: ends.get(name, queries)] for name, value in vars(features).items()})


@torch.no_grad()
def _chunk(encoder: Any, config: ExCL.Config, kind: str, split: str, numbers: range) -> dict[str, Tensor]:
    """Draw clips and compute their features."""
    clip, setting = encoder.model, encoder.setting
    frames, texts, rows = [], [], []
    for place, number in enumerate(numbers):
        asked = queried_clip(kind, number, split=split, size=config.image_size)
        pixels = encoder.preprocess.normalise(torch.from_numpy(asked.frames).permute(0, 3, 1, 2))
        frames.append(frame_features(clip, pixels.to(setting.device, setting.dtype), config.grid).half().cpu())
        texts += [moment.text for moment in asked.moments]
        rows += [(place, moment.start, moment.end) for moment in asked.moments]
    tokens = encoder.tokenizer(texts).to(setting.device)
    words, counts, vectors = word_features(clip, tokens)
    at, start, end = torch.tensor(rows).unbind(1)
    return {
        "frames": torch.cat(frames), "frame_count": torch.tensor([len(each) for each in frames]),
        "words": torch.cat([row[:count] for row, count in zip(words, counts.tolist(), strict=True)]).half().cpu(),
        "word_count": counts.cpu(), "text": vectors.half().cpu(), "clip": at.contiguous(),
        "start": start.contiguous(), "end": end.contiguous(),
    }  # fmt: skip


class MomentSource:
    """Batches of queries in a new order in every epoch."""

    def __init__(self, features: Features, *, batch: int, seed: int = 0) -> None:
        """Prepare a source.

        Raises:
            PerceptError: fewer queries than one batch.
        """
        if len(features) < batch:
            raise PerceptError(f"{len(features)} queries are fewer than the {batch} of one batch. Use more clips.")
        self.features, self.batch_size, self.seed = features, batch, seed

    def batch(self, step: int, *, rank: int = 0, world_size: int = 1) -> Asked:
        """Return this process's share of the batch of a step."""
        epoch, place = divmod(step, len(self.features) // self.batch_size)
        order = np.random.default_rng(derive(self.seed, "moments", epoch)).permutation(len(self.features))
        rows = order[place * self.batch_size : (place + 1) * self.batch_size]
        return self.features.batch(torch.from_numpy(rows[share(self.batch_size, rank, world_size)]))
