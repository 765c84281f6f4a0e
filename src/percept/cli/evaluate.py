"""`percept eval`: measure a model by the evaluations of `percept.eval.table`."""

import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import tyro

from percept.cli import evaluate_folder, evaluate_plm
from percept.cli.options import MODEL, VIDEO, Model, Video, VideoOptions, typed
from percept.cli.output import check_own_output, is_stdout, save_rows
from percept.cli.show import count, say, writing
from percept.core.errors import PerceptError
from percept.core.report import notice, printable
from percept.eval.table import EVALUATIONS, Evaluation, Plan, Result, Unsuited, find, summary

if TYPE_CHECKING:
    from percept.eval.card import Card
    from percept.eval.sets.item import EvaluationSet, Request

ALL = "all"
HELP = " ".join(
    [
        *(f"{name}: {summary(name)}" for name in EVALUATIONS),
        f"{ALL}: every one that the model is suited for, as one report card.",
        f"{evaluate_plm.NAME}: {evaluate_plm.SUMMARY}.",
        f"{evaluate_folder.NAME}: {evaluate_folder.SUMMARY}.",
    ]
)

Names: TypeAlias = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(help=HELP, metavar="NAME [NAME ...]")]
PLAN = Plan()
SCORES = {
    "evaluation": str, "name": str, "value": float, "unit": str, "better": str, "n": int, "low": float, "high": float,
    "target": str, "met": bool,
}  # fmt: skip
"""Of a row of --out: a score with its 95 % interval; target and met on the evaluation split of the labelled world, else null."""


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """A set of your own, in place of the labelled world."""

    data: str | None = None
    """Folder, file or pattern: folders of classes, ImageNet and its variants, ObjectNet, CLIP-benchmark shards, Karpathy json,
    tables; docs/evaluating.md lists the layouts."""
    media: Path | None = None
    """Folder of the images or videos of a file. Default: the folder of the file."""
    classes: Path | None = None
    """File with class names, with ids where folders are ids. Default: one of the usual names in the folder of the set."""
    templates: Path | None = None
    """File with prompts, one per line, with {} in place of the class name; they are used literally."""
    subset: str | None = None
    """Split of the set. Default: test, or val where there is no test."""
    limit: int | None = None
    """Samples of the set, drawn at random with --seed. Default: all."""


DATA = DataOptions()


def evaluate(
    names: Names,
    model: Model = MODEL,
    plan: Annotated[Plan, tyro.conf.arg(name="")] = PLAN,
    data: Annotated[DataOptions, tyro.conf.arg(name="")] = DATA,
    video: Video = VIDEO,
    out: Path | None = None,
) -> int:
    """Run evaluations, show their scores and write the report card; if one fails, the others still run.

    Args:
        names: Evaluations to run.
        out: File for the report card, ending in .json, with a markdown page of the same name and the outcome of every sample in
            .samples.jsonl, for percept compare; or for a row per score, ending in .csv, .jsonl or .parquet; - for these as json lines on
            standard output.

    Raises:
        PerceptError: something that an evaluation needs is missing, or all of them failed.
    """
    evaluations = _chosen(names)
    whole = check_own_output(out, ".json", ".md", ".samples.jsonl")
    request = _request(names, evaluations, plan, data, video)
    sets = {} if request is None else {each.name: _opened(each, request) for each in evaluations}
    _check_used([each for opened in sets.values() for each in opened.values()], data, video)
    encoder = model.open_any()
    omitted = _check(encoder, evaluations, every=ALL in names)
    evaluations = [evaluation for evaluation in evaluations if evaluation.name not in omitted]
    measured = _measure(encoder, evaluations, plan, sets, request)
    errors = list(measured.errors.values())
    if not measured.results:
        raise errors[0]
    options = typed(model, plan, data, video)
    command = ["percept", "eval", *names, *options, *(["--out", str(out)] if out is not None else [])]
    card = _card(encoder, evaluations, plan, measured, omitted, request, command=printable(shlex.join(command)))
    if not is_stdout(out):
        card.show()
    if not whole:
        save_rows(out, card.to_dict()["scores"], SCORES, facts={"model": card.model, "command": card.command})
    elif out is not None:
        with writing(out):
            say(f"wrote {', '.join(map(str, _save(card, measured, out)))}")
    for error in errors:
        if not isinstance(error, PerceptError | OSError):
            raise error  # a bug is not hidden
    return 2 if errors else 0


def _save(card: "Card", measured: "Measured", out: Path) -> list[Path]:
    from percept.eval import record

    return [*card.save(out), *record.save(out, {name: each.records for name, each in measured.results.items()})]


def _request(
    names: Sequence[str], evaluations: Sequence[Evaluation], plan: Plan, data: DataOptions, video: VideoOptions
) -> "Request | None":
    """Return which set is measured; None for the labelled world.

    Raises:
        PerceptError: options that do not go together, or an evaluation that measures on its own data only.
    """
    if data.data is None:
        if given := typed(data, video):
            raise PerceptError(
                f"{given[0]} has no effect on the labelled world. Give a set with --data, or leave it out."
            )
        return None
    if plan.count != PLAN.count or plan.split != PLAN.split:
        raise PerceptError(
            "--count and --split choose images of the labelled world. With --data use --limit and --subset."
        )
    if ALL in names:
        raise PerceptError("all runs on the labelled world. With --data name the evaluations, such as zeroshot.")
    if unsuited := [each.name for each in evaluations if each.on_sets is None]:
        able = [name for name in EVALUATIONS if find(name).on_sets is not None]
        raise PerceptError(f"{unsuited[0]} measures on its own data only. With --data use {', '.join(able)}.")
    from percept.eval.sets.item import Request

    named = {field.name: getattr(data, field.name) for field in fields(data) if field.name != "data"}
    return Request(path=data.data, seed=plan.seed, sampling=video.sampling(), **named)


def _check_used(sets: "Sequence[EvaluationSet]", data: DataOptions, video: VideoOptions) -> None:
    """Check that no option is given that has no effect on the sets.

    Raises:
        PerceptError: one is.
    """
    if sets and not any(each.video for each in sets) and (given := typed(video)):
        raise PerceptError(f"{given[0]} has no effect on images. Leave it out, or give a set of videos.")
    if sets and not any(each.classes for each in sets) and (data.classes or data.templates):
        option = "--classes" if data.classes else "--templates"
        raise PerceptError(
            f"{option} has no effect on a set without classes. Leave it out, or give a set with classes."
        )


def _opened(evaluation: Evaluation, request: "Request") -> "Mapping[str, EvaluationSet]":
    assert evaluation.on_sets is not None
    sets = evaluation.on_sets.open(request)
    for name, each in sets.items():
        say(f"{name}: {count(len(each), 'sample')}, {each.layout}{f'; {each.remarks}' if each.remarks else ''}")
    return sets


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


def _measure(
    encoder: Any,
    evaluations: Sequence[Evaluation],
    plan: Plan,
    sets: "Mapping[str, Mapping[str, EvaluationSet]]",
    request: "Request | None",
) -> Measured:
    measured = Measured()
    for evaluation in evaluations:
        name = evaluation.name
        say(f"{name}: {evaluation.headline(on_sets=request is not None)}")
        start = time.perf_counter()
        try:
            measured.results[name] = _result(encoder, evaluation, plan, sets, request)
        except Exception as error:  # reported at once if others follow; raised or counted when they are saved
            measured.errors[name] = error
            if len(evaluations) > 1:
                notice(f"{name} failed: {_reason(error)}")
        else:
            measured.seconds[name] = round(time.perf_counter() - start, 1)
    return measured


def _result(
    encoder: Any,
    evaluation: Evaluation,
    plan: Plan,
    sets: "Mapping[str, Mapping[str, EvaluationSet]]",
    request: "Request | None",
) -> Result:
    if request is None or evaluation.on_sets is None:
        return evaluation.run(encoder, plan)
    return evaluation.on_sets.run(encoder, sets[evaluation.name], request)


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, PerceptError) else f"{type(error).__name__}: {error}"


def _card(
    encoder: Any,
    evaluations: Sequence[Evaluation],
    plan: Plan,
    measured: Measured,
    omitted: Mapping[str, Exception],
    request: "Request | None",
    *,
    command: str,
) -> "Card":
    from percept.core.config import to_dict
    from percept.eval.card import Card
    from percept.eval.report import facts, preprocessing

    described = {} if request is None else {"request": request.to_dict()}
    return Card(
        model={
            **to_dict(encoder.identity),
            "name": printable(encoder.identity.name),
            "preprocessing": preprocessing(encoder),
        },
        command=command,
        seed=plan.seed,
        split=plan.split,
        seconds=measured.seconds,
        scores={name: result.scores for name, result in measured.results.items()},
        targets={score: value for evaluation in evaluations for score, value in evaluation.targets.items()},
        confusions=[confusion for result in measured.results.values() for confusion in result.confusions],
        curves={name: curve for result in measured.results.values() for name, curve in result.curves.items()},
        data=[
            {"evaluation": name, **each, **described}
            for name, result in measured.results.items()
            for each in result.data
        ],
        facts={
            **facts(encoder),
            **{f"{name} left out": printable(_reason(error)) for name, error in omitted.items()},
            **{f"{name} failed": printable(_reason(error)) for name, error in measured.errors.items()},
        },
    )


def run(arguments: Sequence[str]) -> int:
    """Run an evaluation with options of its own if its name comes first, and else those of encoders."""
    for own in (evaluate_plm, evaluate_folder):
        if list(arguments[:1]) == [own.NAME]:
            return tyro.cli(own.COMMAND, prog=f"percept eval {own.NAME}", args=list(arguments[1:]))
    return tyro.cli(evaluate, prog="percept eval", args=list(arguments))


ARGUMENTS = run
