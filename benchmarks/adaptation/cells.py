"""What the comparisons of single methods share: what identifies a cell, and claims with an interval over cells and one over images."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from percept.eval.statistics import Score, mean
from percept.methods.adaptation.bench import FEWEST, digest, verdict

RESAMPLES = 1000
"""Of the bootstrap over images."""
UNSETTLING = ("models", "seeds", "arms", "cells", "scenarios", "streams", "runs", "json_file", "report", "threads")
"""Options that do not change what a cell measures."""
Images = Sequence[Sequence[np.ndarray]]
"""For each kind of cell the addends of its value, each with one value for every image."""


def settings_of(options: Any, **more: Any) -> str:
    """Return a short hash of the options that decide what a cell measures, and of anything else that does."""
    own = {each.name: getattr(options, each.name) for each in fields(options) if each.name not in UNSETTLING}
    return digest([own, more])


def over_images(parts: Images, *, seed: int = 0) -> tuple[float, float]:
    """Return a 95 % interval of the mean over kinds of cells: the images of every addend are drawn anew, apart from those of the others."""
    rng = np.random.default_rng(seed)
    draws = np.zeros(RESAMPLES)
    for addends in parts:
        for values in addends:
            draws += values[rng.integers(len(values), size=(RESAMPLES, len(values)))].mean(axis=1) / len(parts)
    low, high = np.quantile(draws, (0.025, 0.975))
    return float(low), float(high)


def claim_row(
    words: str, values: Sequence[float], images: tuple[float, float] | None = None, *, sign: int = 1, margin: float = 0.0, places: int = 4
) -> dict[str, Any]:  # fmt: skip
    """Return a claim that the mean of `values` is above `margin`, or below it.

    Args:
        values: one for each cell of set, foundation and seed; the first interval is a bootstrap over them.
        images: ends of an interval over test images.
        sign: 1 for above, -1 for below.
    """
    found = mean(words, np.asarray(values))
    row: dict[str, Any] = {
        "claim": words, "difference": round(found.value, places), "interval": [round(found.low, places), round(found.high, places)],
        "cells": found.n, "verdict": verdict(found, sign=sign, margin=margin, fewest=FEWEST),
    }  # fmt: skip
    if images is not None:
        drawn = Score(name=words, value=found.value, n=found.n, low=images[0], high=images[1])
        row |= {
            "interval over images": [round(end, places) for end in images],
            "verdict over images": verdict(drawn, sign=sign, margin=margin),
        }
    return row


HEADINGS = ("claim", "difference", "95 % over cells", "cells", "verdict", "95 % over images", "verdict over images")


def shown(row: dict[str, Any], *, factor: float = 100.0) -> tuple[str, ...]:
    """Return a claim as a row of a table under `HEADINGS`."""
    ends = {name: " – ".join(f"{factor * end:.1f}" for end in row[name]) for name in ("interval", "interval over images") if name in row}  # fmt: skip
    return (
        row["claim"], f"{factor * row['difference']:+.1f}", ends["interval"], str(row["cells"]), row["verdict"],
        ends.get("interval over images", ""), row.get("verdict over images", ""),
    )  # fmt: skip
