"""The report card of a model: every score with n, interval, target, and how it was made; as json, table and markdown."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from percept.core.io import replacing, write_json
from percept.core.report import table
from percept.eval.statistics import Score
from percept.eval.zeroshot import Confusion


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a score should reach."""

    value: float
    at_most: bool = False
    """The score should stay below instead."""

    def met(self, score: Score) -> bool:
        """Tell whether the measured value reaches the target."""
        return score.value <= self.value if self.at_most else score.value >= self.value

    def __str__(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {self.value:.0%}"


TARGETS: dict[str, Target] = {
    "category top-1": Target(value=0.90),
    "colour top-1": Target(value=0.90),
    "caption→picture R@1": Target(value=0.50),
    "caption→picture R@5": Target(value=0.80),
    "attributes exchanged": Target(value=0.75),
    "left and right exchanged": Target(value=0.65),
    "drop of the mean against plain": Target(value=0.15, at_most=True),
}
"""What `nano` is meant to reach on the evaluation split of the labelled world."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """Scores of one model and everything needed to measure them again."""

    model: Mapping[str, Any]
    """Name, fingerprint and vector length."""
    command: str
    seed: int
    split: str = "evaluation"
    """Of the labelled world; targets are for evaluation."""
    seconds: Mapping[str, float]
    """Per evaluation."""
    scores: Mapping[str, Sequence[Score]]
    """Per evaluation."""
    confusions: Sequence[Confusion] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Versions, device and number type."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for json."""
        rows = [{"evaluation": suite, **self._row(score)} for suite, scores in self.scores.items() for score in scores]
        confusions = [asdict(confusion) for confusion in self.confusions]
        whole = {**asdict(self), "scores": rows, "confusions": confusions}
        return {**whole, "model": dict(self.model), "seconds": dict(self.seconds), "facts": dict(self.facts)}

    def save(self, path: Path) -> list[Path]:
        """Write the card as json to `path` and as markdown beside it; return both paths."""
        page = path.with_suffix(".md")
        write_json(path, self.to_dict())
        with replacing(page) as temporary:
            temporary.write_text(self.to_markdown(), encoding="utf-8")
        return [path, page]

    def show(self) -> None:
        """Print the scores, the worst confusions and how it was made."""
        for suite, scores in self.scores.items():
            rows = [self._cells(score) for score in scores]
            title = f"{suite}: {self.model['name']}, seed {self.seed}, {self.seconds[suite]:.0f} s"
            table(title, ("score", "value", "95 % interval", "n", "target"), rows)
        if self.confusions:
            rows = [(one.truth, one.guess, f"{one.count} of {one.of}") for one in self.confusions]
            table("Most often mistaken", ("shown", "taken for", "pictures"), rows)
        table("How", ("what", "value"), self._how())

    def to_markdown(self) -> str:
        """Return the card as a markdown page."""
        lines = [f"# Report card of {self.model['name']}", ""]
        lines += [f"- {name}: `{value}`" for name, value in self._how()]
        for suite, scores in self.scores.items():
            lines += [
                "",
                f"## {suite}",
                "",
                "| score | value | 95 % interval | n | target |",
                "| --- | ---: | --- | ---: | --- |",
            ]
            lines += [f"| {' | '.join(self._cells(score))} |" for score in scores]
        if self.confusions:
            lines += ["", "## Most often mistaken", "", "| shown | taken for | pictures |", "| --- | --- | ---: |"]
            lines += [f"| {one.truth} | {one.guess} | {one.count} of {one.of} |" for one in self.confusions]
        return "\n".join(lines) + "\n"

    def _how(self) -> list[tuple[str, str]]:
        return [
            ("model", f"{self.model['name']}, weights {self.model['fingerprint']}"),
            ("command", self.command),
            ("pictures", f"{self.split} split, seed {self.seed}"),
            ("seconds", f"{sum(self.seconds.values()):.0f}"),
            *((name, str(value)) for name, value in self.facts.items()),
        ]

    def _target(self, score: Score) -> Target | None:
        return TARGETS.get(score.name) if self.split == "evaluation" else None

    def _row(self, score: Score) -> dict[str, Any]:
        target = self._target(score)
        return asdict(score) | ({"target": str(target), "met": target.met(score)} if target else {})

    def _cells(self, score: Score) -> tuple[str, ...]:
        target = self._target(score)
        verdict = f"{target} {'met' if target.met(score) else 'missed'}" if target else ""
        interval = f"{100 * score.low:.1f} – {100 * score.high:.1f}"
        return score.name, f"{100 * score.value:.1f} %", interval, f"{score.n:,}", verdict
