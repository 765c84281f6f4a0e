"""What a recipe hands to the loop."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import nn

from percept.core.contracts import Batch
from percept.core.errors import PerceptError, unknown_name
from percept.optim.groups import OPTIMISERS

DTYPES = ("auto", "float32", "bfloat16")


@runtime_checkable
class Source(Protocol):
    """Training data: the batch of a step depends on its number alone, so that a resumed run sees what it would have seen."""

    def batch(self, step: int) -> Batch:
        """Return the batch of a step."""
        ...


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a person changes between runs of a recipe."""

    steps: int
    """Steps of the whole run."""
    batch: int
    """Samples per step."""
    seed: int = 0
    """Of the first weights, of the order of the samples, and of what is drawn in a step."""
    optimiser: str = "adamw"
    """adamw, or muon: Muon for the matrices between the first and the last layer, AdamW for everything else."""
    learning_rate: float = 1e-3
    """The highest, between warmup and the fall at the end."""
    warmup: int = 200
    """Steps of linear rise of the learning rate."""
    hold: int = 0
    """Steps after them at the full learning rate; half a cosine to 0 follows."""
    weight_decay: float = 0.05
    """Of matrices, times the learning rate; vectors, scalars and embeddings do not decay."""
    betas: tuple[float, float] = (0.9, 0.95)
    """How much AdamW keeps of the running means of gradients and of their squares."""
    clip: float = 1.0
    """Largest gradient norm."""
    micro_tokens: int | None = None
    """Tokens the towers see at once; smaller fits the caches of a CPU better. The loss always sees the whole batch. None:
    as the recipe chooses for the device."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""
    dtype: str = "auto"
    """Type of the weights while training, with float32 masters: auto, float32 or bfloat16."""
    log_every: int = 20
    """Steps from one line of the log to the next."""
    checkpoint_every: float = 5.0
    """Minutes from one checkpoint to the next."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "log_every"):
            if getattr(self, name) < 1:
                raise PerceptError(f"{name}={getattr(self, name)}; it must be at least 1")
        if self.micro_tokens is not None and self.micro_tokens < 1:
            raise PerceptError(f"micro_tokens={self.micro_tokens}; it must be at least 1, or None for all at once")
        if self.dtype not in DTYPES:
            raise unknown_name("dtype of weights in training", self.dtype, DTYPES)
        if self.optimiser not in OPTIMISERS:
            raise unknown_name("optimiser", self.optimiser, OPTIMISERS)
        for name in ("learning_rate", "clip"):
            if not 0 < getattr(self, name) < math.inf:
                raise PerceptError(f"{name}={getattr(self, name)}; it must be above 0 and finite")
        for name in ("warmup", "hold", "weight_decay", "checkpoint_every"):
            if not 0 <= getattr(self, name) < math.inf:
                raise PerceptError(f"{name}={getattr(self, name)}; it must be 0 or more and finite")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise PerceptError(f"betas={self.betas}; each must be at least 0 and below 1")


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A training run, ready to start: `fit` runs it and `finish` writes the model folder."""

    name: str
    settings: Settings
    model: nn.Module
    """Fulfils `percept.core.contracts.Trainable`."""
    source: Source
    finish: Callable[[Path, dict[str, Any]], None]
    """Called with the run folder and the totals of the run."""
    config: Any
    """The resolved configuration, a dataclass; saved with the run."""
    stages: Mapping[int, str] = field(default_factory=dict)
    """First step of each part of the run, and what it is, for the person who watches."""
