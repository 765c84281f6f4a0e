"""`percept eval`: measure a model by the evaluations of `percept.eval.table`."""

import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import tyro

from percept.cli import evaluate_plm
from percept.cli.options import MODEL, Model, typed
from percept.cli.show import check_output, say, writing
from percept.core.errors import PerceptError
from percept.core.report import notice, printable
from percept.eval.table import EVALUATIONS, Evaluation, Plan, Result, Unsuited, find, summary

if TYPE_CHECKING:
    from percept.eval.card import Card

ALL = "all"
HELP = " ".join(
    [
        *(f"{name}: {summary(name)}" for name in EVALUATIONS),
        f"{ALL}: every one that the model is suited for, as one report card.",
        f"{evaluate_plm.NAME}: {evaluate_plm.SUMMARY}.",
    ]
)

Names: TypeAlias = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(help=HELP, metavar="NAME [NAME ...]")]
PLAN = Plan()


def evaluate(
    names: Names,
    model: Model = MODEL,
    plan: Annotated[Plan, tyro.conf.arg(name="")] = PLAN,
    out: Path | None = None,
) -> int:
    """Run evaluations, show their scores and write the report card; if one fails, the others still run.

    Args:
        names: Evaluations to run.
        out: File for the report card, ending in .json; a markdown page of the same name is written too.

    Raises:
        PerceptError: something that an evaluation needs is missing, or all of them failed.
    """
    evaluations = _chosen(names)
    if out is not None:
        check_output(out, ".json")
        check_output(out.with_suffix(".md"))
    encoder = model.open_any()
    omitted = _check(encoder, evaluations, every=ALL in names)
    evaluations = [evaluation for evaluation in evaluations if evaluation.name not in omitted]
    measured = _measure(encoder, evaluations, plan)
    errors = list(measured.errors.values())
    if not measured.results:
        raise errors[0]
    command = ["percept", "eval", *names, *typed(model, plan), *(["--out", str(out)] if out is not None else [])]
    card = _card(encoder, evaluations, plan, measured, omitted, command=printable(shlex.join(command)))
    card.show()
    if out is not None:
        with writing(out):
            say(f"wrote {' and '.join(map(str, card.save(out)))}")
    for error in errors:
        if not isinstance(error, PerceptError | OSError):
            raise error  # a bug is not hidden
    return 2 if errors else 0


def _chosen(names: Sequence[str]) -> list[Evaluation]:
    if not names:
        raise PerceptError(f"no evaluation was given. Give one or more of {', '.join(EVALUATIONS)}, or {ALL}.")
    chosen = EVALUATIONS if ALL in names else dict.fromkeys(names)
    return [find(name) for name in chosen]


def _check(encoder: Any, evaluations: Sequence[Evaluation], *, every: bool) -> dict[str, Unsuited]:
    """Check what evaluations need; return those that this model is left out of, with the reason.

    Args:
        encoder: the model.
        evaluations: to be run.
        every: all evaluations were requested, so one that the model is not suited for is left out.

    Raises:
        PerceptError: a library is missing, the model is suited for none of the evaluations, or not for one that was named.
    """
    omitted: dict[str, Unsuited] = {}
    for evaluation in evaluations:
        try:
            evaluation.needs(encoder)
        except Unsuited as error:
            omitted[evaluation.name] = error
    if omitted and (not every or len(omitted) == len(evaluations)):
        raise next(iter(omitted.values()))
    for name, error in omitted.items():
        notice(f"{name} is left out: {error}")
    return omitted


@dataclass(kw_only=True)
class Measured:
    """Results of the evaluations, by name."""

    results: dict[str, Result] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    errors: dict[str, Exception] = field(default_factory=dict)
    """Of those that failed."""


def _measure(encoder: Any, evaluations: Sequence[Evaluation], plan: Plan) -> Measured:
    measured = Measured()
    for evaluation in evaluations:
        name = evaluation.name
        say(f"{name}: {evaluation.summary}")
        start = time.perf_counter()
        try:
            measured.results[name] = evaluation.run(encoder, plan)
        except Exception as error:  # reported at once if others follow; raised or counted when they are saved
            measured.errors[name] = error
            if len(evaluations) > 1:
                notice(f"{name} failed: {_reason(error)}")
        else:
            measured.seconds[name] = round(time.perf_counter() - start, 1)
    return measured


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, PerceptError) else f"{type(error).__name__}: {error}"


def _card(
    encoder: Any,
    evaluations: Sequence[Evaluation],
    plan: Plan,
    measured: Measured,
    omitted: Mapping[str, Exception],
    *,
    command: str,
) -> "Card":
    import torch

    from percept.core import VERSION
    from percept.core.config import to_dict
    from percept.eval.card import Card

    return Card(
        model={**to_dict(encoder.identity), "name": printable(encoder.identity.name)},
        command=command,
        seed=plan.seed,
        split=plan.split,
        seconds=measured.seconds,
        scores={name: result.scores for name, result in measured.results.items()},
        targets={score: value for evaluation in evaluations for score, value in evaluation.targets.items()},
        confusions=[confusion for result in measured.results.values() for confusion in result.confusions],
        facts={
            "device": f"{encoder.setting.device}, {str(encoder.setting.dtype).removeprefix('torch.')}",
            "versions": f"percept {VERSION}, torch {torch.__version__}",
            **{f"{name} left out": printable(_reason(error)) for name, error in omitted.items()},
            **{f"{name} failed": printable(_reason(error)) for name, error in measured.errors.items()},
        },
    )


def run(arguments: Sequence[str]) -> int:
    """Run the evaluation of language models if its name comes first, and else those of encoders."""
    if list(arguments[:1]) == [evaluate_plm.NAME]:
        return tyro.cli(evaluate_plm.COMMAND, prog=f"percept eval {evaluate_plm.NAME}", args=list(arguments[1:]))
    return tyro.cli(evaluate, prog="percept eval", args=list(arguments))


ARGUMENTS = run
