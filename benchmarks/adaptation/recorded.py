"""Runs of the benchmarks of adaptation as lines of files: what identifies them, reading more than one file, and claims over cells and over images.

Two processes may work side by side on different arms, encoders or seeds if each has its own file; `--report` reads all files.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from beds import home

from percept.core.errors import PerceptError
from percept.core.report import table
from percept.eval.statistics import Score, mean
from percept.methods.adaptation.bench import FEWEST, digest, read_records, verdict
from percept.methods.adaptation.few import LabelledSet

Record = dict[str, Any]
RESAMPLES = 1000
"""Of the bootstrap over images."""
UNSETTLING = ("models", "seeds", "arms", "cells", "scenarios", "streams", "runs", "json_file", "report", "threads")
"""Options that do not change what a run measures."""
ABOVE: Mapping[str, Any] = {}
"""Arguments of `claim`: above zero everywhere in the interval."""
ABOUT: Mapping[str, Any] = {"margin": -0.01}
"""Arguments of `claim`: about equal, which is more than 1 point below zero nowhere in the interval."""
NOT_ABOVE: Mapping[str, Any] = {"sign": -1, "margin": 0.01}
"""Arguments of `claim`: not above, which is less than 1 point above zero everywhere in the interval."""


def weights_of(encoder: Any) -> str:
    """Return a short hash of weights, configuration, preprocessing and tokenizer."""
    return digest([encoder.identity.image, encoder.identity.text])


def content_of(data: LabelledSet) -> str:
    """Return a short hash of the images, classes and template of a set."""
    return digest([data.name, data.classes, data.template, data.keys, data.labels.tolist(), data.pool.tolist(), data.test.tolist(), data.sentences])  # fmt: skip


def settings_of(options: Any, **more: Any) -> str:
    """Return a short hash of the options that decide what a run measures, and of anything else that does."""
    own = {each.name: getattr(options, each.name) for each in fields(options) if each.name not in UNSETTLING}
    return digest([own, more])


def use_threads(count: int | None) -> None:
    """Limit the threads of PyTorch; None leaves them as they are."""
    if count is not None:
        torch.set_num_threads(count)


def files_of(given: Sequence[Path] | None, name: str) -> list[Path]:
    """Return the files of runs, of which the first is written to; `name` in the cache by default."""
    files = list(given or ()) or [home() / name]
    files[0].parent.mkdir(parents=True, exist_ok=True)
    return files


def read_files(files: Iterable[Path], key: Sequence[str]) -> list[Record]:
    """Return the records of all files that have the fields of `key`, each key once; those of older formats are left out."""
    records = [record for file in files for record in read_records(file) if set(key) <= record.keys()]
    return list({tuple(record[name] for name in key): record for record in reversed(records)}.values())[::-1]


def of_one_setting(records: Iterable[Record], place: Sequence[str], models: Mapping[str, str]) -> list[Record]:
    """Return the records if no two of one place differ in their settings, and no two of one encoder in its weights.

    Args:
        models: field with the name of an encoder → field with the hash of its weights.

    Raises:
        PerceptError: two of them do.
    """
    found: dict[tuple[Any, ...], Record] = {}
    weights: dict[str, str] = {}
    for record in records:
        where = tuple(record[name] for name in place)
        if found.setdefault(where, record)["settings"] != record["settings"]:
            raise PerceptError(
                f"the runs of {' '.join(map(str, where))} have two different settings. Give --runs files of one setting only."
            )
        for name, own in models.items():
            if weights.setdefault(record[name], record[own]) != record[own]:
                raise PerceptError(
                    f"the runs of {record[name]} have different weights. Give --runs files of runs with the same weights."
                )
    return list(found.values())


def differences(
    records: Iterable[Record], cell: Sequence[str], arm: str, than: str, score: Callable[[Record], float | None], *, field: str = "arm"
) -> list[float]:  # fmt: skip
    """Return the differences of a score of two arms in every cell that has both."""
    cells: dict[tuple[Any, ...], dict[str, float]] = {}
    for record in records:
        if record[field] in (arm, than) and (value := score(record)) is not None:
            cells.setdefault(tuple(record[name] for name in cell), {})[record[field]] = value
    return [both[arm] - both[than] for both in cells.values() if len(both) == 2]


def over_images(parts: Sequence[np.ndarray], *, seed: int = 0) -> tuple[float, float]:
    """Return a 95 % interval of the sum of the means of `parts`, each with one value for every image of a set; sets are resampled independently."""
    rng = np.random.default_rng(seed)
    draws = np.zeros(RESAMPLES)
    for values in parts:
        draws += values[rng.integers(len(values), size=(RESAMPLES, len(values)))].mean(axis=1)
    low, high = np.quantile(draws, (0.025, 0.975))
    return float(low), float(high)


def claim(
    words: str, values: Sequence[float], images: tuple[float, float] | None = None, *, sign: int = 1, margin: float = 0.0, places: int = 4
) -> Record:  # fmt: skip
    """Return the claim that the mean of one value per cell is above a margin, or below it; under `FEWEST` cells there is no verdict.

    Args:
        values: one per cell; the first interval is a bootstrap over them.
        images: ends of an interval over test images.
        sign: 1 for above, -1 for below.
        places: decimals that are kept.
    """
    row: Record = {"claim": words, "claimed": f"{'above' if sign > 0 else 'below'} {margin:g}"}
    if not len(values):
        return row | {"verdict": verdict(None)}
    found = mean(words, np.array(values, dtype=float), unit="")
    row |= {"value": round(found.value, places), "interval": [round(found.low, places), round(found.high, places)], "cells": found.n}  # fmt: skip
    row |= {"verdict": verdict(found, sign=sign, margin=margin, fewest=FEWEST)}
    if images is not None:
        low, high = (round(end, places) for end in images)
        drawn = Score(name=words, value=found.value, n=found.n, low=images[0], high=images[1])
        row |= {"interval over images": [low, high], "verdict over images": verdict(drawn, sign=sign, margin=margin)}
    return row


def show_claims(title: str, rows: Iterable[Record]) -> None:
    """Print those claims that were measured, in the unit of their values."""
    rows = [row for row in rows if "value" in row]
    columns = ("claim", "value", "95 % over cells", "claimed", "cells", "verdict")
    over = [name for name in ("interval over images", "verdict over images") if any(name in row for row in rows)]
    lines = [
        (
            row["claim"], f"{row['value']:+.3f}", ends(row["interval"]), row["claimed"], str(row["cells"]), row["verdict"],
            *(ends(row.get(name, "")) for name in over),
        )
        for row in rows
    ]  # fmt: skip
    if lines:
        table(title, (*columns, *over), lines)


def ends(interval: Sequence[float] | str) -> str:
    """Return both ends of an interval as text; a text is returned as it is."""
    return interval if isinstance(interval, str) else " – ".join(f"{end:+.3f}" for end in interval)
