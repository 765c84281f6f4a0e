"""Train an adaptation method on its shots: the schedule and batches of the prompt-learning family, epoch by epoch."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Tensor

from percept.core.errors import PerceptError
from percept.core.seed import derive
from percept.data.batch import Batch
from percept.fast import adopt
from percept.methods.adaptation.contract import Adaptation, Shots, Training, Views
from percept.optim.rules import parameter_groups
from percept.optim.schedule import constant_then_cosine

Progress: TypeAlias = Callable[[range], Iterable[int]]
"""Yields the epochs and shows how many are done."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a training did."""

    steps: int
    seconds: float
    """On the clock, with the preparation."""
    processor: float
    """Processor seconds of the steps, without the preparation; unlike `seconds` they hardly depend on what else a machine does."""
    trainable: int
    """Number of trained values."""
    losses: dict[str, float]
    """Mean of each loss over the last epoch."""


def steps_of(images: int, batch: int) -> int:
    """Return the steps of an epoch: a last batch with fewer images is left out, unless it is the only one."""
    return max(1, images // batch)


def with_steps(training: Training, images: int, steps: int) -> Training:
    """Return a training of about so many steps: the nearest number of whole epochs, at least one, of which at most half warm up.

    Args:
        training: its batch, rates and schedule are kept; one without epochs is returned as it is.
        images: that are trained on.

    >>> with_steps(Training(epochs=200, batch=32), 96, 300).epochs, with_steps(Training(epochs=5, batch=4), 96, 300).epochs
    (100, 12)
    """
    if not training.epochs:
        return training
    epochs = max(1, round(steps / steps_of(images, training.batch)))
    return replace(training, epochs=epochs, warmup=min(training.warmup, epochs // 2))


def fit(method: Adaptation, shots: Shots, training: Training, *, seed: int, progress: Progress = iter) -> Trained:
    """Prepare and train a method, then put it in evaluation mode. The last step is kept; nothing is chosen on other images.

    Args:
        method: its classes are those of the shots.
        seed: of the order of images and the choice of crops.
        progress: yields the epochs.

    Raises:
        PerceptError: the towers are not stored in float32.
    """
    assert method.names == shots.names
    check_precision(method)
    start, method.epochs, method.seed = time.perf_counter(), training.epochs, seed
    method.prepare(shots)
    method.check_trainable()
    adopt(method, pack=False)  # towers that were copied, and the method's own layers
    rounds, means = Rounds(shots, training, method, seed), {}
    optimiser = optimiser_of(method, training) if training.epochs and method.declared() else None
    rates = [group["lr"] for group in optimiser.param_groups] if optimiser else []
    busy = time.process_time()
    for epoch in progress(range(training.epochs if optimiser else 0)):
        assert optimiser is not None
        method.train()
        method.on_epoch(epoch)
        for group, rate in zip(optimiser.param_groups, rates, strict=True):
            group["lr"] = constant_then_cosine(
                epoch, rate=rate, epochs=training.epochs, warmup=training.warmup, warmup_rate=training.warmup_rate
            )
        means = _epoch(method, rounds, epoch, optimiser)
    busy = time.process_time() - busy
    if optimiser is not None:
        method.finish()
    method.eval()
    return Trained(
        steps=rounds.steps,
        seconds=time.perf_counter() - start,
        processor=busy,
        trainable=sum(method.trainable().values()),
        losses=means,
    )


def _epoch(method: Adaptation, rounds: "Rounds", epoch: int, optimiser: torch.optim.Optimizer) -> dict[str, float]:
    sums: dict[str, float] = {}
    count = 0
    for batch in rounds.epoch(epoch):
        values = method(batch)
        optimiser.zero_grad()
        values["loss"].backward()
        method.after_backward()
        optimiser.step()
        method.after_step(rounds.steps)
        rounds.steps += 1
        count += 1
        for name, value in values.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach())
    return {name: value / max(1, count) for name, value in sums.items()}


def fit_batches(
    method: Adaptation, training: Training, batches: Callable[[int], Iterable[Batch]], told: Callable[[int, float], None] = lambda *_: None
) -> None:  # fmt: skip
    """Train a method that has been prepared on batches of its own kind, then put it in evaluation mode; its hooks are not called.

    Args:
        method: `method(batch)["loss"]` is minimised.
        batches: returns the batches of an epoch, at least one.
        told: called with the epoch and its mean loss.

    Raises:
        PerceptError: the towers are not stored in float32.
    """
    check_precision(method)
    method.check_trainable()
    optimiser = optimiser_of(method, training)
    for epoch in range(training.epochs):
        rate = constant_then_cosine(
            epoch, rate=training.rate, epochs=training.epochs, warmup=training.warmup, warmup_rate=training.warmup_rate
        )
        for group in optimiser.param_groups:
            group["lr"] = rate
        method.train()
        losses = []
        for batch in batches(epoch):
            loss = method(batch)["loss"]
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(float(loss.detach()))
        told(epoch, sum(losses) / len(losses))
    method.eval()


def check_precision(method: Adaptation) -> None:
    """Raise a PerceptError if the towers are not stored in float32, in which all methods train."""
    dtype = method.base.text.positions.dtype
    if dtype != torch.float32:
        name = method.base.name
        raise PerceptError(
            f"{name} is stored in {str(dtype).removeprefix('torch.')}, but methods train in float32. "
            f"Open it with percept.load({name!r}, dtype='float32')."
        )


def optimiser_of(method: Adaptation, training: Training) -> torch.optim.Optimizer:
    """Return the optimiser of all trainable parameters; biases, scales and what a method declares do not decay."""
    groups = parameter_groups(method, method.rules, rate=training.rate, weight_decay=training.weight_decay)
    if training.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=training.rate, momentum=training.momentum)
    return torch.optim.AdamW(groups, lr=training.rate, betas=training.betas)


class Rounds:
    """The batches of every epoch, a pure function of the seed and the epoch."""

    def __init__(self, shots: Shots, training: Training, method: Adaptation, seed: int) -> None:
        self.shots, self.training, self.seed = shots, training, seed
        self.images, self.second = method.reads == "images", method.second_view
        self.steps = 0
        """Steps that were taken so far."""

    def epoch(self, epoch: int) -> Iterator[Views]:
        """Yield the batches of an epoch in random order."""
        rng = torch.Generator().manual_seed(derive(self.seed, "epoch", epoch))
        order, size = torch.randperm(len(self.shots), generator=rng), self.training.batch
        for place, rows in enumerate(order.split(size)[: steps_of(len(order), size)]):
            yield self.batch(rows, derive(self.seed, "batch", epoch, place), rng)

    def batch(self, rows: Tensor, seed: int, rng: torch.Generator) -> Views:
        """Return the views of some images."""
        fields: dict[str, Tensor | None] = {"vector": self._vectors(rows, rng)}
        if self.images:
            fields["image"] = self._pixels(rows.tolist(), seed)
        if self.second:
            fields["other_vector"] = self._vectors(rows, rng)
            fields["other_image"] = self._pixels(rows.tolist(), derive(seed, "second")) if self.images else None
        return Views(label=self.shots.label[rows], row=rows.to(self.shots.label.device), **fields)  # type: ignore[arg-type]

    def _vectors(self, rows: Tensor, rng: torch.Generator) -> Tensor:
        views = len(self.shots.vectors) if self.training.crops else 1
        if views == 1:
            return self.shots.vectors[0, rows]
        chosen = torch.randint(1, views, (len(rows),), generator=rng)
        return self.shots.vectors[chosen, rows]

    def _pixels(self, rows: Sequence[int], seed: int) -> Tensor:
        assert self.shots.pixels is not None
        return self.shots.pixels(rows, seed if self.training.crops else None)
