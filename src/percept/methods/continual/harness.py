"""Run continual methods over sequences of tasks: one row of accuracies after each task, and Transfer, Avg, Last and forgetting.

Zheng et al. 2023 (ZSCL), arXiv:2303.06628, section 5.1; the reference computes the same in mtil/results.ipynb.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from percept.core.errors import PerceptError
from percept.core.seed import derive
from percept.fast import adopt
from percept.methods.adaptation.few import Seen
from percept.methods.adaptation.texts import filled
from percept.methods.continual.contract import Continual, Schedule, Task, batch_rows
from percept.models.clip import CLIP
from percept.optim.rules import parameter_groups
from percept.optim.schedule import warmup_cosine

PROTOCOLS = ("task", "union", "seen")
"""Names among which an image is classified: those of its task (MTIL), those of all tasks (X-TAIL), or those of the tasks learned so far (class-incremental; images
of later tasks among all names). Their numbers cannot be compared."""
PART = 64
"""Images that are encoded together."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Matrix:
    """Accuracies over a sequence of T tasks, as shares."""

    after: Float[np.ndarray, "t t"]
    """Row j: accuracy on every task once task j is learned."""
    before: Float[np.ndarray, " t"]
    """Accuracy on every task of the model that nothing was taught to."""
    untouched: Float[np.ndarray, "t t"] | None = None
    """As `after`, of the model that nothing was taught to; None if every row is `before`."""

    @property
    def zero_shot(self) -> "Matrix":
        """The matrix of the model that nothing was taught to."""
        rows = np.tile(self.before, (len(self.before), 1)) if self.untouched is None else self.untouched
        return replace(self, after=rows, untouched=rows)

    @property
    def transfer(self) -> float:
        """Mean over tasks but the first of their accuracy before they are learned, averaged over the rows above."""
        return float(np.mean([self.after[:task, task].mean() for task in range(1, len(self.after))]))

    @property
    def average(self) -> float:
        """Mean over tasks of their accuracy after every task."""
        return float(self.after.mean())

    @property
    def incremental(self) -> float:
        """Mean over rows of the mean accuracy on the tasks learned so far; the average accuracy of class-incremental learning."""
        return float(np.mean([row[: task + 1].mean() for task, row in enumerate(self.after)]))

    @property
    def last(self) -> float:
        """Mean accuracy once all tasks are learned."""
        return float(self.after[-1].mean())

    @property
    def forgetting(self) -> float:
        """Mean over tasks but the last of the best accuracy minus the last one."""
        return float((self.after.max(axis=0) - self.after[-1])[:-1].mean())

    @property
    def backward(self) -> float:
        """Mean over tasks but the last of the last accuracy minus the one just after learning."""
        return float((self.after[-1] - self.after.diagonal())[:-1].mean())

    @property
    def zero_shot_transfer(self) -> float:
        """`transfer` of the model that nothing was taught to."""
        return float(self.before[1:].mean())

    def summary(self) -> dict[str, float]:
        """Return all numbers."""
        return {
            "transfer": self.transfer, "average": self.average, "incremental": self.incremental, "last": self.last, "forgetting": self.forgetting,
            "backward": self.backward, "zero-shot transfer": self.zero_shot_transfer, "zero-shot": float(self.before.mean()),
        }  # fmt: skip


def tasks_of(sets: Sequence[Seen], shots: int, seed: int) -> list[Task]:
    """Return one task per set with `shots` images of every class, or all of a class that has fewer.

    Raises:
        PerceptError: two sets have one name.
    """
    if len({seen.data.name for seen in sets}) < len(sets):
        raise PerceptError("two sets of the sequence have the same name. Give every set once.")
    tasks = []
    for seen in sets:
        drawn = seen.data.drawn(shots, seed, smaller=True)
        tasks.append(Task(name=seen.data.name, shots=seen.shots(drawn, "all", crops=0), seen=seen, drawn=drawn))
    return tasks


def learn(method: Continual, task: Task, schedule: Schedule, *, seed: int) -> dict[str, float]:
    """Teach a method one task, and return the mean losses of the last tenth of the steps."""
    method.steps = schedule.steps
    method.begin(task)
    adopt(method, pack=False)
    trained = [each for each in method.parameters() if each.requires_grad]
    texts, sums, counted = method.tokens(task.texts), {}, max(1, schedule.steps // 10)
    optimiser = torch.optim.AdamW(
        parameter_groups(method, method.rules, rate=schedule.rate, weight_decay=schedule.weight_decay),
        lr=schedule.rate,
        betas=schedule.betas,
    )
    rates = [group["lr"] for group in optimiser.param_groups]
    method.train()
    for step in range(schedule.steps):
        method.step = step
        factor = warmup_cosine(step, warmup=schedule.warmup, steps=schedule.steps)
        for group, rate in zip(optimiser.param_groups, rates, strict=True):
            group["lr"] = rate * factor
        rows = batch_rows(len(task.shots), schedule, seed, step)
        values = method(task.batch(rows, derive(seed, "crop", step) if schedule.crops else None, texts))
        optimiser.zero_grad()
        values["loss"].backward()
        optimiser.step()
        method.after_step(step)
        if step >= schedule.steps - counted:
            sums = {name: sums.get(name, 0.0) + float(value.detach()) / counted for name, value in values.items()}
    for each in trained:
        each.grad = None
    method.end(task)
    method.eval()
    return sums


@torch.no_grad()
def accuracies(clip: CLIP, tokens: Callable[[Sequence[str]], Tensor], tasks: Sequence[Task], protocol: str) -> Float[np.ndarray, " t"]:  # fmt: skip
    """Return the accuracy on the test images of every task; with the protocol "seen" all of these tasks are taken as learned.

    Raises:
        PerceptError: unknown protocol.
    """
    if protocol not in PROTOCOLS:
        raise PerceptError(f"unknown protocol {protocol!r}. Use one of {', '.join(PROTOCOLS)}.")
    found, union = [], _union(tasks)
    for task in tasks:
        pixels, label = task.tested
        device = next(clip.parameters()).device
        texts = task.texts if protocol == "task" else list(union.values())
        classes = clip.embed_text(tokens(texts))
        guess = torch.cat(
            [(clip.embed_image(part.to(device)) @ classes.T).argmax(dim=1).cpu() for part in pixels.split(PART)]
        )
        if protocol == "task":
            right = guess == label
        else:
            names = list(union)
            right = torch.tensor([names[a] == task.shots.names[b] for a, b in zip(guess, label, strict=True)])
        found.append(float(right.float().mean()))
    return np.array(found)


def _union(tasks: Sequence[Task]) -> dict[str, str]:
    """Return the names of all tasks with a text of each; a name of several tasks counts once, with the template of the first."""
    union: dict[str, str] = {}
    for task in tasks:
        for name, text in zip(task.shots.names, filled(task.shots.template, task.shots.names), strict=True):
            union.setdefault(name, text)
    return union


def row_after(method: Continual, tasks: Sequence[Task], number: int, protocol: str) -> Float[np.ndarray, " t"]:
    """Return the accuracy on every task once task `number` is learned."""
    row = accuracies(method.clip, method.tokens, tasks, protocol)
    if protocol == "seen":
        row[: number + 1] = accuracies(method.clip, method.tokens, tasks[: number + 1], protocol)
    return row


@contextmanager
def blended(clip: CLIP, start: Sequence[Tensor], share: float) -> Iterator[None]:
    """Replace the weights by share · weights + (1 - share) · start, and restore them at the end."""
    now = [each.detach().clone() for each in clip.parameters()]
    try:
        with torch.no_grad():
            for each, first in zip(clip.parameters(), start, strict=True):
                each.lerp_(first, 1 - share)
        yield
    finally:
        with torch.no_grad():
            for each, value in zip(clip.parameters(), now, strict=True):
                each.copy_(value)


def run(
    method: Continual,
    tasks: Sequence[Task],
    *,
    protocol: str = "task",
    schedule: Schedule | None = None,
    seed: int = 0,
    others: Sequence[Task] = (),
    blends: Sequence[float] = (),
    told: Callable[[str], Any] = lambda _: None,
) -> tuple[Matrix, dict[str, Any]]:
    """Teach a method all tasks in order, and measure it on all of them before the first and after each.

    Args:
        schedule: of each task; that of the method if None.
        seed: of the order of images and of crops.
        others: sets that are never learned, measured before and at the end, each among its own names.
        blends: shares of the trained weights in means with the initial ones (WiSE-FT), which are measured in the same way; training goes on
            from the trained weights. Only for methods that keep the parameters of the towers.
        told: receives a line after each task.

    Returns:
        the accuracies, and facts of the run; "blends" holds share → (accuracies, accuracies on the others).
    """
    schedule, start = schedule or type(method).schedule(), time.perf_counter()
    adopt(method, pack=False)
    method.eval()
    initial = [each.detach().clone() for each in method.clip.parameters()] if blends else []
    before, untouched = accuracies(method.clip, method.tokens, tasks, protocol), None
    if protocol == "seen":
        untouched = np.array([row_after(method, tasks, number, protocol) for number in range(len(tasks))])
    never, rows, mixed = _never(method, others), [], {share: [] for share in blends}
    taught = 0.0
    for number, task in enumerate(tasks):
        began = time.perf_counter()
        learn(method, task, schedule, seed=derive(seed, "task", number))
        taught += time.perf_counter() - began
        rows.append(row_after(method, tasks, number, protocol))
        for share, found in mixed.items():
            with blended(method.clip, initial, share):
                found.append(row_after(method, tasks, number, protocol))
        told(f"{task.name}: {' '.join(f'{100 * value:.0f}' for value in rows[-1])}")
    matrix = Matrix(after=np.array(rows), before=before, untouched=untouched)
    facts = {
        "protocol": protocol, "tasks": [task.name for task in tasks], "schedule": replace(schedule), "reads": list(method.reads),
        "never learned": paired(others, never, _never(method, others)), "kept bytes": method.kept(),
        "blends": {}, "seconds of training": round(taught, 1),
    }  # fmt: skip
    for share, found in mixed.items():
        with blended(method.clip, initial, share):
            facts["blends"][share] = (
                replace(matrix, after=np.array(found)),
                paired(others, never, _never(method, others)),
            )
    return matrix, {**facts, "seconds": round(time.perf_counter() - start, 1)}


def _never(method: Continual, others: Sequence[Task]) -> Float[np.ndarray, " k"]:
    return accuracies(method.clip, method.tokens, others, "task") if others else np.zeros(0)


def paired(tasks: Sequence[Task], before: Float[np.ndarray, " k"], after: Float[np.ndarray, " k"]) -> dict[str, list[float]]:  # fmt: skip
    """Return the accuracies before and after by the name of the set."""
    return {task.name: [float(one), float(two)] for task, one, two in zip(tasks, before, after, strict=True)}
