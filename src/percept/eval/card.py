"""The report card of a model: every score with unit, n, interval, target, and how it was measured; json, table, markdown."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from percept.core.io import replacing, write_json
from percept.core.report import table
from percept.core.words import count
from percept.eval.statistics import Score
from percept.eval.table import WITHOUT_SAMPLES, WORLD, Confusion

SCORES = ("score", "value", "95 % interval", "n", "target")
CONFUSED = ("true class", "predicted class", "images")


@dataclass(frozen=True, kw_only=True)
class Card:
    """Scores of one model and everything needed to measure them again."""

    model: Mapping[str, Any]
    """Name, identities of image and text vectors, and vector length."""
    command: str
    seed: int
    split: str = "evaluation"
    """Split of the labelled world; targets apply to evaluation only."""
    seconds: Mapping[str, float]
    """Per evaluation."""
    scores: Mapping[str, Sequence[Score]]
    """Per evaluation."""
    targets: Mapping[str, float] = field(default_factory=dict)
    """Score: the value to reach on the evaluation split, at least or at most as the score says."""
    confusions: Sequence[Confusion] = ()
    curves: Mapping[str, Any] = field(default_factory=dict)
    """Plain data of plots, by name."""
    data: Sequence[Mapping[str, Any]] = ()
    """Sets of files that were measured, in place of the world: evaluation, name, path, layout, samples, hash."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Versions, device and number type."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for json."""
        rows = [
            {"evaluation": name, **self._row(name, score)} for name, scores in self.scores.items() for score in scores
        ]
        confusions = [asdict(confusion) for confusion in self.confusions]
        return {
            "model": dict(self.model),
            "command": self.command,
            "seed": self.seed,
            "split": self.split,
            "data": [dict(each) for each in self.data],
            "seconds": dict(self.seconds),
            "scores": rows,
            "confusions": confusions,
            "curves": dict(self.curves),
            "facts": dict(self.facts),
        }

    def save(self, path: Path) -> list[Path]:
        """Write the card as json to `path` and as markdown to the same name ending in .md; return both paths."""
        page = path.with_suffix(".md")
        write_json(path, self.to_dict())
        with replacing(page) as temporary:
            temporary.write_text(self.to_markdown(), encoding="utf-8")
        return [path, page]

    def show(self) -> None:
        """Print the scores, the worst confusions and how they were measured."""
        for name, scores in self.scores.items():
            rows = [self._cells(name, score) for score in scores]
            title = f"{name}: {self.model['name']}, seed {self.seed}, {self.seconds[name]:.0f} s"
            table(title, SCORES, rows)
        if self.confusions:
            table("Most often confused", CONFUSED, map(_confusion, self.confusions))
        table("How", ("what", "value"), self._how())

    def to_markdown(self) -> str:
        """Return the card as a markdown page."""
        lines = [f"# Report card of {self.model['name']}", ""]
        lines += [f"- {name}: `{value}`" for name, value in self._how()]
        for name, scores in self.scores.items():
            lines += ["", f"## {name}", "", _line(SCORES), "| --- | ---: | --- | ---: | --- |"]
            lines += [_line(self._cells(name, score)) for score in scores]
        if self.confusions:
            lines += ["", "## Most often confused", "", _line(CONFUSED), "| --- | --- | ---: |"]
            lines += [_line(_confusion(confusion)) for confusion in self.confusions]
        return "\n".join(lines) + "\n"

    def _how(self) -> list[tuple[str, str]]:
        world = is_of_world(((name, score.name) for name, scores in self.scores.items() for score in scores), self.data)
        return [
            ("model", f"{self.model['name']}, {self.model['image']}"),
            ("command", self.command),
            ("images", f"{self.split} split, seed {self.seed}") if world else ("seed", str(self.seed)),
            *self._sets(),
            ("seconds", f"{sum(self.seconds.values()):.0f}"),
            *((name, str(value)) for name, value in self.facts.items()),
        ]

    def _sets(self) -> list[tuple[str, str]]:
        """Return the sets that were measured, each as a line."""
        lines = []
        for each in self.data:
            parts = [count(each["samples"], "sample"), each["layout"], each["path"], f"hash {each['hash'][:12]}"]
            bad = [f"{each['unreadable']:,} could not be read"] if each["unreadable"] else []
            lines.append((f"data {each['name']}", "; ".join([*parts, *bad, *filter(None, [each.get("remark")])])))
        return lines

    def _target(self, evaluation: str, score: Score) -> float | None:
        of_files = any(each["evaluation"] == evaluation for each in self.data)
        return self.targets.get(score.name) if self.split == "evaluation" and not of_files else None

    def _row(self, evaluation: str, score: Score) -> dict[str, Any]:
        target = self._target(evaluation, score)
        return asdict(score) | (
            {} if target is None else {"target": score.target(target), "met": score.reaches(target)}
        )

    def _cells(self, evaluation: str, score: Score) -> tuple[str, ...]:
        target = self._target(evaluation, score)
        verdict = "" if target is None else f"{score.target(target)} {'met' if score.reaches(target) else 'missed'}"
        return score.name, score.shown, score.interval, f"{score.n:,}", verdict


def is_of_world(scores: Iterable[tuple[str, str]], data: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether a card is about images of the labelled world, alone or with sets of files.

    Args:
        scores: evaluation and name of each score.
        data: of the card.
    """
    others = {*WITHOUT_SAMPLES, *(each["evaluation"] for each in data)}
    return not data or any(evaluation not in others or name.startswith(WORLD) for evaluation, name in scores)


def _confusion(confusion: Confusion) -> tuple[str, str, str]:
    truth = f"{confusion.data}: {confusion.truth}" if confusion.data else confusion.truth
    return truth, confusion.guess, f"{confusion.count} of {confusion.of}"


def _line(cells: Sequence[str]) -> str:
    """Return a row of a markdown table."""
    return f"| {' | '.join(cells)} |"
