"""The report of a perception language model: every score next to chance, a blind model and its target; json, table, markdown."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from percept.core.io import replacing, write_json
from percept.core.report import notice, table
from percept.eval.statistics import Score, with_unit
from percept.eval.vlm.run import Measured

VIDEOBENCH = "PLM-VideoBench"
WEIGHTS = {"fgqa": 1 / 3, "sgqa": 1 / 3, "rdcap": 1 / 9, "rcap": 1 / 9, "rtloc": 1 / 9}
"""Weights of its tasks in the average."""
COLUMNS = ("task", "score", "value", "95 % interval", "n", "chance", "blind", "target")


@dataclass(frozen=True, kw_only=True)
class Report:
    """Scores of one model and everything needed to measure them again."""

    model: str
    command: str
    seed: int
    data: str
    """The split of the generated world, or a file."""
    targets: bool
    """Whether the targets apply: on the evaluation split of the world."""
    measured: Sequence[Measured]
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Versions, device, judge, and what else decides the numbers."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for json."""
        return {
            "model": self.model,
            "command": self.command,
            "seed": self.seed,
            "data": self.data,
            "seconds": {each.task.name: each.seconds for each in self.measured},
            "scores": [row for each in self.measured for row in self._rows(each)]
            + [{"task": VIDEOBENCH, **asdict(score)} for score in self._average()],
            "notes": {each.task.name: list(each.notes) for each in self.measured if each.notes},
            "facts": dict(self.facts),
        }

    def save(self, path: Path) -> list[Path]:
        """Write the report as json to `path`, as markdown next to it, and every answer to .samples.jsonl; return the paths."""
        page, samples = path.with_suffix(".md"), path.with_suffix(".samples.jsonl")
        write_json(path, self.to_dict())
        rows = (json.dumps(row, ensure_ascii=False) + "\n" for each in self.measured for row in each.records)
        for target, text in ((page, self.to_markdown()), (samples, "".join(rows))):
            with replacing(target) as temporary:
                temporary.write_text(text, encoding="utf-8")
        return [path, page, samples]

    def show(self) -> None:
        """Print the scores and how they were measured."""
        table(f"{self.model} on {self.data}, seed {self.seed}", COLUMNS, self._cells())
        table("How", ("what", "value"), self._how())
        for each in self.measured:
            for note in each.notes:
                notice(f"{each.task.name}: {note}")

    def to_markdown(self) -> str:
        """Return the report as a markdown page."""
        lines = [f"# {self.model} on {self.data}", ""]
        lines += [f"- {name}: `{value}`" for name, value in self._how()]
        lines += ["", _line(COLUMNS), "| --- | --- | ---: | --- | ---: | ---: | ---: | --- |"]
        lines += [_line(cells) for cells in self._cells()]
        notes = [f"- {each.task.name}: {note}" for each in self.measured for note in each.notes]
        return "\n".join(lines + (["", *notes] if notes else [])) + "\n"

    def _how(self) -> list[tuple[str, str]]:
        seconds = sum(each.seconds for each in self.measured)
        facts = [(name, str(value)) for name, value in self.facts.items()]
        return [
            ("command", self.command),
            ("data", f"{self.data}, seed {self.seed}"),
            ("seconds", f"{seconds:.0f}"),
            *facts,
        ]

    def _target(self, each: Measured) -> float | None:
        return each.task.target if self.targets else None

    def _rows(self, each: Measured) -> list[dict[str, Any]]:
        rows = [{"task": each.task.name, **asdict(score)} for score in each.scores]
        target = self._target(each)
        rows[0] |= {"chance": each.chance, "blind": asdict(each.blind) if each.blind else None}
        if target is not None:
            rows[0] |= {"target": each.scores[0].target(target), "met": each.scores[0].reaches(target)}
        return rows

    def _cells(self) -> list[tuple[str, ...]]:
        result = []
        for each in self.measured:
            for number, score in enumerate(each.scores):
                more = self._compared(each) if number == 0 else ("", "", "")
                result.append((each.task.name, score.name, score.shown, score.interval, f"{score.n:,}", *more))
        for score in self._average():
            result.append((VIDEOBENCH, score.name, score.shown, score.interval, f"{score.n:,}", "", "", ""))
        return result

    def _average(self) -> list[Score]:
        """Return the average of PLM-VideoBench if all of its tasks were measured."""
        first = {each.task.name: each.scores[0] for each in self.measured}
        return [videobench(first)] if WEIGHTS.keys() <= first.keys() else []

    def _compared(self, each: Measured) -> tuple[str, str, str]:
        """Return chance, blind score and target of the first score, as printed."""
        first, target = each.scores[0], self._target(each)
        chance = "" if each.chance is None else with_unit(each.chance, first.unit)
        blind = "" if each.blind is None else f"{each.blind.shown} [{each.blind.interval}]"
        verdict = "" if target is None else f"{first.target(target)} {'met' if first.reaches(target) else 'missed'}"
        return chance, blind, verdict


def videobench(first: Mapping[str, Score]) -> Score:
    """Return the mean of FGQA, SGQA and the mean of RDCap, RCap and RTLoc, as Cho et al. 2025, arXiv:2504.13180, average them.

    The interval takes the errors of the tasks to be independent and normal.
    """
    parts = [(first[name], weight) for name, weight in WEIGHTS.items()]
    value = sum(weight * score.value for score, weight in parts)
    half = math.sqrt(sum((weight * (score.high - score.low) / 2) ** 2 for score, weight in parts))
    low, high = max(0.0, value - half), min(1.0, value + half)
    return Score(name="average", value=value, n=sum(score.n for score, _ in parts), low=low, high=high)


def _line(cells: Sequence[str]) -> str:
    """Return a row of a markdown table."""
    return f"| {' | '.join(cells)} |"
