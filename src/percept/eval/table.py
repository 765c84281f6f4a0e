"""The evaluations by name, and what one is; importing this file imports neither torch nor numpy.

A new evaluation is one file with an `EVALUATION`, and its line in `EVALUATIONS`. The first line of that file is its
summary in `percept eval --help`.
"""

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from percept.core.errors import PerceptError, unknown_name

if TYPE_CHECKING:
    from percept.eval.record import Records
    from percept.eval.sets.item import EvaluationSet, Request
    from percept.eval.statistics import Score

EVALUATIONS: dict[str, str] = {
    "zeroshot": "percept.eval.zeroshot:EVALUATION",
    "multilabel": "percept.eval.multilabel:EVALUATION",
    "retrieval": "percept.eval.retrieval:EVALUATION",
    "video": "percept.eval.video:EVALUATION",
    "robustness": "percept.eval.robustness:EVALUATION",
    "artists": "percept.eval.artists:EVALUATION",
    "binding": "percept.eval.binding:EVALUATION",
    "digits": "percept.eval.digits:EVALUATION",
    "dense": "percept.eval.dense:EVALUATION",
    "correspondence": "percept.eval.correspondence:EVALUATION",
    "tracking": "percept.eval.tracking:EVALUATION",
    "calibration": "percept.eval.confidence:EVALUATION",
    "speed": "percept.eval.speed:EVALUATION",
}
"""Name: where the evaluation is defined, in the order in which `percept eval all` runs them."""

WITHOUT_SAMPLES = ("speed", "memory")
"""Parts of a report card that are not measured on samples, so runs cannot be compared by them."""
WORLD = "world: "
"""Start of the names of scores on the labelled world in an evaluation that also measures sets of files."""
WITH_DATA = "; with --data, "
"""Separates the part of a summary about the labelled world from that about sets."""

Split: TypeAlias = Literal["evaluation", "validation", "train"]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much to measure, and on which images."""

    count: int = 3000
    """Images of the main set. Retrieval, and each style of robustness, use a third of it."""
    seed: int = 0
    """Seed of the generated images; published numbers use 0."""
    split: Split = "evaluation"
    """Compositions of the labelled world: validation to choose between models, evaluation to report."""

    @property
    def third(self) -> int:
        """Images of the smaller sets."""
        return max(1, self.count // 3)


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """Images of one class that were assigned to a different class."""

    truth: str
    guess: str
    count: int
    of: int
    """Images of the true class."""
    data: str = ""
    """Name of the set, where an evaluation measures several."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """Scores of one evaluation."""

    scores: "Sequence[Score]"
    confusions: Sequence[Confusion] = ()
    curves: Mapping[str, Any] = field(default_factory=dict)
    """Plain data of plots, by name."""
    records: "Sequence[Records]" = ()
    """Outcome of every sample, for `percept compare`."""
    data: Sequence[Mapping[str, Any]] = ()
    """What identifies each set of a person's own that was measured, as plain data."""


@dataclass(frozen=True, kw_only=True)
class OnSets:
    """How an evaluation measures a model on sets that a person has, in place of the labelled world."""

    open: "Callable[[Request], Mapping[str, EvaluationSet]]"
    """Opens the sets by name, and raises a PerceptError if they do not hold what is measured."""
    run: "Callable[[Any, Mapping[str, EvaluationSet], Request], Result]"


class Unsuited(PerceptError):
    """The model lacks what an evaluation measures, or the machine its data; `percept eval all` leaves the evaluation out."""


def _nothing(_: Any) -> None:
    """Require nothing of the model."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One evaluation: what it requires, how it runs, what it should reach."""

    name: str
    summary: str | None
    """The docstring of its module; only the first line is kept."""
    run: Callable[[Any, Plan], Result]
    """Measures a model: an `Embeds`, or whichever contract the evaluation names."""
    needs: Callable[[Any], object] = _nothing
    """Raises `Unsuited` if the model lacks what `run` uses, and another PerceptError if a library does. Called before
    anything is measured."""
    on_sets: OnSets | None = None
    """None for an evaluation that measures on its own data only."""
    targets: Mapping[str, float] = field(default_factory=dict)
    """Score: the value that `nano` should reach on the evaluation split, at least or at most as the score says."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "summary", _first_line(self.summary))

    def headline(self, *, on_sets: bool) -> str:
        """Return the part of the summary about the labelled world, or about sets."""
        world, _, sets = (self.summary or "").removesuffix(".").partition(WITH_DATA)
        return f"{sets if on_sets and sets else world}."


def find(name: str) -> Evaluation:
    """Return the evaluation with this name; imports its module.

    Raises:
        PerceptError: the name is not in the table.
    """
    if name not in EVALUATIONS:
        raise unknown_name("evaluation", name, EVALUATIONS)
    module, attribute = EVALUATIONS[name].split(":")
    return getattr(import_module(module), attribute)


def summary(name: str) -> str:
    """Return the summary of an evaluation without importing its module, which would import torch.

    >>> summary("digits")
    'Real handwritten digits, which no recipe here was trained on; needs scikit-learn.'
    """
    spec = find_spec(EVALUATIONS[name].partition(":")[0])
    source = spec and spec.loader and getattr(spec.loader, "get_source", lambda _: None)(spec.name)
    return _first_line(ast.get_docstring(ast.parse(source or "")))


def _first_line(docstring: str | None) -> str:
    return (docstring or "").strip().partition("\n")[0]
