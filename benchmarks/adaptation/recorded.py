"""Runs of the benchmarks of adaptation as lines of files: options, what identifies runs, reading and adding them, and claims over cells and over images.

Two processes may work side by side on different arms, encoders or seeds if each has its own file; `--report` reads all files.
"""

import argparse
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from beds import HIGHEST, LOWEST, home
from cells import runs_in

from percept.core.errors import PerceptError
from percept.core.io import append_json_line
from percept.core.report import notice, out, table
from percept.eval.statistics import Score, mean
from percept.methods.adaptation.bench import FEWEST, by_key, digest, verdict
from percept.methods.adaptation.few import LabelledSet

Record = dict[str, Any]
T = TypeVar("T")
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


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options that the benchmarks share."""

    threads: int = 1
    """Threads of PyTorch."""
    report: bool = False
    """Run nothing, and judge the runs of the files that have these options."""
    runs: tuple[Path, ...] = ()
    """Files of the runs, the first of which is written to; one in the cache by default."""
    json_file: Path | None = None
    """File for the result."""


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """Return a parser of the options that the benchmarks share, those of `RunOptions`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch")
    parser.add_argument("--report", action="store_true", help="run nothing, and judge the runs of the files that have these options")  # fmt: skip
    parser.add_argument("--runs", type=Path, nargs="+", help="files of the runs, of which the first is written to; default: one in the cache")  # fmt: skip
    parser.add_argument("--json-file", type=Path, help="for the result")
    return parser


def files_of(given: Sequence[Path] | None, name: str) -> list[Path]:
    """Return the files of runs, of which the first is written to; `name` in the cache by default."""
    files = list(given or ()) or [home() / name]
    files[0].parent.mkdir(parents=True, exist_ok=True)
    return files


def passes_gate(name: str, share: float, chance: float, model: str, *, what: str = "zero-shot", highest: float = HIGHEST) -> bool:  # fmt: skip
    """Return whether a share that a model gets right leaves room to gain and to lose, as the gate of `beds.py`; if it does not, say so."""
    if LOWEST * chance <= share <= highest:
        return True
    notice(f"{name} is left out: {what} {share:.1%} does not pass the gate of {model}")
    return False


def place_of(record: Record, key: Sequence[str]) -> tuple[Any, ...]:
    """Return the values of the fields that identify a run."""
    return tuple(tuple(value) if isinstance(value := record[name], list) else value for name in key)


class Runs:
    """Records of runs in files by the fields of a key; new ones are added to the first file."""

    def __init__(self, files: Sequence[Path], key: Sequence[str]) -> None:
        """Read the files."""
        self.file, self.key = files[0], tuple(key)
        self.done = {place_of(record, key): record for record in read_files(files, key)}

    def once(
        self, place: Sequence[Any], made: Callable[[], Record], told: Callable[[Record], str] | None = None
    ) -> Record:
        """Return the record of a run, which is made if it is not done; it gets its seconds if it has none.

        Args:
            place: values of the key.
            made: measures what the record holds besides.
            told: returns a line that is printed about a new record.

        Raises:
            PerceptError: the first file is one of cells, which is only read.
        """
        where = tuple(place)
        if where not in self.done:
            if self.file.suffix == ".json":
                raise PerceptError(
                    f"{self.file} is only read. Give --runs a json-lines file first, and cells.py pack its runs."
                )
            start = time.perf_counter()
            record = dict(zip(self.key, where, strict=True)) | made()
            record.setdefault("seconds", round(time.perf_counter() - start, 1))
            self.done[where] = record
            append_json_line(self.file, self.done[where])
            if told is not None:
                out.print(told(record), soft_wrap=True)
        return self.done[where]


def best_of(candidates: Sequence[T], worth: Callable[[T], float]) -> T:
    """Return the candidate of the largest worth, such as a learning rate; the smallest of equal ones. A single one is not tried."""
    return candidates[0] if len(candidates) == 1 else max(sorted(candidates), key=worth)  # type: ignore[type-var]


def batches(count: int, size: int, steps: int, rng: torch.Generator) -> Iterator[list[int]]:
    """Yield the rows of each step: all rows in random order, again and again, without a last batch that is smaller."""
    order = torch.zeros(0, dtype=torch.long)
    for _ in range(steps):
        if len(order) < size:
            order = torch.randperm(count, generator=rng)
        rows, order = order[:size], order[size:]
        yield rows.tolist()


def read_files(files: Iterable[Path], key: Sequence[str]) -> list[Record]:
    """Return the records of all files, each key once.

    Raises:
        PerceptError: a record lacks a field of the key, because an earlier version of the benchmark wrote it.
    """
    found: dict[tuple[Any, ...], Record] = {}
    for file in files:
        for record in runs_in(file):
            if absent := [name for name in key if name not in record]:
                raise PerceptError(f"{file} has runs of an earlier version, without {', '.join(absent)}. Give --runs a new file.")  # fmt: skip
            found.setdefault(place_of(record, key), record)
    return list(found.values())


def records_of(files: Iterable[Path]) -> list[Record]:
    """Return the records of `percept.methods.adaptation.bench` in all files, each run once.

    Raises:
        PerceptError: two files have a run with different settings or weights.
    """
    return list(by_key(record for file in files for record in runs_in(file)).values())


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
        where = place_of(record, place)
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


@dataclass(frozen=True, kw_only=True)
class Claim:
    """That a score of an arm is above, or with sign -1 below, that of a different one by `margin`."""

    words: str
    arm: str
    than: str = ""
    """Empty where the score itself is compared with the margin."""
    score: str
    row: str = ""
    """Of the list of systems."""
    sign: int = 1
    margin: float = 0.0


def judged(
    records: Iterable[Record], made: Claim, cell: Sequence[str], scores: Callable[[Record], Mapping[str, float]]
) -> Record:
    """Return a claim over cells, not measured where there is none that has both arms.

    Args:
        cell: fields that two runs of a pair share.
        scores: returns the scores of a run by name.
    """
    records = list(records)
    if made.than:
        values = differences(records, cell, made.arm, made.than, lambda record: scores(record).get(made.score))
    else:
        own = [scores(record).get(made.score) for record in records if record["arm"] == made.arm]
        values = [value for value in own if value is not None]
    words = f"{made.row}: {made.words}" if made.row else made.words
    row = claim(words, values, sign=made.sign, margin=made.margin)
    return row | {"arm": made.arm, "than": made.than, "score": made.score}


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
