"""excl/nano: find when in a clip a sentence is true, on the frozen features of nano.

    percept train excl/nano --out finder
    percept search "the red cup falls from above" --moments --localizer finder

Clips are generated and their features computed once. `benchmarks/moments.py` trains one model per set of clips with these settings, for 240
steps each (10 to 11 s of processor time on one core), and measures it; this recipe trains one model for all sets. The method is
`percept.methods.video.excl`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from torch import nn

import percept
from percept.core import dist
from percept.core.errors import PerceptError, unknown_name
from percept.core.machine import pick_device
from percept.methods.saved import save_method
from percept.methods.video.excl import ExCL
from percept.recipes.excl_data import Features, MomentSource, features_of, joined
from percept.train.experiment import Experiment, Placement, Settings
from percept.world.clips.queries import KINDS


@dataclass(frozen=True, kw_only=True)
class Config:
    """Complete configuration of a run."""

    base: str = "nano"
    """Encoder whose features are used: a name or a folder."""
    kinds: tuple[str, ...] = KINDS
    """Sets of clips to train on, see `percept.world.clips.queries`."""
    clips: int = 360
    """Clips of each set."""
    method: ExCL.Config = field(default_factory=ExCL.Config)
    settings: Settings = field(
        default_factory=lambda: Settings(
            steps=720, batch=32, learning_rate=3e-3, warmup=20, weight_decay=0.01, betas=(0.9, 0.999), dtype="float32"
        )
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "kinds", tuple(self.kinds))
        if not self.kinds or self.clips < 1:
            raise PerceptError(
                f"kinds={self.kinds} and clips={self.clips} give no clips. Name at least one kind and one clip."
            )
        for kind in self.kinds:
            if kind not in KINDS:
                raise unknown_name("kind of clips", kind, KINDS)


def recipe(config: Config | None = None, *, command: str = "percept train excl/nano") -> Experiment:
    """Train a localiser of moments on frozen features. Clips are generated first, and their features are cached."""
    config = config or Config()
    pick_device(config.settings.device)

    @cache
    def features() -> Features:
        encoder = percept.load(config.base)
        read = lambda: [features_of(encoder, config.method, kind, config.clips) for kind in config.kinds]  # noqa: E731
        dist.on_first(lambda: len(read()))
        return joined(read())

    def source(place: Placement) -> MomentSource:
        return MomentSource(features(), batch=config.settings.batch, seed=config.settings.seed)

    def task(place: Placement) -> ExCL:
        method = ExCL(config.method, percept.load(config.base, device="cpu", train=True))
        method.scale_to(features().frames)
        return method

    def save(out: Path, trained: nn.Module, totals: Mapping[str, Any]) -> None:
        save_method(out, trained, base=config.base)

    return Experiment(
        name="excl/nano", config=config, settings=config.settings, task=task, source=source, save=save
    )  # fmt: skip


def tiny() -> Config:
    """Return a configuration that runs in seconds, for tests and for trying the pipeline."""
    small = Settings(steps=4, batch=4, warmup=1, log_every=2, dtype="float32")
    return Config(
        kinds=("albums",), clips=2, method=ExCL.Config(hidden=16, grid=1, image_size=32), settings=small
    )  # fmt: skip
