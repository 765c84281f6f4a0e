"""Mean IoU of the Fusioner benchmarks, with intervals over runs and images.

A run gives one row per query: class, intersection, union, marked and true pixels, and the number of the image. Queries of one image depend
on each other, and so do those of one run, which share a trained model. So runs and images are resampled, not queries; with two to four
runs such an interval is rough, and the values of the runs are stored with it. A class of one run is a class of its own.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from percept.core.io import read_json, replacing
from percept.eval.statistics import RESAMPLES

CLASS, SAME, UNION, MARKED, TRUE, IMAGE = range(6)
"""Columns of a row."""


def miou(rows: np.ndarray) -> float:
    """Return the mean over classes of summed intersection over summed union."""
    return float(_shares(rows, np.ones((1, len(rows)))).mean())


def resampled(runs: Sequence[np.ndarray], *, shared: bool) -> np.ndarray:
    """Return the mean IoU over all classes of all runs, and `RESAMPLES` values of it with runs and images resampled.

    Args:
        runs: rows of every run.
        shared: whether equal numbers mean the same image in all runs. If not, images are resampled within each run.
    """
    rng, count = np.random.default_rng(0), len(runs)
    times = np.concatenate([np.ones((1, count)), rng.multinomial(count, np.full(count, 1 / count), RESAMPLES)])
    images = [rows[:, IMAGE] for rows in runs]
    everywhere = _draws(np.unique(np.concatenate(images)), rng) if shared else {}
    total = classes = np.zeros(RESAMPLES + 1)
    for number, rows in enumerate(runs):
        drawn = everywhere or _draws(np.unique(images[number]), rng)
        shares = _shares(rows, np.stack([drawn[image] for image in images[number]], axis=1))
        total = total + times[:, number] * np.nansum(shares, axis=1)
        classes = classes + times[:, number] * (~np.isnan(shares)).sum(axis=1)
    return total / classes


def _draws(images: np.ndarray, rng: np.random.Generator) -> dict[float, np.ndarray]:
    """Return how often each image is drawn: once at first, then at random."""
    count = len(images)
    drawn = rng.multinomial(count, np.full(count, 1 / count), RESAMPLES)
    return dict(zip(images.tolist(), np.concatenate([np.ones((1, count)), drawn]).T, strict=True))


def _shares(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the IoU [draws, classes] of weighted rows; NaN for a class that is not drawn."""
    hot = rows[:, CLASS, None] == np.unique(rows[:, CLASS])
    same, union = weights @ (hot * rows[:, SAME, None]), weights @ (hot * rows[:, UNION, None])
    return np.divide(same, union, out=np.full(same.shape, np.nan), where=union > 0)


def described(runs: Sequence[np.ndarray], *, shared: bool) -> dict[str, Any]:
    """Return the mean IoU with its interval, that of each run, and the numbers of queries and images."""
    numbers = [np.unique(rows[:, IMAGE]) for rows in runs]
    value, low, high = _interval(resampled(runs, shared=shared))
    return {
        "mIoU": value, "low": low, "high": high, "queries": sum(map(len, runs)),
        "images": len(np.unique(np.concatenate(numbers))) if shared else sum(map(len, numbers)),
        "runs": [round(miou(rows), 4) for rows in runs],
    }  # fmt: skip


def gap(one: Sequence[np.ndarray], other: Sequence[np.ndarray], *, shared: bool) -> dict[str, Any]:
    """Return the difference of mean IoU of two arms on the same queries, with its interval, and that of each run."""
    value, low, high = _interval(resampled(one, shared=shared) - resampled(other, shared=shared))
    runs = [round(miou(first) - miou(second), 4) for first, second in zip(one, other, strict=True)]
    return {"value": value, "low": low, "high": high, "runs": runs}


def _interval(values: np.ndarray) -> tuple[float, float, float]:
    low, high = np.quantile(values[1:], (0.025, 0.975))
    return round(float(values[0]), 4), round(float(low), 4), round(float(high), 4)


def chance(rows: np.ndarray, pixels: int) -> np.ndarray:
    """Return rows whose intersection and union are those expected of as many random pixels of an image as were marked."""
    expected = rows.astype(float)
    expected[:, SAME] = expected[:, MARKED] * expected[:, TRUE] / pixels
    expected[:, UNION] = expected[:, MARKED] + expected[:, TRUE] - expected[:, SAME]
    return expected


def read_rows(folder: Path, arm: str, name: str, runs: int) -> list[np.ndarray]:
    """Return the rows of every run of an arm on one set."""
    return [np.array(read_json(folder / f"{run} {arm}.json")["sets"][name]["rows"], np.int32) for run in range(runs)]


def save_rows(file: Path | None, rows: Mapping[str, np.ndarray]) -> None:
    """Write all rows to a .npz next to a result file, for intervals that are computed later; None writes nothing."""
    if file is not None:
        with replacing(file.with_suffix(".npz")) as part, part.open("wb") as opened:
            np.savez_compressed(opened, **dict(rows))  # type: ignore[arg-type]
