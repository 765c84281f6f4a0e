"""Two runs on the same samples: the paired difference with its interval, and the samples on which they disagree."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from percept.core.errors import PerceptError
from percept.core.io import read_json
from percept.eval import record
from percept.eval.record import Records, Task
from percept.eval.resampling import group_numbers, resampled_means
from percept.eval.statistics import Better, mcnemar, paired_interval, without_unit
from percept.eval.table import WITHOUT_SAMPLES


@dataclass(frozen=True, kw_only=True)
class Run:
    """A report card and its samples."""

    path: Path
    card: Mapping[str, Any]
    records: Mapping[Task, Records]

    @classmethod
    def read(cls, path: Path) -> "Run":
        """Read a card that `percept eval --out` or `percept report` wrote, and the samples next to it.

        Raises:
            PerceptError: the file is not a report card, or has no samples next to it.
        """
        card = read_json(path)
        if not isinstance(card, dict) or not isinstance(card.get("model"), dict) or "scores" not in card:
            raise PerceptError(f"{path} is not a report card of an encoder. Give a file that percept eval --out wrote.")
        samples = record.samples_file(path)
        if not samples.is_file():
            raise PerceptError(
                f"{path} has no samples to compare: there is no {samples.name} next to it. percept eval and percept report write it for all "
                f"evaluations but {' and '.join(WITHOUT_SAMPLES)}. Keep both files together, or measure again."
            )
        return cls(path=path, card=card, records=record.read(samples))

    @property
    def name(self) -> str:
        """Name of the model."""
        return str(self.card["model"].get("name", self.path.stem))

    @property
    def without_samples(self) -> tuple[str, ...]:
        """Evaluations of which the card has scores, but no samples."""
        sampled = {evaluation for evaluation, _, _ in self.records}
        return tuple(
            dict.fromkeys(row["evaluation"] for row in self.card["scores"] if row["evaluation"] not in sampled)
        )

    @property
    def traits(self) -> tuple[str, ...]:
        """What distinguishes models of one name: preprocessing, number type, weights; empty where the card does not say."""
        model, facts = self.card["model"], self.card.get("facts", {})
        sizes = str(model.get("preprocessing", facts.get("preprocessing", ""))).partition(", hash")[0]
        return sizes, str(facts.get("device", "")), str(model.get("image", ""))[:8]


@dataclass(frozen=True, kw_only=True)
class OfTask:
    """What differences and disagreements share: the task they belong to."""

    evaluation: str
    data: str
    task: str
    better: Better = "more"
    """Whether more or less of the measure is better."""

    @property
    def place(self) -> str:
        """The evaluation, the set and the task, as printed; the set is named once, and ↓ means that less is better."""
        arrow = " ↓" if self.better == "less" else ""
        return f"{self.evaluation}: {self.data}, {self.task.removeprefix(f'{self.data} ')}{arrow}"


@dataclass(frozen=True, kw_only=True)
class Difference(OfTask):
    """The difference of two runs in one task, B minus A."""

    n: int
    a: float
    """Mean of run A."""
    b: float
    difference: float
    low: float
    """Lower end of the 95 % interval of `difference`."""
    high: float
    only_a: int = 0
    """Samples that only A has right, or on which A is better."""
    only_b: int = 0
    p: float | None = None
    """McNemar's exact test, two-sided; None for measures that are not right or wrong, and where samples belong together."""

    @property
    def shown(self) -> str:
        """The difference in percentage points, with its interval."""
        ends = " – ".join(f"{without_unit(end, 'share')}" for end in (self.low, self.high))
        return f"{100 * self.difference:+.1f} [{ends}]"


@dataclass(frozen=True, kw_only=True)
class Disagreement(OfTask):
    """A sample on which two runs disagree: one is right and the other wrong, or its measure differs."""

    key: str
    truth: Any
    a: Any
    """Answer of run A."""
    b: Any
    value_a: float
    value_b: float
    rank_a: int | None = None
    rank_b: int | None = None
    group: str | None = None

    @property
    def remarks(self) -> tuple[str, str]:
        """Text printed after the answers: the rank of the truth, or the measure; empty for right-or-wrong answers without ranks."""
        pairs = (self.rank_a, self.value_a), (self.rank_b, self.value_b)
        measured = any(value not in (0.0, 1.0) for _, value in pairs)
        a, b = (
            f" (rank {rank:,})" if rank is not None else f" ({value:.3f})" if measured else "" for rank, value in pairs
        )
        return a, b

    @property
    def gain(self) -> float:
        """Difference of the measure by which B is better than A."""
        return self.value_b - self.value_a if self.better == "more" else self.value_a - self.value_b


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two runs side by side."""

    a: Run
    b: Run
    differences: Sequence[Difference]
    disagreements: Sequence[Disagreement]
    """Those of each task together; the largest differences of rank or measure first."""
    left_out: Sequence[str] = ()
    """Tasks that one run has and the other has not."""

    @property
    def without_samples(self) -> list[str]:
        """Evaluations that cannot be compared because a run has no samples of them; if only one run lacks them, it is named."""
        a, b = self.a.without_samples, self.b.without_samples
        sides = {name: " and ".join(side for side, run in (("A", a), ("B", b)) if name in run) for name in (*a, *b)}
        return [name if side == "A and B" else f"{name} in {side}" for name, side in sides.items()]

    @property
    def names(self) -> tuple[str, str]:
        """The models of both runs, with the first thing that differs where their names are equal."""
        if self.a.name != self.b.name:
            return self.a.name, self.b.name
        pairs = zip(self.a.traits, self.b.traits, strict=True)
        left, right = next(((left, right) for left, right in pairs if left != right), ("", ""))
        return (f"{self.a.name} ({left})", f"{self.b.name} ({right})") if left and right else (self.a.name, self.b.name)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for json."""
        runs = {
            side: {"file": str(run.path), "model": dict(run.card["model"]), "command": run.card.get("command", "")}
            for side, run in (("a", self.a), ("b", self.b))
        }
        return {
            **runs,
            "differences": [asdict(each) for each in self.differences],
            "disagreements": [asdict(each) for each in self.disagreements],
            "left out": list(self.left_out),
            "without samples": self.without_samples,
        }


def compare(a: Path, b: Path, *, seed: int = 0) -> Comparison:
    """Compare two runs, task by task.

    Args:
        a: report card of the first run.
        b: report card of the second; differences are B minus A.
        seed: of the bootstrap.

    Raises:
        PerceptError: a file is missing, the runs share no task, or they measured different samples.
    """
    first, second = Run.read(a), Run.read(b)
    shared = [task for task in first.records if task in second.records]
    if not shared:
        raise PerceptError(
            f"{a} has {_tasks(first)}, {b} has {_tasks(second)}. Run the same evaluation on the same data with both models."
        )
    _check_same_data(first, second)
    for task in shared:
        _check_same_samples(task, first.records[task], second.records[task])
    differences = [_of_task(task, first.records[task], second.records[task], seed) for task in shared]
    disagreements = [each for task in shared for each in disagreeing(task, first.records[task], second.records[task])]
    others = (first.records.keys() | second.records.keys()) - set(shared)
    return Comparison(
        a=first, b=second, differences=differences, disagreements=disagreements,
        left_out=sorted(" / ".join(task) for task in others),
    )  # fmt: skip


def _of_task(task: Task, a: Records, b: Records, seed: int) -> Difference:
    """Return the difference of a task; where less is better, the counts of samples are those on which each run is better."""
    found = difference(task, a, b, seed=seed)
    return found if a.better == "more" else replace(found, better=a.better, only_a=found.only_b, only_b=found.only_a)


def _tasks(run: Run) -> str:
    names = [" / ".join(task) for task in run.records]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "") or "no samples"


def _check_same_data(a: Run, b: Run) -> None:
    """Check that sets of equal names have equal content.

    Raises:
        PerceptError: they have not.
    """
    left, right = ({(each["evaluation"], each["name"]): each for each in run.card.get("data", ())} for run in (a, b))
    for key in left.keys() & right.keys():
        if left[key]["hash"] != right[key]["hash"]:
            raise PerceptError(
                f"{a.path} and {b.path} measured different data: {key[1]} had {left[key]['samples']:,} samples of {left[key]['path']} in A, "
                f"{right[key]['samples']:,} of {right[key]['path']} in B, and their names, sizes, classes or truths differ. Run both on the same data."
            )


def _check_same_samples(task: Task, a: Records, b: Records) -> None:
    if list(a.keys) == list(b.keys) and list(a.truth) == list(b.truth):
        return
    common = len(set(a.keys) & set(b.keys))
    what = f"{common:,} are in both" if list(a.keys) != list(b.keys) else "the truth of some differs"
    raise PerceptError(
        f"the runs measured different samples in {' / '.join(task)}: {len(a):,} in A, {len(b):,} in B, {what}. Run both with the same "
        "data, options and seed."
    )


def difference(task: Task, a: Records, b: Records, *, seed: int = 0) -> Difference:
    """Return the mean difference of two runs on the same samples, B minus A, with a 95 % interval.

    Of right-or-wrong answers it is `paired_interval`, since a bootstrap is too narrow where few answers differ; else a paired bootstrap
    over samples, or over groups where these have several. Where right-or-wrong answers of groups all differ alike, a bootstrap has
    no width, and the interval is `paired_interval` for the number of groups.
    """
    delta: Float[np.ndarray, " n"] = b.value - a.value
    grouped = group_numbers(a.group) if a.group and len(set(a.group)) < len(a) else None
    binary = a.is_binary and b.is_binary
    only_a, only_b = int((delta < 0).sum()), int((delta > 0).sum())
    if binary and grouped is None:
        low, high = paired_interval(only_a, only_b, len(a))
    else:
        low, high = np.quantile(resampled_means(delta, grouped, seed=seed), (0.025, 0.975))
    if binary and grouped is not None and low == high:
        units = int(grouped.max()) + 1
        low, high = paired_interval(units * max(0.0, -delta.mean()), units * max(0.0, delta.mean()), units)
    return Difference(
        evaluation=task[0], data=task[1], task=task[2], n=len(a), a=float(a.value.mean()), b=float(b.value.mean()),
        difference=float(delta.mean()), low=float(low), high=float(high), only_a=only_a, only_b=only_b,
        p=mcnemar(only_a, only_b) if binary and grouped is None else None,
    )  # fmt: skip


def disagreeing(task: Task, a: Records, b: Records) -> list[Disagreement]:
    """Return the samples whose outcomes differ, the largest differences first."""
    delta = np.abs(b.value - a.value)
    ranks = (
        [abs(left - right) for left, right in zip(a.rank, b.rank, strict=True)] if a.rank and b.rank else [0] * len(a)
    )
    rows = sorted(np.flatnonzero(delta > 0).tolist(), key=lambda row: (-delta[row], -ranks[row], row))
    return [
        Disagreement(
            evaluation=task[0], data=task[1], task=task[2], key=a.keys[row], truth=a.truth[row], a=a.prediction[row],
            b=b.prediction[row], value_a=float(a.value[row]), value_b=float(b.value[row]),
            rank_a=a.rank[row] if a.rank else None, rank_b=b.rank[row] if b.rank else None,
            group=a.group[row] if a.group else None, better=a.better,
        )
        for row in rows
    ]  # fmt: skip
