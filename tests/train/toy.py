"""A run of milliseconds: linear regression, whose loss is a mean over samples."""

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from percept.core.io import save_tensors, write_json
from percept.core.seed import derive
from percept.data.batch import Batch
from percept.data.source import share
from percept.eval.statistics import Score
from percept.train import Experiment, Settings
from percept.train.ablation import Ablation
from percept.train.chain import Chain

SETTINGS = Settings(
    steps=24, batch=8, warmup=0, hold=24, log_every=8, learning_rate=0.05, dtype="float32", device="cpu"
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Points(Batch):
    x: Float[Tensor, "b w"]
    y: Float[Tensor, "b 1"]


@dataclass(frozen=True, kw_only=True)
class Config:
    settings: Settings = field(default_factory=lambda: SETTINGS)
    width: int = 4
    """Numbers of a sample."""
    noise: float = 0.1
    """Standard deviation of the targets around the line."""


class Line:
    """Points near a fixed plane."""

    def __init__(self, config: Config, before: Callable[[int], None] = lambda step: None) -> None:
        self.config, self.before = config, before

    def batch(self, step: int, *, rank: int = 0, world_size: int = 1) -> Points:
        self.before(step)
        generator = torch.Generator().manual_seed(derive(self.config.settings.seed, "points", step))
        count, width = self.config.settings.batch, self.config.width
        x = torch.randn(count, width, generator=generator)
        noise = self.config.noise * torch.randn(count, 1, generator=generator)
        whole = Points(x=x, y=x.sum(dim=1, keepdim=True) + noise)
        return whole.rows(share(count, rank, world_size))


class Regression(nn.Module):
    accumulates = True

    def __init__(self, config: Config, before: Callable[[int], None] = lambda call: None) -> None:
        super().__init__()
        self.layer, self.before, self.calls = nn.Linear(config.width, 1), before, 0

    def forward(self, batch: Points) -> dict[str, Tensor]:
        self.calls += 1
        self.before(self.calls)
        error = (self.layer(batch.x) - batch.y).square().mean()
        return {"loss": error, "half": error.detach() / 2}


def recipe(config: Config | None = None, *, command: str = "percept train toy", **hooks: Any) -> Experiment:
    """Fit a plane."""
    config = config or Config()

    def save(out: Path, task: nn.Module, totals: Mapping[str, Any]) -> None:
        save_tensors(out / "model.safetensors", task.state_dict())
        write_json(out / "config.json", {"kind": "toy", **totals})

    return Experiment(
        name="toy",
        config=config,
        settings=config.settings,
        task=lambda place: Regression(config, hooks.get("task", lambda call: None)),
        source=lambda place: Line(config, hooks.get("source", lambda step: None)),
        save=save,
        optimiser=hooks.get("optimiser"),
    )


PRESS: list[int] = []
"""Signals that the next runs of `stopped` get in their third step."""


def stopped(config: Config | None = None, *, command: str = "percept train stopped") -> Experiment:
    """Fit a plane, with an interruption."""
    return recipe(config, task=lambda call: signal.raise_signal(PRESS.pop()) if call == 3 and PRESS else None)


def chained(config: Config | None = None, *, command: str = "percept train chained") -> Chain:
    """Fit a plane twice."""
    config = config or Config()
    return Chain(name="chained", config=config, parts=tuple((name, lambda before: recipe(config)) for name in "ab"))


def error_of(folder: Path) -> dict[str, Score]:
    """Measure how far the weights of a run are from the plane."""
    from percept.core.io import load_tensors

    error = float((load_tensors(folder / "model.safetensors")["layer.weight"] - 1).abs().mean())
    return {"error": Score(name="error", value=error, unit="m", better="less", n=4, low=error, high=error)}


def ablation(**hooks: Any) -> Ablation:
    """Compare two learning rates."""

    def point(rate: float) -> Callable[[int], Experiment]:
        return lambda seed: recipe(Config(settings=replace(SETTINGS, learning_rate=rate, seed=seed)), **hooks)

    return Ablation(name="toy", points={"fast": point(0.05), "slow": point(0.001)}, evaluate=error_of)
