"""`percept eval plm`: measure a perception language model on the generated world, or on a public file."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from percept.cli.output import check_own_output, is_stdout, save_rows
from percept.cli.show import say, writing
from percept.core.errors import PerceptError
from percept.core.report import notice, printable

if TYPE_CHECKING:
    from percept.eval.vlm.graders import Grading
    from percept.eval.vlm.item import Item
    from percept.eval.vlm.kept import Kept
    from percept.eval.vlm.report import Report
    from percept.eval.vlm.run import Measured
    from percept.eval.vlm.tasks import Task

NAME = "plm"
SELF = "self"
WORLD_COUNT, WORLD_FRAMES, FILE_FRAMES = 300, 8, 32
SCORES = {
    "task": str, "name": str, "value": float, "unit": str, "better": str, "n": int, "low": float, "high": float, "chance": float,
    "blind": object, "target": str, "met": bool,
}  # fmt: skip
"""Of a row of --out: a score with its 95 % interval; blind: the same score of the model without images."""
SUMMARY = "a perception language model on questions about images and clips; percept eval plm --help"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measure a perception language model: on questions about generated images and clips, or on a public file.

    The report has every score with n and its 95 % interval, next to a guess, a blind model and the target of plm-nano.
    """

    model: str = "plm-nano"
    """Name or folder of the model."""
    weights: Path | None = None
    """Local folder with the files of the model."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""
    dtype: str | None = None
    """float32, bfloat16, float16 or auto."""
    blind: str | None = None
    """A model that answers without images, for comparison: a name or folder, or self for the same model."""
    tasks: tuple[str, ...] = ()
    """Tasks of the generated world. Default: all."""
    task: tuple[str, ...] = ()
    """Task of the file, or one for each file: fgqa, sgqa, rcap, rdcap, rtloc, charades, vqav2, textvqa, docvqa, chartqa, pope, refcoco, captions, choice."""
    data: tuple[Path, ...] = ()
    """Public files to measure on, in place of the generated world."""
    media: tuple[Path, ...] = ()
    """Folder of the images or videos of the files, or one for each file. Default: the folder of the file."""
    count: int | None = None
    """Items of a task. Default: 300, or the whole file."""
    seed: int = 0
    """Seed of the generated images and clips; published numbers use 0."""
    split: Literal["evaluation", "validation", "train"] = "evaluation"
    """Compositions of the world: validation to choose between models, evaluation to report."""
    frames: int | None = None
    """Frames of a generated clip, of which the model sees as many as it takes; or of a video of a region task, which the prompt counts.
    Default: 8, or 32 of a file."""
    size: int = 96
    """Side of generated images and clips, in pixels."""
    version: Literal["fixed", "published"] = "fixed"
    """Metrics and prompts of public tasks without the quirks of their code, or with them."""
    judge: str = "rules"
    """Judge of free answers: rules, or the address of an OpenAI-compatible API, whose key is in PERCEPT_JUDGE_KEY."""
    judge_model: str | None = None
    """Name of the model behind the address."""
    judge_cache: Path | None = None
    """File that keeps its replies. Default: judge.jsonl next to --out."""
    out: Path | None = None
    """File for the report, ending in .json, with a markdown page and every answer next to it; or for a row per score, ending in .csv,
    .jsonl or .parquet; - for these as json lines on standard output. With a file, answers are kept until it is written, and the same
    command goes on where it stopped."""


def evaluate_plm(options: Annotated[Options, tyro.conf.arg(name="")]) -> int:
    """Measure the model and write the report.

    Raises:
        PerceptError: options do not go together, or the model or a file cannot be read.
    """
    from percept.eval.vlm import tasks
    from percept.eval.vlm.report import Report

    _check(options)
    how = _grading(options)
    jobs = _of_files(options)
    chosen = tasks.world_tasks(options.tasks)
    model = _open(options, options.model, options.weights)
    jobs = jobs or _of_world(options, chosen, model)
    blind = model if options.blind == SELF else options.blind and _open(options, options.blind, None)
    kept = _kept(options, model, blind)
    measured = _measure(model, blind, jobs, how, kept)
    world = not options.data
    report = Report(
        model=printable(model.name), command=_command(options), seed=options.seed,
        data=f"the world's {options.split} split" if world else ", ".join(f"{task} {file}" for task, file in zip(options.task, options.data, strict=True)),
        targets=world and options.split == "evaluation", measured=measured,
        facts=_facts(options, model, how),
    )  # fmt: skip
    if not is_stdout(options.out):
        report.show()
    _save(report, options.out)
    if options.out is not None and len(measured) == len(jobs):
        kept.remove()
    return 2 if len(measured) < len(jobs) else 0


def _save(report: "Report", out: Path | None) -> None:
    """Write the whole report, or its scores as rows."""
    if out is None or out.suffix.lower() != ".json":
        save_rows(out, report.to_dict()["scores"], SCORES, facts={"model": report.model, "command": report.command})
        return
    with writing(out):
        say(f"wrote {', '.join(map(str, report.save(out)))}")


def _check(options: Options) -> None:
    if len(options.data) != len(options.task):
        raise PerceptError("--data and --task belong together. Give each file and the name of its task, or neither.")
    if len(set(options.task)) < len(options.task):
        raise PerceptError("--task names a task twice. Measure one file of a task at a time.")
    if options.data and options.tasks:
        raise PerceptError("--tasks names tasks of the generated world. With --data give --task.")
    if not options.data and options.media:
        raise PerceptError("--media was given without --data. Give the file that names the images.")
    if len(options.media) not in (0, 1, len(options.data)):
        raise PerceptError(
            f"--media names {len(options.media)} folders for {len(options.data)} files. Give one, or one for each."
        )
    if options.judge == "rules" and (options.judge_model or options.judge_cache):
        raise PerceptError("--judge-model and --judge-cache have no effect on the judge rules. Give --judge ADDRESS.")
    for name in ("count", "frames"):
        if (value := getattr(options, name)) is not None and value < 1:
            raise PerceptError(f"--{name} {value} measures nothing. Give at least 1.")
    check_own_output(options.out, ".json", ".md", ".samples.jsonl")


def _grading(options: Options) -> "Grading":
    from percept.eval.vlm.endpoint import EndpointJudge
    from percept.eval.vlm.graders import Grading
    from percept.eval.vlm.judge import RulesJudge

    if options.judge == "rules":
        return Grading(judge=RulesJudge(), version=options.version, seed=options.seed)
    if options.judge_model is None:
        raise PerceptError("--judge-model is missing. Give the name of the model behind the address.")
    beside = None if options.out is None or is_stdout(options.out) else options.out.with_name("judge.jsonl")
    cache = options.judge_cache or beside
    judge = EndpointJudge(url=options.judge, model=options.judge_model, cache=cache)
    return Grading(judge=judge, version=options.version, seed=options.seed)


Job = tuple["Task", "Sequence[Item]"]


def _of_files(options: Options) -> list[Job]:
    """Return the tasks of files with their items; the files are checked here, before the model is opened."""
    from percept.eval.vlm import tasks

    chosen = [tasks.public_task(name) for name in options.task]
    media = options.media * len(options.data) if len(options.media) == 1 else options.media
    folders = media or [file.parent for file in options.data]
    files = zip(chosen, options.data, folders, strict=True)
    return [(task, _items(task, file, folder, options)) for task, file, folder in files]


def _items(task: "Task", file: Path, folder: Path, options: Options) -> "list[Item]":
    from percept.eval.vlm.readers.files import Place

    assert task.read is not None
    frames = options.frames or FILE_FRAMES
    items = list(
        islice(task.read(Place(data=file, media=folder, version=options.version, frames=frames)), options.count)
    )
    if not items:
        raise PerceptError(f"{file} has no rows. Check the file.")
    return items


def _of_world(options: Options, chosen: "Sequence[Task]", model: Any) -> list[Job]:
    """Return tasks of the generated world with their items; texts about clips count the frames that the model sees."""
    from percept.eval.vlm import world

    plan = world.Plan(
        count=options.count or WORLD_COUNT,
        seed=options.seed,
        split=options.split,
        size=options.size,
        frames=options.frames or WORLD_FRAMES,
        sampled=getattr(getattr(model, "processor", None), "frames", None),
    )
    say("generating images and clips")
    items = world.items([task.name for task in chosen], plan)
    return [(task, items[task.name]) for task in chosen]


def _open(options: Options, name: str, weights: Path | None) -> Any:
    import percept
    from percept.infer.contracts import Generates

    model = percept.assistant(name, weights=weights, device=options.device, dtype=options.dtype)
    if not isinstance(model, Generates):
        raise PerceptError(f"{name} does not answer in words. Give a perception language model.")
    return model


def _measure(model: Any, blind: Any, jobs: Sequence[Job], how: "Grading", kept: "Kept") -> "list[Measured]":
    """Measure every task; one that fails is reported, and the others still run.

    Raises:
        PerceptError: all tasks failed.
    """
    from percept.eval.vlm.run import measure

    measured, first = [], None
    for task, items in jobs:
        say(f"{task.name}: {task.summary}, {len(items):,} items")
        try:
            measured.append(measure(model, task, items, how, blind=blind, kept=kept))
        except PerceptError as error:
            first = first or error
            if len(jobs) > 1:
                notice(f"{task.name} failed: {error}")
    if not measured:
        assert first is not None
        raise first
    return measured


def _kept(options: Options, *models: Any) -> "Kept":
    """Return the answers of an interrupted run of the same models."""
    from percept.eval.vlm.kept import Kept

    if options.out is None or is_stdout(options.out):
        return Kept()
    places = [path.resolve() for path in (*options.data, *options.media)]
    decisive = [*map(_weights, models), options.split, options.size, options.frames, options.version, *places]
    kept = Kept(options.out.with_suffix(".answers.jsonl"), "/".join(map(str, decisive)))
    if len(kept):
        say(
            f"{kept.file} has {len(kept):,} answers of an interrupted run; those of these models are not asked for again"
        )
    return kept


@cache
def _weights(model: Any) -> str:
    """Return a hash of all weights of a model, and the type in which it computes."""
    from torch import nn

    from percept.weights.fingerprint import hash_tensors, joined_hash

    inner = getattr(model, "model", None)
    weights = joined_hash(hash_tensors(inner.state_dict())) if isinstance(inner, nn.Module) else ""
    return f"{weights} {model.setting.dtype}" if model is not None else ""


def _facts(options: Options, model: Any, how: "Grading") -> dict[str, str]:
    import torch

    from percept.core import VERSION

    facts = {
        "device": f"{model.setting.device}, {str(model.setting.dtype).removeprefix('torch.')}",
        "weights": _weights(model).partition(" ")[0],
        "versions": f"percept {VERSION}, torch {torch.__version__}",
        "metrics": options.version,
        "judge": how.judge.name,
    }
    return facts | ({"blind model": printable(options.blind)} if options.blind else {})


def _command(options: Options) -> str:
    words = ["percept", "eval", NAME]
    for each in fields(options):
        value = getattr(options, each.name)
        if value != each.default:
            values = value if isinstance(value, tuple) else (value,)
            words += [f"--{each.name.replace('_', '-')}", *map(str, values)]
    return printable(shlex.join(words))


COMMAND = evaluate_plm
