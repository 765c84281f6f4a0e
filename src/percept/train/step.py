"""One step of training: the forward and backward pass, in parts if wanted, and the update."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from percept.core import dist
from percept.core.errors import PerceptError
from percept.core.report import notice
from percept.core.seed import derive
from percept.data.batch import Batch
from percept.data.source import share
from percept.optim.master import MasterWeights
from percept.optim.schedule import warmup_cosine
from percept.train.experiment import Settings
from percept.train.meters import Meter

NAMED = 3
"""Parameters with gradients that are not finite, named in a message."""


@dataclass(frozen=True, kw_only=True)
class Stepper:
    """Takes steps of one run."""

    task: nn.Module
    optimiser: MasterWeights
    settings: Settings
    meter: Meter

    def take(self, step: int, batch: Batch) -> dict[str, float] | None:
        """Take step `step`, counted from 0, and return its scalars; None if loss or gradient was not finite and it was left out."""
        settings = self.settings
        factor = warmup_cosine(
            step, warmup=settings.warmup, hold=settings.hold, steps=settings.steps, floor=settings.floor
        )
        names = ("step", step) if dist.rank() == 0 else ("step", step, dist.rank())
        torch.manual_seed(derive(settings.seed, *names))  # what is drawn in a step depends on its number alone
        values = self._gradients(batch)
        norm = self.optimiser.collect()
        figures = dist.mean(torch.stack([value.detach().to(norm) for value in values.values()]))
        scalars = dict(zip(values, figures.tolist(), strict=True)) | {"gradient_norm": float(norm)}
        if not (math.isfinite(scalars["loss"]) and math.isfinite(scalars["gradient_norm"])):
            broken = self._not_finite()
            self.optimiser.clear()
            if dist.rank() == 0:
                where = f", not finite in {broken}" if broken else ""
                notice(
                    f"step {step + 1}: loss {scalars['loss']}, gradient norm {scalars['gradient_norm']}{where}; left out"
                )
            return None
        self.optimiser.step(factor, norm=norm, clip=settings.clip)
        return scalars | {"learning_rate": settings.learning_rate * factor}

    def finite(self, batch: Batch) -> bool:
        """Return True if the loss of a batch is finite, in all processes."""
        with torch.no_grad():
            loss = self.task(batch)["loss"]
        return math.isfinite(float(dist.mean(loss.float()[None])))

    def _gradients(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the gradients of a batch, part by part, and return the mean of what the task returned."""
        count, compiled = self.settings.accumulate, self.settings.compile
        if count == 1:
            return self.meter.train(self.task, batch, compiled=compiled)
        totals: dict[str, Tensor] = {}
        for place in range(count):
            part = batch.rows(share(len(batch), place, count))
            weight = len(part) / len(batch)
            for name, value in self.meter.train(self.task, part, weight, compiled=compiled).items():
                totals[name] = totals.get(name, 0) + weight * value.detach()
        return totals

    def _not_finite(self) -> str:
        """Return the first parameters whose gradients are not finite."""
        found = [
            name
            for name, (_, master) in self.optimiser.pairs.items()
            if master.grad is not None and not bool(master.grad.isfinite().all())
        ]
        more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
        return ", ".join(found[:NAMED]) + more


def check_batch(settings: Settings, world_size: int) -> None:
    """Check that a batch divides among processes and into parts.

    Raises:
        PerceptError: it does not.
    """
    if settings.batch % world_size:
        raise PerceptError(
            f"a batch of {settings.batch} samples does not divide into {world_size} equal shares. "
            "Change settings.batch or the number of processes."
        )
    if settings.batch // world_size < settings.accumulate:
        raise PerceptError(
            f"accumulate={settings.accumulate} is more than the {settings.batch // world_size} samples of a process. "
            "Give at most that many."
        )


def check_parts(task: nn.Module, settings: Settings) -> None:
    """Check that parts of a batch may be computed apart, with `accumulate`.

    Raises:
        PerceptError: they may not.
    """
    if settings.accumulate > 1 and not getattr(task, "accumulates", False):
        raise PerceptError(
            f"accumulate={settings.accumulate} would change the loss of {type(task).__name__}, which is not a mean over samples. "
            "Set accumulate to 1; contrastive tasks compute a batch in parts by their own options micro_tokens and recompute."
        )
