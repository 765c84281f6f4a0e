"""pe/video_captions: does training on captions of clips raise video retrieval? In miniature, from nano, on the generated world.

    percept ablate pe/video_captions --seeds 3

Bolya et al. 2025, arXiv:2504.13181, section 3: titles alone helped little, captions of
clips raised text-to-video retrieval by about 9 points. Here `images` trains on for as many steps on single images and their captions, as
many as the other points have frames; `short`, `long` and `mixed` train on clips with captions of that kind.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

import percept
from percept.eval.retrieval import ranks, same
from percept.eval.statistics import Score, proportion
from percept.recipes.pe_stages import Cooldown, Video, cooldown, video
from percept.train.experiment import Experiment, Settings
from percept.world.cache import WorldData
from percept.world.clips import generate_clip
from percept.world.clips.language import long_caption, short_caption

if TYPE_CHECKING:
    from percept.train.ablation import Ablation

CLIPS, FRAMES = 300, 8
"""Test clips, and frames of each."""
COMMAND = "percept ablate pe/video_captions"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What is compared."""

    init: str = "nano"
    world: WorldData = field(default_factory=lambda: WorldData(pairs=6_000))
    settings: Settings = field(
        default_factory=lambda: Settings(steps=24, batch=32, learning_rate=2e-4, warmup=3, log_every=8)
    )
    """Settings of the points with clips; `images` has a batch as large as their frames."""

    def images(self, seed: int) -> Experiment:
        """Return the run without clips."""
        settings = replace(self.settings, seed=seed, batch=FRAMES * self.settings.batch)
        return cooldown(Cooldown(init=self.init, world=self.world, settings=settings), command=COMMAND)

    def clips(self, text: str, seed: int) -> Experiment:
        """Return a run on clips with one kind of captions."""
        settings = replace(self.settings, seed=seed)
        return video(Video(init=self.init, text=text, frames=FRAMES, settings=settings), command=COMMAND)  # type: ignore[arg-type]

    def points(self) -> dict[str, Callable[[int], Experiment]]:
        """Return all points; the first one is what the others are compared with."""
        return {"images": self.images, **{text: partial(self.clips, text) for text in ("short", "long", "mixed")}}


def evaluate(folder: Path, *, count: int = CLIPS) -> Mapping[str, Score]:
    """Measure retrieval of clips of the evaluation split by their long and short captions, in both directions."""
    model = percept.load(folder)
    made = [generate_clip(seed, split="evaluation", frames=FRAMES, truth=False) for seed in range(count)]
    vectors = torch.stack([model.video(list(clip.frames), average="zero-shot") for clip in made])
    scores: dict[str, Score] = {}
    for kind, write in (("long", long_caption), ("short", short_caption)):
        texts = [write(clip.plan, random.Random(number)) for number, clip in enumerate(made)]
        positive, similarity = same(texts), F.normalize(model.text(texts).float(), dim=1) @ vectors.float().T
        for way, matrix in (("text→video", similarity), ("video→text", similarity.T)):
            right = (ranks(matrix, positive) == 0).numpy()
            scores[f"{kind} {way} R@1"] = proportion(f"{kind} {way} R@1", right)
    return scores


def ablation() -> "Ablation":
    """Compare training on clips with training on images."""
    from percept.train.ablation import Ablation

    return Ablation(name="pe/video_captions", points=Comparison().points(), evaluate=evaluate)


def tiny() -> "Ablation":
    """Return the same with runs of seconds, to try it."""
    from percept.train.ablation import Ablation

    settings = replace(Comparison().settings, steps=2, batch=4, warmup=1, log_every=1)
    small = Comparison(world=WorldData(pairs=64), settings=settings)
    return Ablation(name="pe/video_captions --tiny", points=small.points(), evaluate=partial(evaluate, count=4))
