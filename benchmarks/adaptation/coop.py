"""Does the test bed show what prompt learning is known for: CoOp gains on base classes and loses on new ones?

    PYTHONPATH=benchmarks PERCEPT_CACHE=... python benchmarks/adaptation/coop.py --json-file benchmarks/adaptation/coop.json

Every set of `beds.FAMILY` that passes the gate × 3 sampling seeds × one or several encoders, 16 shots of the base classes. Runs are lines of
--runs, so the command goes on where it was interrupted. Differences are paired by set, encoder and seed; 95 % intervals by a bootstrap over
these cells.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from beds import BEDS, FAMILY, about, gate, home, seen_by
from harness import save

import percept
from percept.core.report import notice, out, table
from percept.methods.adaptation.bench import Arm, Case, averages, paired, read_records, run_all, verdict
from percept.methods.adaptation.few import Seen

ARMS = (
    Arm(method="zero-shot"),
    Arm(method="coop"),
    Arm(method="kgcoop"),
    Arm(method="linear-probe"),
    Arm(method="tip-adapter"),
)
CROPS = 2
"""Random crops of every training image."""
CLAIMS = (
    ("CoOp gains on base classes", "coop", "zero-shot", "base", 1),
    ("CoOp loses on new classes", "coop", "zero-shot", "new", -1),
    ("KgCoOp is above CoOp on new classes", "kgcoop", "coop", "new", 1),
    ("KgCoOp is above CoOp by the harmonic mean", "kgcoop", "coop", "harmonic", 1),
)
"""What is claimed: words, arm, the arm it is compared with, score, sign of the difference."""


def sets(models: Sequence[str], names: Sequence[str]) -> Iterator[Seen]:
    """Yield the sets that pass the gate of each encoder."""
    for model in models:
        encoder = percept.load(model, dtype="float32")
        for name in names:
            data = BEDS[name]()
            if data is None:
                continue
            row = gate(encoder, data)
            if row["passes"]:
                yield seen_by(encoder, data)
            else:
                notice(f"{name} is left out: zero-shot {row['zero-shot']:.1%} does not pass the gate of {model}")


def judged(records: Sequence[dict[str, Any]], claims: Sequence[tuple[str, str, str, str, int]]) -> list[dict[str, Any]]:
    """Return one row per claim, marked holds, does not hold, or within noise."""
    rows = []
    for words, label, than, score, sign in claims:
        found = paired(records, label, than, score)
        values = (
            {}
            if found is None
            else {
                "difference": round(found.value, 4),
                "interval": [round(found.low, 4), round(found.high, 4)],
                "cells": found.n,
            }
        )
        rows.append(
            {
                "claim": words,
                "arms": f"{label} - {than}",
                "score": score,
                **values,
                "verdict": verdict(found, sign=sign),
            }
        )
    return rows


def report(
    records: Sequence[dict[str, Any]], arms: Sequence[Arm], claims: Sequence[tuple[str, str, str, str, int]]
) -> dict[str, Any]:
    """Print and return the averages of the arms and the claims."""
    means = {arm.name: {name: round(value, 4) for name, value in averages(records, arm.name).items()} for arm in arms}
    columns = ("base", "new", "harmonic of means", "harmonic", "all")
    table(
        "mean of all runs, %",
        ("method", *columns),
        [(name, *(f"{100 * each[c]:.1f}" if c in each else "-" for c in columns)) for name, each in means.items()],
    )
    rows = judged(records, claims)
    shown = [
        (
            row["claim"],
            f"{100 * row['difference']:+.1f}",
            " – ".join(f"{100 * end:.1f}" for end in row["interval"]),
            row["cells"],
            row["verdict"],
        )
        for row in rows
        if "difference" in row
    ]
    table("paired differences, points", ("claim", "difference", "95 % interval", "cells", "verdict"), shown)
    seconds = {arm.name: round(sum(r["seconds"] for r in records if r["label"] == arm.name), 1) for arm in arms}
    return {
        "means": means,
        "claims": rows,
        "seconds of training": seconds,
        "runs": len(records),
        "sets": sorted({r["data"] for r in records}),
    }


def main() -> None:
    """Run, print and write the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="nano", help="encoders, separated by commas")
    parser.add_argument("--sets", default=",".join(FAMILY))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--shots", type=int, default=16)
    parser.add_argument("--runs", type=Path, help="json-lines file of the runs; default: coop.jsonl in the cache")
    parser.add_argument("--json-file", type=Path)
    options = parser.parse_args()
    start, file = time.perf_counter(), options.runs or home() / "coop.jsonl"
    cases = [Case(shots=options.shots, seed=seed, crops=CROPS) for seed in range(1, options.seeds + 1)]
    file.parent.mkdir(parents=True, exist_ok=True)
    run_all(ARMS, sets(options.models.split(","), options.sets.split(",")), cases, file, told=out.print)
    records = read_records(file)
    result = report(records, ARMS, CLAIMS)
    kept = ("label", "foundation", "data", "seed", "shots", "steps", "seconds", "trainable", "scores")
    save(
        options.json_file,
        {
            **about(start),
            **result,
            "records": [{name: each[name] for name in kept} for each in records],
        },
    )


if __name__ == "__main__":
    main()
