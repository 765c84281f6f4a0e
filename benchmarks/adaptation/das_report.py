"""What the runs of benchmarks/adaptation/das.py say: means over cells, paired differences, and the rank of the choice among all sets."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from percept.core.report import table
from percept.eval.statistics import mean
from percept.methods.adaptation.bench import verdict

Cell = Mapping[str, Mapping[str, Any]]
FEWEST = 3
"""Cells from which the interval is a bootstrap over cells."""
CHOSEN = {"das": "search standardised", "das, published reward": "search exp"}


def named(cell: Cell) -> dict[str, float]:
    """Return the accuracy of every arm of a cell; random is the mean of all sets that were trained."""
    sets = {name.removeprefix("skip "): run["accuracy"] for name, run in cell.items() if name.startswith("skip")}
    found = {name: cell[name]["accuracy"] for name in ("adapters", "lora") if name in cell}
    for name, search in CHOSEN.items():
        if search in cell and (chosen := ",".join(map(str, cell[search]["chosen"]))) in sets:
            found[name] = sets[chosen]
    found |= {name: sets[each] for name, each in (("first", "0,1"), ("last", "4,5")) if each in sets}
    return found | ({"random": float(np.mean(list(sets.values())))} if sets else {})


def ranks(cell: Cell) -> dict[str, Any]:
    """Return the share of the other sets that are better than the choice, and Spearman's correlation of the gates with what sets gain."""
    sets = {name.removeprefix("skip "): run["accuracy"] for name, run in cell.items() if name.startswith("skip")}
    search = cell.get(CHOSEN["das"])
    if search is None or len(sets) < 4:
        return {}
    own = sets.get(",".join(map(str, search["chosen"])))
    keys = sorted(sets)
    gates = [sum(search["gates"][int(number)] for number in key.split(",")) for key in keys]
    order = [np.argsort(np.argsort(values)) for values in (gates, [sets[key] for key in keys])]
    return {
        "sets": len(sets), "better than the choice": None if own is None else sum(value > own for value in sets.values()),
        "best set": max(sets, key=lambda key: sets[key]), "best": max(sets.values()), "worst": min(sets.values()),
        "spearman": round(float(np.corrcoef(order[0], order[1])[0, 1]), 3),
    }  # fmt: skip


def flops_saved(cell: Cell) -> float | None:
    """Return the share of the layers' FLOPs that the choice saves, against adapters in every layer."""
    if CHOSEN["das"] not in cell or "adapters" not in cell:
        return None
    run = cell.get(f"skip {','.join(map(str, cell[CHOSEN['das']]['chosen']))}")
    return None if run is None else round(1 - run["layer FLOPs"] / cell["adapters"]["layer FLOPs"], 4)


def cells_of(records: Sequence[Mapping[str, Any]]) -> dict[tuple[Any, ...], dict[str, Mapping[str, Any]]]:
    """Return the runs of every cell by arm."""
    cells: dict[tuple[Any, ...], dict[str, Mapping[str, Any]]] = {}
    for each in records:
        cells.setdefault((each["model"], each["task"], each["seed"]), {})[each["arm"]] = each
    return cells


def judged(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the table of cells and the paired differences of DAS to its rivals."""
    cells = cells_of(records)
    rows = [
        {
            "model": key[0], "task": key[1], "seed": key[2], "accuracy": {name: round(value, 4) for name, value in named(cell).items()},
            "FLOPs saved": flops_saved(cell), **{name: cell.get(search, {}).get("chosen") for name, search in CHOSEN.items()}, "ranks": ranks(cell),
            "times as fast": cell.get("latency", {}).get("times as fast"), "n": next((run["n"] for run in cell.values() if "n" in run), 0),
            "trainable": {name: cell[name]["trainable"] for name in ("adapters", "lora") if name in cell}
            | {"das": next((run["trainable"] for name, run in cell.items() if name.startswith("skip")), None)},
        }
        for key, cell in cells.items()
    ]  # fmt: skip
    pairs = [
        (f"das - {other}", other) for other in ("adapters", "lora", "random", "first", "last", "das, published reward")
    ]
    return {"cells": rows, "differences": [_difference(words, other, rows) for words, other in pairs]}


def _difference(words: str, other: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the mean difference over cells; of fewer than `FEWEST` cells with the interval that the number of test pairs gives."""
    both = [row for row in rows if {"das", other} <= row["accuracy"].keys()]
    if not both:
        return {"difference": words, "cells": 0}
    found = mean(words, np.array([row["accuracy"]["das"] - row["accuracy"][other] for row in both]), seed=0)
    if len(both) < FEWEST:
        variances = [
            value * (1 - value) / row["n"] for row in both for value in (row["accuracy"]["das"], row["accuracy"][other])
        ]
        half = 1.96 * sum(variances) ** 0.5 / len(both)
        found = replace(found, low=found.value - half, high=found.value + half)
    return {
        "difference": words, "cells": len(both), "points": round(100 * found.value, 2),
        "interval": [round(100 * found.low, 2), round(100 * found.high, 2)], "above": verdict(found),
    }  # fmt: skip


def show(results: Mapping[str, Any]) -> None:
    """Print the tables."""
    names = ("adapters", "lora", "das", "das, published reward", "random", "first", "last")

    def percent(value: float | None) -> str:
        return "-" if value is None else f"{100 * value:.1f}"

    lines = [
        (
            row["model"],
            row["task"],
            str(row["seed"]),
            percent(row["FLOPs saved"]),
            *(percent(row["accuracy"].get(name)) for name in names),
        )
        for row in results["cells"]
    ]
    table("% right", ("model", "task", "seed", "FLOPs saved", *names), lines)
    shown = [
        (
            each["difference"],
            f"{each['points']:+.2f}",
            " – ".join(f"{end:.2f}" for end in each["interval"]),
            str(each["cells"]),
            each["above"],
        )
        for each in results["differences"]
        if each["cells"]
    ]
    table("paired differences, points", ("", "difference", "95 % interval", "cells", "above"), shown)
    speeds = [
        (row["model"], row["task"], *map(str, row["times as fast"].values()))
        for row in results["cells"]
        if row["times as fast"]
    ]
    table("times as fast as adapters in every layer", ("model", "task", "batch of 1", "batch of 32"), speeds)
