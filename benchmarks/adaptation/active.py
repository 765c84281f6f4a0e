"""Which images are worth a label? Acquisitions with and without the balance of PCB, on pools with even and uneven classes.

    PYTHONPATH=benchmarks PERCEPT_CACHE=... python benchmarks/adaptation/active.py --json-file benchmarks/adaptation/active.json

Every acquisition plain, balanced by predicted classes (PCB), and balanced by true classes as a bound; equal budgets, the same first round.
Classes are equally frequent in a pool, or their frequencies fall as 1 / rank. Reported are accuracy and entropy of the labels after every round, how often the model had
predicted the label, and differences of the mean over all rounds, paired by set and seed. Runs are lines of --runs, so the command goes on where
it was interrupted.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from beds import BEDS, DRAWN, about, drawn, home, seen_by
from harness import save

import percept
from percept.core.io import append_json_line
from percept.core.report import out, table
from percept.eval.statistics import mean
from percept.methods.adaptation.active import ACQUISITIONS, Plan, Round, area, learn, uneven
from percept.methods.adaptation.bench import FEWEST, Arm, read_records, verdict
from percept.methods.adaptation.few import LabelledSet, Seen
from percept.methods.adaptation.pcb import Described

SETS = ("chalk", "fog", "pixels", "psychedelic", "satellite", "x-ray", "histology", "digits")
"""Digits have a pool of their own; those of the others are drawn."""
CELL = ("data", "foundation", "seed", "power")
"""Fields that two runs of a pair share."""
BALANCES = ("none", "predicted", "true")
DESCRIBED = (("names", "nothing"), ("scores", "scores"), ("embeddings", "embeddings"))
"""Labels of the arms of descriptions, which are compared with BADGE + PCB."""


def large(name: str, pool: int) -> LabelledSet | None:
    """Return a set with `pool` images of every class, or with those that there are."""
    return drawn(name, pool) if name in DRAWN else BEDS[name]()


def rounds_of(seen: Seen, plan: Plan, describe: Any, seed: int, epochs: int, power: float) -> list[Round]:
    """Return the rounds of one run."""
    arm = Arm(method="pcb", config=Described.Config(describe=describe), training={"epochs": epochs})
    pool = uneven(seen.data.pool, seen.data.labels, power=power, seed=seed)
    return learn(arm, seen, plan, seed=seed, pool=pool)


def as_record(name: str, seen: Seen, seed: int, power: float, rounds: Sequence[Round]) -> dict[str, Any]:
    """Return a run as plain data."""
    return {
        "label": name, "data": seen.data.name, "foundation": seen.encoder.name, "seed": seed, "power": power, "area": area(rounds),
        "labels": [each.labelled for each in rounds], "accuracy": [round(each.accuracy.value, 4) for each in rounds],
        "label entropy": [round(each.label_entropy, 4) for each in rounds],
        "predicted right": [each.predicted_right for each in rounds], "seconds": round(sum(each.seconds for each in rounds), 1),
    }  # fmt: skip


def plans(rounds: int) -> list[tuple[str, Plan, str]]:
    """Return the arms: name, plan and how descriptions are used."""
    found = [
        (plan.name, plan, "nothing")
        for acquisition in ACQUISITIONS
        for balance in BALANCES
        if (plan := Plan(acquisition=acquisition, balance=balance, rounds=rounds))
        and (acquisition != "random" or balance == "none")  # type: ignore[arg-type]
    ]
    badge = Plan(acquisition="badge", rounds=rounds)
    return [*found, *((f"{badge.name}, {label}", badge, describe) for label, describe in DESCRIBED[1:])]


def run_all(options: argparse.Namespace, file: Path) -> list[dict[str, Any]]:
    """Run what the file does not hold yet, and return all of its records."""
    done = {tuple(each[name] for name in (*CELL, "label")) for each in read_records(file)}
    arms = [arm for arm in plans(options.rounds) if not options.arms or arm[0] in options.arms.split(",")]
    cases = [(seed, power) for seed in range(1, options.seeds + 1) for power in map(float, options.powers.split(","))]
    for seen in sets(options):
        for seed, power in cases:
            for label, plan, describe in arms:
                if (seen.data.name, seen.encoder.name, seed, power, label) in done:
                    continue
                rounds = rounds_of(seen, plan, describe, seed, options.epochs, power)
                append_json_line(file, as_record(label, seen, seed, power, rounds))
                curve = " ".join(f"{each.accuracy.value:.0%}" for each in rounds)
                out.print(f"{seen.data.name} {power:g} {seed} {label}: {curve}", soft_wrap=True)
    return read_records(file)


def sets(options: argparse.Namespace) -> Iterator[Seen]:
    """Yield the sets with the vectors of every encoder."""
    for model in options.models.split(","):
        encoder = percept.load(model, dtype="float32")
        for name in options.sets.split(","):
            data = large(name, options.pool)
            if data is not None:
                yield seen_by(encoder, data)


def difference(
    records: Sequence[dict[str, Any]], label: str, than: str, score: Callable[[dict[str, Any]], float], *, sign: int = 1
) -> dict[str, Any]:
    """Return the paired difference of two arms over sets, encoders and seeds, judged."""
    cells: dict[tuple[Any, ...], dict[str, Any]] = {}
    for record in records:
        if record["label"] in (label, than):
            cells.setdefault(tuple(record[name] for name in CELL), {})[record["label"]] = record
    values = [score(both[label]) - score(both[than]) for both in cells.values() if len(both) == 2]
    row: dict[str, Any] = {"arm": label, "than": than}
    if not values:
        return row | {"verdict": verdict(None)}
    found = mean(f"{label} - {than}", np.array(values))
    row |= {"difference": round(found.value, 4), "interval": [round(found.low, 4), round(found.high, 4)]}
    return row | {"cells": found.n, "verdict": verdict(found, sign=sign, fewest=FEWEST)}


def claims(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what is claimed of PCB, judged."""

    def curve(record: dict[str, Any]) -> float:
        return record["area"]

    def spread(record: dict[str, Any]) -> float:
        return float(np.mean(record["label entropy"][1:]))

    rows = []
    for acquisition in ("entropy", "coreset"):
        rows.append(
            {"claim": f"labels of plain {acquisition} are less even than random ones"}
            | difference(records, acquisition, "random", spread, sign=-1)
        )
    for acquisition in ("entropy", "coreset", "badge"):
        own = f"{acquisition} + PCB"
        rows.append(
            {"claim": f"PCB makes the labels of {acquisition} more even"}
            | difference(records, own, acquisition, spread)
        )
        rows.append({"claim": f"PCB raises the curve of {acquisition}"} | difference(records, own, acquisition, curve))
        rows.append(
            {"claim": f"{acquisition} with PCB is above random over all rounds"}
            | difference(records, own, "random", curve)
        )
        rows.append(
            {"claim": f"the true balance is above PCB with {acquisition}"}
            | difference(records, f"{acquisition} + true balance", own, curve)
        )
    for label, _ in DESCRIBED[1:]:
        rows.append(
            {"claim": f"descriptions by {label} raise the curve"}
            | difference(records, f"badge + PCB, {label}", "badge + PCB", curve)
        )
    return rows


def means_of(records: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the means of every arm."""
    found = {}
    for label in dict.fromkeys(record["label"] for record in records):
        own = [record for record in records if record["label"] == label]
        found[label] = {
            "mean accuracy": float(np.mean([each["area"] for each in own])),
            "last accuracy": float(np.mean([each["accuracy"][-1] for each in own])),
            "label entropy": float(np.mean([np.mean(each["label entropy"][1:]) for each in own])),
            "predicted right": float(np.mean([value for each in own for value in each["predicted right"][1:]])),
            "runs": len(own),
        }
    return found


def report(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Print and return the means of the arms and the claims, for each kind of pool."""
    result: dict[str, Any] = {"runs": len(records)}
    for power in sorted({record["power"] for record in records}):
        mine = [record for record in records if record["power"] == power]
        means, rows, kind = means_of(mine), claims(mine), f"class frequencies as rank^-{power:g}"
        columns = ("mean accuracy", "last accuracy", "label entropy", "predicted right")
        cells = [(name, *(f"{each[column]:.3f}" for column in columns), each["runs"]) for name, each in means.items()]
        table(f"{kind}: means", ("arm", *columns, "runs"), cells)
        shown = [
            (row["claim"], f"{row['difference']:+.3f}", " – ".join(f"{end:+.3f}" for end in row["interval"]), row["cells"], row["verdict"])
            for row in rows
            if "difference" in row
        ]  # fmt: skip
        table(f"{kind}: claims", ("claim", "difference", "95 % interval", "cells", "verdict"), shown)
        result[kind] = {"means": means, "claims": rows}
    return result


def main() -> None:
    """Run, print and write the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="nano", help="encoders, separated by commas")
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--arms", default="", help="names of arms, separated by commas; default: all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=200, help="of every round")
    parser.add_argument("--pool", type=int, default=300, help="images of every class that a pool is taken from")
    parser.add_argument("--powers", default="0,1", help="class frequencies of a pool fall as rank to the minus power")
    parser.add_argument("--runs", type=Path, help="json-lines file of the runs; default: active.jsonl in the cache")
    parser.add_argument("--json-file", type=Path)
    options = parser.parse_args()
    start, file = time.perf_counter(), options.runs or home() / "active.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    records = run_all(options, file)
    save(options.json_file, {**about(start), **report(records), "records": records})


if __name__ == "__main__":
    main()
