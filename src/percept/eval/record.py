"""What a model made of every single sample, stored next to the report card so that two runs can be compared sample by sample."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float

from percept.core.errors import PerceptError
from percept.core.io import replacing
from percept.eval.statistics import Better

SUFFIX = ".samples.jsonl"
"""Ending of the file, in place of the card's .json."""
Task: TypeAlias = tuple[str, str, str]
"""Evaluation, name of the set, and task."""


@dataclass(frozen=True, kw_only=True)
class Records:
    """Outcomes of one task on one set, one per sample."""

    task: str
    """What was measured, such as `top-1` or `text→image R@1`."""
    data: str
    """Name of the set."""
    keys: Sequence[str]
    truth: Sequence[Any]
    prediction: Sequence[Any]
    """The best answer of the model."""
    value: Float[np.ndarray, " n"]
    """1 for a right answer and 0 for a wrong one, or the measure of a sample, from 0 to 1."""
    rank: Sequence[int] = ()
    """Rank of the true answer, from 1; empty where there is none."""
    group: Sequence[str] = field(default=())
    """Samples with one group, such as the captions of an image, are resampled together; empty if each stands alone."""
    better: Better = "more"
    """Whether more or less of `value` is better: less for errors."""

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def is_binary(self) -> bool:
        """True if every value is 0 or 1: right or wrong."""
        return bool(np.isin(self.value, (0.0, 1.0)).all())

    def rows(self, evaluation: str) -> Iterator[dict[str, Any]]:
        """Yield the samples as plain data."""
        binary = self.is_binary and self.better == "more"
        for number, key in enumerate(self.keys):
            row: dict[str, Any] = {"evaluation": evaluation, "data": self.data, "task": self.task, "key": key}
            row |= {"truth": self.truth[number], "prediction": self.prediction[number]}
            if self.rank:
                row["rank"] = int(self.rank[number])
            row |= {"right": bool(self.value[number])} if binary else {"value": float(self.value[number])}
            row |= {"better": self.better} if self.better != "more" else {}
            yield row | ({"group": self.group[number]} if self.group else {})


def samples_file(card: Path) -> Path:
    """Return where the samples of a report card are.

    >>> str(samples_file(Path("runs/nano.json")))
    'runs/nano.samples.jsonl'
    """
    return card.with_suffix(SUFFIX)


def save(card: Path, records: Mapping[str, Sequence[Records]]) -> list[Path]:
    """Write the samples of a card next to it, or remove those of an earlier run if there are none; return the file that was written.

    Args:
        card: the report card, a .json file.
        records: by evaluation.
    """
    path, sampled = samples_file(card), {name: tasks for name, tasks in records.items() if tasks}
    if not sampled:
        path.unlink(missing_ok=True)
        return []
    write(path, sampled)
    return [path]


def write(path: Path, records: Mapping[str, Iterable[Records]]) -> None:
    """Write the samples of every evaluation as json lines, atomically."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for evaluation, tasks in records.items():
            for task in tasks:
                file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in task.rows(evaluation))


def read(path: Path) -> dict[Task, Records]:
    """Read the samples that `write` wrote, by task.

    Raises:
        PerceptError: there is no such file, or a line is not one of a sample.
    """
    rows: dict[Task, list[dict[str, Any]]] = {}
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                row = _row(path, number, line)
                rows.setdefault((row["evaluation"], row["data"], row["task"]), []).append(row)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PerceptError(
            f"the samples {path} cannot be read: {reason}. They are written by percept eval and percept report; run it again."
        ) from None
    return {task: _records(task, found) for task, found in rows.items()}


def _row(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
        value = row["right"] if "right" in row else row["value"]
        return {**row, "data": row["data"], "task": row["task"], "value": float(value), "key": row["key"]}
    except (ValueError, KeyError, TypeError):
        raise PerceptError(
            f"{path}, line {number}, is not a sample of an evaluation. Write the file again with percept eval."
        ) from None


def _records(task: Task, rows: Sequence[Mapping[str, Any]]) -> Records:
    return Records(
        task=task[2],
        data=task[1],
        keys=[row["key"] for row in rows],
        truth=[row.get("truth") for row in rows],
        prediction=[row.get("prediction") for row in rows],
        value=np.array([row["value"] for row in rows]),
        rank=[row["rank"] for row in rows if "rank" in row],
        group=[row["group"] for row in rows if "group" in row],
        better=rows[0].get("better", "more"),
    )
