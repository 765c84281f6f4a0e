"""What the runs of benchmarks/adaptation/das.py say: means over cells, paired differences, and the rank of the choice among all sets."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from family_report import rank
from recorded import ABOUT, ABOVE, Record, claim, show_claims

from percept.core.report import out, table

Cell = Mapping[str, Mapping[str, Any]]
PLACE = ("foundation", "weights", "model", "task", "seed")
"""Fields that identify a cell."""
CHOSEN = {"das": "search standardised", "das, published reward": "search exp"}
TOP = 0.2
"""Share of the sets of skipped layers among which the choice is claimed to be."""
LEAST_SETS = 5
"""Sets of skipped layers below which the rank of the choice says nothing."""
RIVALS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("adapters", ABOUT), ("lora", ABOUT), ("random", ABOVE), ("first", ABOVE), ("last", ABOVE), ("das, published reward", ABOVE),
)  # fmt: skip
"""What DAS is compared with: about equal to the first two, above the others."""


def sets_of(cell: Cell) -> dict[str, float]:
    """Return the accuracy of every set of skipped layers that was trained."""
    return {name.removeprefix("skip "): run["accuracy"] for name, run in cell.items() if name.startswith("skip")}


def choice(cell: Cell, name: str = "das") -> str | None:
    """Return the set that a search chose, as sets are named; None if it was not run."""
    search = cell.get(CHOSEN[name])
    return None if search is None else ",".join(map(str, search["chosen"]))


def named(cell: Cell) -> dict[str, float]:
    """Return the accuracy of every arm of a cell; random is the mean of the sets that were trained, without those that a search chose."""
    sets = sets_of(cell)
    found = {name: cell[name]["accuracy"] for name in ("adapters", "lora") if name in cell}
    chosen = {name: own for name in CHOSEN if (own := choice(cell, name)) is not None}
    found |= {name: sets[own] for name, own in chosen.items() if own in sets}
    found |= {name: sets[each] for name, each in (("first", "0,1"), ("last", "4,5")) if each in sets}
    others = [value for each, value in sets.items() if each not in chosen.values()]
    return found | ({"random": float(np.mean(others))} if others else {})


def ranks(cell: Cell) -> dict[str, Any]:
    """Return the share of the sets that are better than the choice, and Spearman's correlation of the gates with what sets gain."""
    sets, search = sets_of(cell), cell.get(CHOSEN["das"])
    if search is None or len(sets) < LEAST_SETS:
        return {}
    own = sets.get(choice(cell) or "")
    keys = sorted(sets)
    gates = [sum(search["gates"][int(number)] for number in key.split(",")) for key in keys]
    order = [rank(np.array(values)) for values in (gates, [sets[key] for key in keys])]
    level = any(np.ptp(each) == 0 for each in order)  # equal values have no correlation
    better = None if own is None else sum(value > own for value in sets.values())
    return {
        "sets": len(sets), "better than the choice": better, "share better": None if better is None else round(better / len(sets), 4),
        "best set": max(sets, key=lambda key: sets[key]), "best": max(sets.values()), "worst": min(sets.values()),
        "spearman": None if level else round(float(np.corrcoef(order[0], order[1])[0, 1]), 3),
    }  # fmt: skip


def flops_saved(cell: Cell) -> float | None:
    """Return the share of the layers' FLOPs that the choice saves, against adapters in every layer."""
    if CHOSEN["das"] not in cell or "adapters" not in cell:
        return None
    run = cell.get(f"skip {choice(cell)}")
    return None if run is None else round(1 - run["layer FLOPs"] / cell["adapters"]["layer FLOPs"], 4)


def cells_of(records: Sequence[Mapping[str, Any]]) -> dict[tuple[Any, ...], dict[str, Mapping[str, Any]]]:
    """Return the runs of every cell by arm."""
    cells: dict[tuple[Any, ...], dict[str, Mapping[str, Any]]] = {}
    for each in records:
        cells.setdefault(tuple(each[name] for name in PLACE), {})[each["arm"]] = each
    return cells


def judged(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the table of cells and the claims over them."""
    rows = [
        dict(zip(PLACE, key, strict=True)) | {
            "accuracy": {name: round(value, 4) for name, value in named(cell).items()},
            "FLOPs saved": flops_saved(cell), **{name: cell.get(search, {}).get("chosen") for name, search in CHOSEN.items()}, "ranks": ranks(cell),
            "times as fast": cell.get("latency", {}).get("times as fast"), "n": next((run["n"] for run in cell.values() if "n" in run), 0),
            "trainable": {name: cell[name]["trainable"] for name in ("adapters", "lora") if name in cell}
            | {"das": next((run["trainable"] for name, run in cell.items() if name.startswith("skip")), None)},
        }
        for key, cell in cells_of(records).items()
    ]  # fmt: skip
    return {"cells": rows, "claims": [*differences(rows), *savings(rows), ranked(rows)]}


def differences(rows: Sequence[Record]) -> list[Record]:
    """Return the claims about accuracy: about that of adapters and of LoRA, above that of skipping without a search."""
    found = []
    for other, how in RIVALS:
        both = [row["accuracy"] for row in rows if {"das", other} <= row["accuracy"].keys()]
        found.append(claim(f"accuracy, das - {other}", [each["das"] - each[other] for each in both], **how))
    return found


def savings(rows: Sequence[Record]) -> list[Record]:
    """Return the claims about FLOPs and latency."""
    saved = [row["FLOPs saved"] for row in rows if row["FLOPs saved"] is not None]
    found = [
        claim(f"share of the layers' FLOPs saved, at least {least:.0%}", saved, margin=least) for least in (0.12, 0.3)
    ]
    times = [row["times as fast"] for row in rows if row["times as fast"]]
    return found + [
        claim(f"times as fast as adapters in every layer (ratio), {size}", [each[size] for each in times], margin=1.0)
        for size in (times[0] if times else ())
    ]


def ranked(rows: Sequence[Record]) -> Record:
    """Return the claim that the choice is among the best sets; its value is the share of sets that are better."""
    shares = [row["ranks"]["share better"] for row in rows if row["ranks"].get("share better") is not None]
    row = claim(f"share of the trained sets better than the choice, below {TOP:.0%}", shares, sign=-1, margin=TOP)
    return row | {"cells within": sum(share < TOP for share in shares)}


def show(results: Mapping[str, Any]) -> None:
    """Print the tables."""
    names = ("adapters", "lora", "das", "das, published reward", "random", "first", "last")

    def percent(value: float | None) -> str:
        return "-" if value is None else f"{100 * value:.1f}"

    def better(row: Record) -> str:
        return f"{row['ranks']['better than the choice']} of {row['ranks']['sets']}" if row["ranks"] else "-"

    lines = [
        (
            *(str(row[name]) for name in PLACE if name != "weights"), percent(row["FLOPs saved"]),
            *(percent(row["accuracy"].get(name)) for name in names), better(row),
        )
        for row in results["cells"]
    ]  # fmt: skip
    table("% right", ("encoder", "model", "task", "seed", "FLOPs saved", *names, "better sets"), lines)
    show_claims("claims over cells", results["claims"])
    within = results["claims"][-1]
    out.print(
        f"the choice is in the top {TOP:.0%} in {within['cells within']} of {within.get('cells', 0)} cells",
        soft_wrap=True,
    )
    speeds = [
        (row["foundation"], row["model"], row["task"], *map(str, row["times as fast"].values()))
        for row in results["cells"]
        if row["times as fast"]
    ]
    if speeds:
        sizes = next(row["times as fast"] for row in results["cells"] if row["times as fast"])
        table("times as fast as adapters in every layer", ("encoder", "model", "task", *sizes), speeds)
