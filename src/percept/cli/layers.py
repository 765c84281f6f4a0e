"""`percept layers`: score every layer of an encoder on labelled data, and save the encoder cut after the best one."""

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from percept.cli.features import split_layers
from percept.cli.options import MODEL, Model, typed
from percept.cli.output import check_own_output, is_stdout, save_rows
from percept.cli.show import count, say, writing
from percept.core.errors import PerceptError, unknown_name
from percept.core.report import notice, printable
from percept.eval.probes.probe import PROBES

if TYPE_CHECKING:
    from percept.eval.curve import LayerCurve
    from percept.eval.labelled import Labelled
    from percept.infer.encoder import Encoder

FIELDS = {
    "task": str, "probe": str, "data": str, "layer": int, "best": bool, "validation": float, "chance": float, "name": str, "value": float,
    "unit": str, "better": str, "n": int, "low": float, "high": float,
}  # fmt: skip
"""Of a row of --out: the score of a layer on test samples with its 95 % interval, and on validation samples, which choose the layer; and that of a constant answer."""


ALIASES = {"seg": "masks"}


def layers(
    data: tyro.conf.Positional[Path | None] = None,
    task: str | None = None,
    world: bool = False,
    probe: str | None = None,
    layers: str | None = None,
    samples: int = 2000,
    seed: int = 0,
    out: Path | None = None,
    save: Path | None = None,
    model: Model = MODEL,
) -> int:
    """Find the layer of an encoder that is best for a task.

    Every layer is scored in one pass: a probe is trained on it, the best layer is chosen on validation samples, and all layers
    are reported on test samples, next to the score of a constant answer. The last layer is kept if it is better there.

    Args:
        data: Folder or file with labels; its layout is recognised.
        task: classes, captions, masks (or seg), depth, boxes, tracks, points or words; several with commas. Default: all
            that the labels allow.
        world: Use images of the labelled world instead of a folder.
        probe: How a layer is scored: linear or knn (classes), linear or dpt (depth). Default: linear.
        layers: Blocks to score, such as 2,4,-1. Default: all.
        samples: Most samples that are used for a task.
        seed: Seed of the division into training, validation and test samples.
        out: File for the scores, ending in .json, with everything and with a plot of the same name ending in .svg; or in .csv, .jsonl or
            .parquet for a row per layer; - for these as json lines on standard output.
        save: Folder for the encoder cut after the best layer, with its trained head; a subfolder per task if there are several. Nothing is
            saved for a task on which no layer is above the chance level, unless --layers names only one.
    """
    tasks = None if task is None else _tasks(task)
    chosen = None if layers is None else split_layers(layers)
    _check(tasks, probe=probe, samples=samples, out=out, save=save)
    found = _labels(data, tasks, world=world, seed=seed)
    encoder = model.open()
    curves = _measure(encoder, found, probe=probe, layers=chosen, samples=samples, seed=seed, asked=tasks is not None)
    if not is_stdout(out):
        for curve in curves:
            curve.show()
    for curve in curves:
        say(curve.statement())
    if out is not None and out.suffix.lower() != ".json":
        save_rows(out, (row for curve in curves for row in _rows(curve)), FIELDS)
    elif out is not None:
        asked = [*([] if data is None else [str(data)]), *(["--world"] if world else [])]
        asked += ["--task", ",".join(curve.task for curve in curves), *([] if probe is None else ["--probe", probe])]
        asked += [*([] if layers is None else ["--layers", layers]), "--samples", str(samples), "--seed", str(seed)]
        _write(out, curves, printable(shlex.join(["percept", "layers", *asked, *typed(model)])))
    if save is not None:
        _save(save, encoder, curves)
    return 0


def _tasks(text: str) -> list[str]:
    names = [ALIASES.get(name.strip(), name.strip()) for name in text.split(",") if name.strip()]
    if not names:
        raise PerceptError(f"--task names no task, got {text!r}. Give one or more of {', '.join(PROBES)}.")
    for name in names:
        if name not in PROBES:
            raise unknown_name("task", name, PROBES)
    return list(dict.fromkeys(names))


def _check(
    tasks: Sequence[str] | None, *, probe: str | None, samples: int, out: Path | None, save: Path | None
) -> None:
    """Check the options before anything is read."""
    if samples < 1:
        raise PerceptError(f"--samples must be at least 1, got {samples}.")
    if probe is not None and (tasks is None or len(tasks) > 1):
        raise PerceptError(f"--probe belongs to one task. Name it with --task, such as --task {_task_of(probe)}.")
    check_own_output(out, ".json", ".svg")
    if save is not None and save.exists() and (not save.is_dir() or any(save.iterdir())):
        raise PerceptError(f"{save} exists and is not an empty folder. Give --save a new folder.")


def _task_of(probe: str) -> str:
    """Return the first task that has a probe of this name; the first of all tasks if none has."""
    return next((task for task, probes in PROBES.items() if probe in probes), next(iter(PROBES)))


def _labels(data: Path | None, tasks: Sequence[str] | None, *, world: bool, seed: int) -> "dict[str, Labelled]":
    """Return the labels of each task that is measured."""
    if world == (data is not None):
        raise PerceptError("give either a folder or file with labels, or --world for the generated images.")
    if data is None:
        from percept.eval.world_labels import world_labels

        return {task: world_labels(task, seed=seed) for task in tasks or PROBES}
    from percept.eval.dense_sets import open_labels
    from percept.eval.labelled import need_task

    found = open_labels(data)
    kinds = [f"{task} ({count(len(each), 'sample')})" for task, each in found.items()]
    say(f"{data} has labels for {', '.join(kinds)}")
    return found if tasks is None else {task: need_task(found, task, data) for task in tasks}


def _measure(
    encoder: "Encoder",
    found: "dict[str, Labelled]",
    *,
    probe: str | None,
    layers: Sequence[int] | None,
    samples: int,
    seed: int,
    asked: bool,
) -> "list[LayerCurve]":
    """Score the layers on each task; a task that cannot be measured is left out with its reason, unless it was asked for."""
    from percept.eval.layers import layers as score_layers

    curves, errors, last = [], [], None
    for task, labelled in found.items():
        say(f"{task}: {count(min(samples, len(labelled)), 'sample')} of {labelled.name}")
        try:
            curves.append(score_layers(encoder, labelled, task, probe=probe, layers=layers, samples=samples, seed=seed))
        except PerceptError as error:
            if asked:
                raise
            errors.append(f"{task} is left out: {error}")
            last = error
    if last is not None and not curves:
        raise last
    for error in errors:
        notice(error)
    return curves


def _rows(curve: "LayerCurve") -> "Iterator[dict[str, Any]]":
    for layer, score, validation in zip(curve.layers, curve.scores, curve.validation, strict=True):
        place = {"task": curve.task, "probe": curve.probe, "data": curve.data, "layer": layer}
        yield {
            **place,
            "best": layer == curve.best,
            "validation": validation,
            "chance": curve.chance[0].value,
            **curve.row(score),
        }


def _write(file: Path, curves: "Sequence[LayerCurve]", command: str) -> None:
    from percept.core import VERSION
    from percept.core.io import replacing, write_json
    from percept.eval.curve import svg

    plot = file.with_suffix(".svg")
    with writing(file):
        write_json(file, {"command": command, "version": VERSION, "tasks": [curve.to_dict() for curve in curves]})
    with writing(plot), replacing(plot) as temporary:
        temporary.write_text(svg(curves), encoding="utf-8")
    say(f"wrote {file} and {plot}")


def _save(folder: Path, encoder: "Encoder", curves: "Sequence[LayerCurve]") -> None:
    from percept.eval.layers import save_best

    errors = []
    for curve in curves:
        try:
            target = save_best(folder / curve.task if len(curves) > 1 else folder, encoder, curve)
        except PerceptError as error:
            errors.append(error)
            continue
        head = "" if curve.head is None else f", its {curve.task} head in {target / 'head'}"
        say(f"wrote {target}: blocks 0 to {curve.best}{head}")
    if errors:
        raise PerceptError(" ".join(map(str, errors)))


COMMAND = layers
