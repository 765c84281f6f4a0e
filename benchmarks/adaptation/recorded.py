"""Runs of several benchmarks of adaptation as lines of files: what identifies them, reading more than one file, and claims over cells.

Two processes may work side by side on different arms, encoders or seeds if each has its own file; `--report` reads all files.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from beds import home

from percept.core.errors import PerceptError
from percept.core.report import table
from percept.eval.statistics import mean
from percept.methods.adaptation.bench import FEWEST, digest, read_records, verdict
from percept.methods.adaptation.few import LabelledSet

Record = dict[str, Any]
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


def of_one_setting(records: Iterable[Record], place: Sequence[str]) -> list[Record]:
    """Return the records if no two of one place differ in their settings.

    Raises:
        PerceptError: two of them do.
    """
    found: dict[tuple[Any, ...], Record] = {}
    for record in records:
        where = tuple(record[name] for name in place)
        if found.setdefault(where, record)["settings"] != record["settings"]:
            raise PerceptError(
                f"the runs of {' '.join(map(str, where))} have two different settings. Give --runs files of one setting only."
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


def claim(words: str, values: Sequence[float], *, sign: int = 1, margin: float = 0.0) -> Record:
    """Return the mean of one value per cell, with a bootstrap interval over cells, judged; below `FEWEST` cells nothing is said."""
    row: Record = {"claim": words, "claimed": f"{'above' if sign > 0 else 'below'} {margin:g}"}
    if not len(values):
        return row | {"verdict": verdict(None)}
    found = mean(words, np.array(values, dtype=float), unit="")
    row |= {"value": round(found.value, 4), "interval": [round(found.low, 4), round(found.high, 4)], "cells": found.n}
    return row | {"verdict": verdict(found, sign=sign, margin=margin, fewest=FEWEST)}


def show_claims(title: str, rows: Iterable[Record]) -> None:
    """Print those claims that were measured; values are shares, or ratios where the words say so."""
    shown = [
        (row["claim"], f"{row['value']:+.3f}", " – ".join(f"{end:+.3f}" for end in row["interval"]), row["claimed"], str(row["cells"]), row["verdict"])
        for row in rows
        if "value" in row
    ]  # fmt: skip
    if shown:
        table(title, ("claim", "value", "95 % interval", "claimed", "cells", "verdict"), shown)
