"""pe/figure2: the ablation of the Perception Encoder's recipe in miniature, on the generated world, every point with equal operations.

    percept ablate pe/figure2 --seeds 3

Figure 2 of Bolya et al. 2025, arXiv:2504.13181, adds the steps in the same order to a ViT-L trained on 12 to 24 billion samples, where the
cost grows to 1.2 times that of the first point. Here the model is `pico`, the first point sees 307,200 windows around
single things, and the steps of every other point are chosen so that its run costs as many operations. All points begin with nano's trained
text tower, because contrast alone is slow at this size: with it the first point reached 6.5 % of 200 images (chance 1 %), and with a
tenth of the samples (25,600 and 32,000, AdamW at 1e-3 and 2e-3) it stayed at chance.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import percept
from percept.eval.statistics import Score, mean_of_groups, proportion
from percept.recipes import pe
from percept.recipes.pe_cost import at_budget, training_operations
from percept.recipes.pe_report import world_right
from percept.recipes.pe_sizes import POINTS
from percept.train.experiment import Experiment, Settings
from percept.world import STYLES
from percept.world.cache import WorldData

if TYPE_CHECKING:
    from percept.train.ablation import Ablation

IMAGES = 1_000
"""Test images of each style."""


def base() -> pe.Config:
    """Return the first point."""
    return pe.Config(
        size="pico",
        point="vanilla",
        shown="regions",
        text_from="nano",
        world=WorldData(pairs=6_000, region_weights=(0.2, 0.4, 0.4)),
        settings=Settings(steps=1_200, batch=256, learning_rate=1e-3, warmup=60, log_every=50),
    )


@dataclass(frozen=True, kw_only=True)
class Figure:
    """The points of the figure."""

    first: pe.Config = field(default_factory=base)

    def at(self, point: str) -> pe.Config:
        """Return a point at the budget of the first one."""
        return at_budget(replace(self.first, point=point), training_operations(self.first))  # type: ignore[arg-type]

    def experiment(self, point: str, seed: int) -> Experiment:
        """Return a run of a point."""
        config = self.at(point)
        return pe.recipe(
            replace(config, settings=replace(config.settings, seed=seed)), command="percept ablate pe/figure2"
        )

    def points(self) -> dict[str, Callable[[int], Experiment]]:
        """Return all points in order."""
        return {point: partial(self.experiment, point) for point in POINTS}


def evaluate(folder: Path, *, images: int = IMAGES) -> Mapping[str, Score]:
    """Measure the zero-shot accuracy of a trained model, and its mean over the six styles, on the evaluation split."""
    right = world_right(percept.load(folder), images * len(STYLES))
    return {
        "zero-shot": proportion("zero-shot", right["plain"]),
        "robustness": mean_of_groups("robustness", list(right.values())),
    }


def ablation() -> "Ablation":
    """Compare all points of the recipe at equal operations."""
    from percept.train.ablation import Ablation

    return Ablation(name="pe/figure2", points=Figure().points(), evaluate=evaluate)


def tiny() -> "Ablation":
    """Return the same with runs of seconds, to try it."""
    from percept.train.ablation import Ablation

    settings = replace(base().settings, steps=8, batch=8, warmup=2, log_every=4)
    first = replace(base(), world=replace(base().world, pairs=64), settings=settings)
    return Ablation(name="pe/figure2 --tiny", points=Figure(first=first).points(), evaluate=partial(evaluate, images=5))
