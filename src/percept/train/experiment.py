"""What a recipe hands to the loop: plain settings, and functions that build the rest when training starts."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from percept.core.errors import PerceptError, unknown_name
from percept.data.batch import Batch
from percept.data.source import Source
from percept.optim.build import Build, check_optimiser
from percept.optim.rules import Rules

DTYPES = ("auto", "float32", "bfloat16")


class Task(Protocol):
    """A module whose forward pass is the training step, so that hooks of DDP, FSDP2 and `torch.compile` apply to it.

    Optional attributes: `shown`, a tuple of the scalars shown on the terminal besides the loss; `accumulates`, True if the
    loss is a mean over samples, so that `Settings.accumulate` may compute a batch in parts. Scalars that the training doctor
    understands: `scale` (of logits), `image_cosine` and `text_cosine` (means over the pairs of a batch).
    """

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """Return {"loss": scalar, other scalars to log}."""
        ...


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where a process of a run computes."""

    device: torch.device
    rank: int = 0
    world_size: int = 1


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a person changes between runs of a recipe."""

    steps: int
    """Steps of the whole run."""
    batch: int
    """Samples per step, over all processes."""
    seed: int = 0
    """Seed of the initial weights, of the order of the samples and of random numbers within a step."""
    optimiser: str = "adamw"
    """adamw, lamb, lion, adafactor, or muon: Muon for the matrices between the first and the last layer, AdamW for everything else."""
    learning_rate: float = 1e-3
    """Learning rate after warmup and before the decay at the end."""
    warmup: int = 200
    """Steps over which the learning rate rises linearly."""
    hold: int = 0
    """Steps after warmup at the full learning rate; half a cosine to `floor` follows."""
    floor: float = 0.0
    """Learning rate at the end, as a share of the full one."""
    weight_decay: float = 0.05
    """Weight decay of matrices, times the learning rate; vectors, scalars and embeddings do not decay."""
    decay_all: bool = False
    """Let vectors, scalars and embeddings decay too, as PLM does."""
    betas: tuple[float, float] | None = None
    """Decay rates of the optimiser's running means. Default: 0.9 and 0.95; 0.9 and 0.99 for lion; adafactor takes none."""
    clip: float = 1.0
    """Largest gradient norm."""
    accumulate: int = 1
    """Parts of a batch that are computed one after another to save memory, where the loss is a mean over samples."""
    checkpointing: bool = False
    """Recompute the activations of blocks in the backward pass instead of storing them: less memory, more time."""
    compile: bool = False
    """Compile the blocks of towers and decoders with torch.compile."""
    shard: bool = False
    """Split weights, gradients and optimiser state among the processes (FSDP2) instead of keeping a copy in each."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""
    dtype: str = "auto"
    """Type of the weights while training, with float32 masters: auto, float32 or bfloat16."""
    log_every: int = 20
    """Steps between lines of the log."""
    checkpoint_every: float = 5.0
    """Minutes between checkpoints."""
    keep: int = 1
    """Latest checkpoints to keep."""
    keep_every: int = 0
    """Write a checkpoint every so many steps and keep it for good; 0 for none."""
    tensorboard: bool = False
    """Write the log for TensorBoard too."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "log_every", "accumulate", "keep"):
            if getattr(self, name) < 1:
                raise PerceptError(f"{name}={getattr(self, name)}; it must be at least 1")
        if self.dtype not in DTYPES:
            raise unknown_name("dtype of weights in training", self.dtype, DTYPES)
        check_optimiser(self.optimiser, self.betas, shard=self.shard)
        for name in ("learning_rate", "clip"):
            if not 0 < getattr(self, name) < math.inf:
                raise PerceptError(f"{name}={getattr(self, name)}; it must be above 0 and finite")
        for name in ("warmup", "hold", "weight_decay", "checkpoint_every", "keep_every"):
            if not 0 <= getattr(self, name) < math.inf:
                raise PerceptError(f"{name}={getattr(self, name)}; it must be 0 or more and finite")
        if not 0 <= self.floor <= 1:
            raise PerceptError(f"floor={self.floor}; it must be a share from 0 to 1")


@dataclass(frozen=True, kw_only=True)
class Every:
    """A function that is called regularly while training, such as an evaluation."""

    steps: int
    """Steps between calls; the last step of a run also calls it."""
    call: Callable[[nn.Module, int], Mapping[str, float] | None]
    """Gets the task and the number of steps taken, in every process; the scalars it returns on rank 0 are logged."""
    preserve: bool = False
    """The scalars measure abilities that training should not lose, more being better. It is also called before the first
    step, and the training doctor warns when a scalar falls."""
    samples: int = 0
    """Samples on which each scalar, a share of right answers, is measured: the training doctor does not warn of a fall within their
    95 % interval. 0 for scalars that are not shares."""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise PerceptError(f"steps={self.steps}; it must be at least 1")
        if self.samples < 0:
            raise PerceptError(f"samples={self.samples}; it must be 0 or more")


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A training run. Creating one costs nothing: `fit` builds the source and the task."""

    name: str
    config: Any
    """The resolved configuration, a dataclass; saved with the run."""
    settings: Settings
    task: Callable[[Placement], nn.Module]
    """Builds the task, see `Task`. Called once, after the random generators are seeded, and after `source`."""
    source: Callable[[Placement], Source]
    """Builds the source of training data."""
    save: Callable[[Path, nn.Module, dict[str, Any]], None]
    """Writes the finished model, on rank 0: gets the run folder, the trained task and the totals of the run."""
    rules: Rules = ()
    """Which parameters are frozen, and how fast the others learn and decay."""
    optimiser: Build | None = None
    """Builds the optimisers from parameter groups; `settings.optimiser` names them if None."""
    every: Sequence[Every] = ()
    """Evaluations and callbacks while training."""
    stages: Mapping[int, str] = field(default_factory=dict)
    """First step of each part of the run and its description, announced while training."""
