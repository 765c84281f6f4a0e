"""`percept report`: measure models by the whole bundled suite and write a page that shows them side by side."""

import json
import re
import shlex
import time
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import tyro

from percept.cli.options import LOAD, Load, LoadOptions, typed
from percept.cli.show import check_output, say, writing
from percept.core.errors import PerceptError
from percept.core.report import notice, printable
from percept.eval.table import Plan

PLAN = Plan(count=1500)
OUT = Path("card.html")
REQUIRED = ("model", "command", "seed", "split", "seconds", "scores", "facts")
ROW = ("evaluation", "name", "value", "unit", "better", "n", "low", "high")
"""What a card, and a row of its scores, must have."""


def report(
    models: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="MODEL [MODEL ...]")],
    load: Load = LOAD,
    plan: Annotated[Plan, tyro.conf.arg(name="")] = PLAN,
    out: Path = OUT,
) -> int:
    """Measure models and write a report card: classification, retrieval, video, robustness, drawings by artists, dense tasks, correspondence, calibration, speed, memory.

    Args:
        models: Names, folders or weight files of models; or cards in .json that percept report or percept eval wrote.
        out: The page, ending in .html. The numbers of each model are written to the same folder as .json, with the outcome of every
            sample in .samples.jsonl, for percept compare.

    Raises:
        PerceptError: no model, or none that can be opened and measured.
    """
    if not models:
        raise PerceptError("no model was given. Give one or more, for example: percept report nano")
    if len(models) > 1 and (load.weights or load.tokenizer):
        raise PerceptError(f"--weights and --tokenizer belong to one model, got {len(models)}. Report one at a time.")
    check_output(out, ".html")
    files = _files(out, models)
    load.check(model for model in models if not model.endswith(".json"))
    saved = {model: read_card(Path(model)) for model in models if model.endswith(".json")}
    cards: list[dict[str, Any]] = []
    errors: list[PerceptError] = []
    for model in models:
        try:
            cards.append(saved.get(model) or _measured(model, load, plan, files[model], out))
        except PerceptError as error:  # those that follow are measured nevertheless
            errors.append(error)
            if len(models) > 1:
                notice(f"{model} is not on the page: {error}")
            continue
        _write_page(out, cards)
    if not cards:
        raise errors[0]
    say(f"wrote {out}")
    return 2 if errors else 0


def _measured(model: str, load: LoadOptions, plan: Plan, file: Path, out: Path) -> dict[str, Any]:
    """Measure a model, write its numbers, and return them."""
    from percept.eval import record
    from percept.eval.memory import memory
    from percept.eval.report import add_memory, card, measure
    from percept.weights.locate import without_suffixes

    encoder = load.load_any(model)
    say(f"{model}: measuring; {plan.count:,} images in the main set")
    measured = measure(encoder, plan)
    start = time.perf_counter()
    options = {field.name: getattr(load, field.name) for field in fields(LoadOptions)}
    add_memory(measured, memory(model, options), time.perf_counter() - start)
    command = ["percept", "report", model, *typed(load, plan), "--out", str(out)]
    suffix = model.removeprefix(without_suffixes(model)[0])
    made = card(encoder, measured, plan, command=printable(shlex.join(command)), suffix=suffix)
    made.show()
    with writing(file):
        written = [
            *made.save(file),
            *record.save(file, {name: each.records for name, each in measured.results.items()}),
        ]
    say(f"wrote {', '.join(map(str, written))}")
    return made.to_dict()


def _files(out: Path, models: Sequence[str]) -> dict[str, Path]:
    """Return the file of the numbers of each model that is measured: next to the page, with the model's name if there are several."""
    measured = [model for model in dict.fromkeys(models) if not model.endswith(".json")]
    files: dict[str, Path] = {}
    for model in measured:
        name = re.sub(r"[^\w.@-]+", "-", Path(model).name or model).strip("-") or "model"
        file = out.with_suffix(".json") if len(models) == 1 else out.with_name(f"{out.stem}.{name}.json")
        while file in files.values():
            file = file.with_name(f"{file.stem}-{len(files) + 1}.json")
        files[model] = file
    return files


def read_card(file: Path) -> dict[str, Any]:
    """Return a saved card.

    Raises:
        PerceptError: no such file, or not a card.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise PerceptError(
            f"{file} cannot be read: {error.strerror}. Give a card that percept report or percept eval wrote."
        ) from None
    except ValueError:
        found = None
    card: dict[str, Any] = found if isinstance(found, dict) else {}
    missing = [name for name in REQUIRED if name not in card]
    missing = missing or [name for row in card["scores"] for name in ROW if name not in row]
    if missing:
        raise PerceptError(
            f"{file} is not a report card: it has no {missing[0]}. Give a file that percept report or percept eval wrote."
        )
    return card


def _write_page(out: Path, cards: Sequence[dict[str, Any]]) -> None:
    from percept.core.io import replacing
    from percept.eval.page import render

    with writing(out), replacing(out) as temporary:
        temporary.write_text(render(cards), encoding="utf-8")


COMMAND = report
