"""A training run of a second: a small CLIP on random images and texts, with dropped branches."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from percept.core.seed import derive, seed_everything
from percept.data.batch import ImageText
from percept.data.source import share
from percept.methods.pretraining.contrastive import Contrastive
from percept.models.clip import CLIP
from percept.models.config import ClipConfig
from percept.train import Experiment, Settings
from tests.models.small import END, START, TEXT, VISION

SETTINGS = Settings(steps=8, batch=4, warmup=2, log_every=1, dtype="bfloat16", device="cpu")


@dataclass(frozen=True, kw_only=True)
class Config:
    settings: Settings = SETTINGS
    drop_path: float = 0.3


class RandomPairs:
    """Keeps the contract of a source: the global batch of a step depends on its number alone."""

    def __init__(self, size: int = 4, fails_at: int | None = None) -> None:
        self.size, self.fails_at = size, fails_at

    def batch(self, step: int, *, rank: int = 0, world_size: int = 1) -> ImageText:
        if step == self.fails_at:
            raise OSError("the disk is gone")
        generator = torch.Generator().manual_seed(derive(0, "batch", step))
        ids = torch.randint(1, START, (self.size, TEXT.context), generator=generator)
        ids[:, 0], ids[:, -1] = START, END
        batch = ImageText(image=torch.randn(self.size, 3, 16, 16, generator=generator), tokens=ids)
        return batch.rows(share(self.size, rank, world_size))


class Hooked(Contrastive):
    """Calls `before` with the number of the call, and may spoil the loss."""

    before: Callable[[int], None] | None = None
    spoil: Callable[[int], bool] | None = None
    calls = 0

    def forward(self, batch: ImageText) -> dict[str, Tensor]:
        values = super().forward(batch)
        self.calls += 1
        if self.before is not None:
            self.before(self.calls)
        if self.spoil is not None and self.spoil(self.calls):
            values["loss"] = values["loss"] * float("nan")
        return values


@dataclass(frozen=True, kw_only=True)
class Trial(Experiment):
    """An experiment whose task is at hand; a real one builds it when training starts."""

    model: Hooked


def experiment(config: Config | None = None, source: Any = None, save: Any = None, **changes: Any) -> Trial:
    config = config or Config(settings=replace(SETTINGS, **changes))
    seed_everything(config.settings.seed)
    model = Hooked(Hooked.Config(), CLIP(ClipConfig(vision=replace(VISION, drop_path=config.drop_path), text=TEXT)))
    return trial(model, config, source, save)


def trial(model: Hooked, config: Config, source: Any = None, save: Any = None) -> Trial:
    return Trial(
        name="random",
        settings=config.settings,
        model=model,
        task=lambda placement: model,
        source=lambda placement: source or RandomPairs(config.settings.batch),
        save=save or (lambda folder, task, totals: None),
        config=config,
    )


def metrics(folder: Path) -> list[dict[str, float]]:
    """What was logged, without what depends on the clock."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    speed = ("samples_per_second", "operations_per_second", "share_of_peak")
    timed = ("seconds", *speed, "memory", "data_wait_seconds")
    return [{name: value for name, value in row.items() if name not in timed} for row in rows]
