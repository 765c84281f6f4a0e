"""CoDyRA: low-rank updates everywhere, whose ranks earn their place, then become part of the weights.

Lu et al. 2024, arXiv:2412.01004. Reference: Artificer-AI-Lab/CoDyRA, loralib/codyra.py and models/codyra.py. Every linear layer of every block
of both towers has an update ΔW = Σ_i g_i b_i a_iᵀ, three of them in the joint layer of queries, keys and values. Training minimises

    CE of images among the classes of the task + CE of the class of each image among the images of the batch

where images of one class do not count as negatives of each other. In the second half of the steps a proximal step follows each optimiser step,

    g ← sign(g) max(|g| - κ, 0),    κ rising from 0 to κ_max in 50 equal stages

which makes the gates of ranks that the task does not need exactly 0. After the task ΔW is added to W and new updates begin, so the model has
the form of the one before it. No data, task number or statistic of an earlier task is kept.
"""

import math
import re
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from percept.core.errors import PerceptError
from percept.methods.adaptation.texts import Base
from percept.methods.continual.contract import CommonConfig, Continual, Schedule, Task, TaskBatch
from percept.models.clip import CLIP
from percept.optim.rules import Scale

STAGES = 50
"""Stages in which the threshold rises."""
Gates: TypeAlias = Literal["trained", "random", "one"]
GATES: tuple[Gates, ...] = ("trained", "random", "one")


class GatedLoRA(nn.Module):
    """y = W x + b + Σ_i g_i b_i (a_i · x), separately for equal parts of the outputs. Nothing changes before training, as b = 0."""

    def __init__(self, base: nn.Linear, *, rank: int, parts: int = 1, gates: Gates = "trained") -> None:
        """Wrap a layer.

        Args:
            rank: of the update of each part.
            parts: equal parts of the outputs, such as queries, keys and values.
            gates: trained from a normal distribution, random but not trained, or all 1, as in LoRA with its scale at 1.
        """
        super().__init__()
        self.base, self.parts = base.requires_grad_(False), parts
        like = {"dtype": base.weight.dtype, "device": base.weight.device}
        self.down = nn.Parameter(torch.empty(parts, rank, base.in_features, **like))
        self.up = nn.Parameter(torch.zeros(parts, base.out_features // parts, rank, **like))
        self.random = gates != "one"
        self.gate = nn.Parameter(torch.ones(parts, rank, **like), requires_grad=gates == "trained")
        self.restart()

    def restart(self) -> None:
        """Begin a new update."""
        nn.init.kaiming_uniform_(self.down.view(-1, self.down.shape[-1]), a=math.sqrt(5))
        nn.init.zeros_(self.up)
        if self.random:
            nn.init.normal_(self.gate)

    def forward(self, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:
        """Apply the layer and its update."""
        inner = torch.einsum("...i,pri->...pr", x, self.down) * self.gate
        return self.base(x) + torch.einsum("...pr,por->...po", inner, self.up).flatten(-2)

    @torch.no_grad()
    def shrink(self, by: float) -> None:
        """Take the proximal step of the absolute values of the gates."""
        self.gate.copy_(self.gate.sign() * (self.gate.abs() - by).clamp(min=0))

    @torch.no_grad()
    def update(self) -> Float[Tensor, "o i"]:
        """Return the update of the weight in float32 [ΔW]."""
        return torch.einsum("por,pr,pri->poi", self.up.float(), self.gate.float(), self.down.float()).flatten(0, 1)

    @torch.no_grad()
    def merged(self) -> Float[Tensor, "o i"]:
        """Return the weight with the update added."""
        return (self.base.weight.float() + self.update()).to(self.base.weight.dtype)

    @torch.no_grad()
    def merge(self) -> None:
        """Add the update to the weight, and begin a new one."""
        self.base.weight.copy_(self.merged())
        self.restart()


class CoDyRA(Continual):
    """Both towers with gated updates that are merged after each task."""

    rules = ((r"\.gate$", Scale(decay=0)),)

    @dataclass(frozen=True, kw_only=True)
    class Config(CommonConfig):
        """Defaults of the reference."""

        smoothing: float = 0.0
        """Label smoothing of images among classes; classes among images are never smoothed."""
        rank: int = 16
        """Largest rank of an update."""
        threshold: float = 0.005
        """Largest step towards 0 of a gate after an optimiser step [κ_max]; relative to the learning rate. 0 prunes nothing."""
        dense: float = 0.5
        """Share of the steps before the first proximal step."""
        gates: Gates = "trained"
        """trained, as published; random: drawn in the same way but fixed; one: plain LoRA of the same rank, merged after each task."""
        towers: tuple[str, ...] = ("vision", "text")
        """Towers that are updated."""
        layers: tuple[str, ...] = ("qkv", "out", "up", "down")
        """Linear layers of a block that are updated: of the attention and of the MLP."""

        def __post_init__(self) -> None:
            super().__post_init__()
            for name in ("towers", "layers"):
                object.__setattr__(self, name, tuple(getattr(self, name)))
            if self.rank < 1 or self.threshold < 0 or not 0 <= self.dense <= 1:
                raise PerceptError(
                    f"rank={self.rank}, threshold={self.threshold} and dense={self.dense}: rank must be at least 1, threshold at least 0 and dense a share."
                )
            if self.gates not in GATES:
                raise PerceptError(f"gates={self.gates!r} is unknown. Use one of {', '.join(GATES)}.")
            if not set(self.towers) <= {"vision", "text"} or not set(self.layers) <= {"qkv", "out", "up", "down"}:
                raise PerceptError(
                    f"towers={self.towers} and layers={self.layers}: towers are vision and text, layers qkv, out, up and down."
                )

    def __init__(self, config: Config, base: Base) -> None:
        super().__init__(config, base)
        self.clip.requires_grad_(False)
        self.history: list[dict[str, list[float]]] = []
        """Of each task: layer → active ranks of its parts, and the norm of the update."""
        for name, layer in list(self._layers()):
            parent, _, child = name.rpartition(".")
            parts = 3 if child == "qkv" else 1
            gated = GatedLoRA(layer, rank=config.rank, parts=parts, gates=config.gates)
            setattr(self.clip.get_submodule(parent), child, gated)

    def _layers(self) -> Iterator[tuple[str, nn.Linear]]:
        for tower in self.config.towers:
            for name, layer in self.clip.get_submodule(tower).named_modules():
                if re.fullmatch(r"blocks\.\d+\.(attention|mlp)\.(" + "|".join(self.config.layers) + ")", name):
                    yield f"{tower}.{name}", cast(nn.Linear, layer)

    @property
    def updates(self) -> dict[str, GatedLoRA]:
        """The updates by the name of their layer."""
        return {name: each for name, each in self.clip.named_modules() if isinstance(each, GatedLoRA)}

    def losses(self, batch: TaskBatch) -> dict[str, Tensor]:
        """Return the cross-entropies of images among classes and of classes among images."""
        logits = self.logits(batch)
        alike = batch.label[:, None] == batch.label[None, :]
        same = alike & ~torch.eye(len(alike), dtype=torch.bool, device=alike.device)
        columns = logits.T[batch.label].masked_fill(same, -torch.inf)
        target = torch.arange(len(columns), device=columns.device)
        return {
            "image_to_text": self.cross_entropy(logits, batch.label),
            "text_to_image": F.cross_entropy(columns, target),
        }

    def after_step(self, step: int) -> None:
        """Shrink the gates in the second part of a task."""
        if self.config.gates != "trained" or not (by := self.threshold_at(step)):
            return
        for update in self.updates.values():
            update.shrink(by)

    def threshold_at(self, step: int) -> float:
        """Return the threshold after a step [κ]: 0 in the dense part, then 50 equal stages up to the largest.

        >>> [round(float(CoDyRA.threshold_of(step, 100, 0.5, 0.005)), 4) for step in (0, 49, 50, 74, 99)]
        [0.0, 0.0, 0.0, 0.0024, 0.0049]
        """
        return self.threshold_of(step, self.steps, self.config.dense, self.config.threshold)

    @staticmethod
    def threshold_of(step: int, steps: int, dense: float, most: float) -> float:
        """Return the threshold after step `step` of `steps`."""
        first = round(dense * steps)
        if step < first or steps <= first:
            return 0.0
        return most * ((step - first) * STAGES // (steps - first)) / STAGES

    @staticmethod
    def ranks_by_chance(config: "CoDyRA.Config", steps: int) -> tuple[float, float]:
        """Return mean and standard deviation of the active ranks of an update whose gates get no gradient.

        Gates start from a normal distribution, so that those farther from 0 than the sum of all thresholds stay.

        >>> [round(value, 1) for value in CoDyRA.ranks_by_chance(CoDyRA.Config(), 500)]
        [8.6, 2.0]
        """
        total = sum(CoDyRA.threshold_of(step, steps, config.dense, config.threshold) for step in range(steps))
        share = math.erfc(total / math.sqrt(2))
        return config.rank * share, math.sqrt(config.rank * share * (1 - share))

    def end(self, task: Task) -> None:
        """Count the ranks, and make the updates part of the weights."""
        counts: dict[str, list[float]] = {}
        for name, update in self.updates.items():
            active = (update.gate != 0).sum(dim=1).float().tolist()
            counts[name] = [*active, float(update.update().norm())]
            update.merge()
        self.history.append(counts)

    @torch.no_grad()
    def merged(self) -> CLIP:
        """Return a copy of the towers with the updates in their weights: layers, parameters and cost are those of the model before."""
        clip = deepcopy(self.clip)
        for name, update in self.updates.items():
            parent, _, child = name.rpartition(".")
            layer = cast(GatedLoRA, clip.get_submodule(name)).base
            layer.weight.copy_(update.merged())
            setattr(clip.get_submodule(parent), child, layer)
        return clip

    @property
    def mean_rank(self) -> float:
        """Mean number of active ranks of an update over all tasks."""
        return sum(sum(row[:-1]) for task in self.history for row in task.values()) / max(
            1, sum(len(row) - 1 for task in self.history for row in task.values())
        )

    @classmethod
    def schedule(cls) -> Schedule:
        """Return 500 steps of AdamW with rate 0.0005 and no warm-up."""
        return Schedule(steps=500, rate=5e-4, warmup=0, betas=(0.9, 0.9999))

    @classmethod
    def tiny(cls) -> tuple["CoDyRA", TaskBatch]:
        """Return updates that are not zero, so that gradients reach all factors."""
        method, batch = super().tiny()
        with torch.no_grad():
            for update in method.updates.values():
                update.up.normal_(std=0.02)
        return method, batch

    @classmethod
    def tiny_config(cls) -> Config:
        """Return a low rank."""
        return cls.Config(rank=2)
