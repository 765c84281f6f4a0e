"""Judge the runs of a comparison of adaptation methods: means by arm, and a verdict for every claim.

Differences are paired by set, encoder, seed, split and shots; 95 % intervals by a bootstrap over these cells, and by one over sets, whose cells are
averaged first. Claims about few shots are judged by the latter, as runs of one set with different numbers of shots are not independent.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from claims import ARMS, Claim

from percept.core.report import out, table
from percept.methods.adaptation.bench import FEWEST, Arm, averages, paired, value_of, verdict


def judged(records: Sequence[dict[str, Any]], claims: Sequence[Claim]) -> list[dict[str, Any]]:
    """Return one row per claim, marked holds, does not hold, within noise, too few cells, or not measured."""
    rows = []
    for claim in claims:
        mine = [record for record in records if claim.counts(record)]
        found, by_set = (
            paired(mine, claim.arm, claim.than, claim.score, ratio=claim.ratio, than_shots=claim.than_shots, over=over)
            for over in ("cells", "sets")
        )
        row: dict[str, Any] = {
            "row": claim.row, "claim": claim.words, "arm": claim.arm, "than": claim.than, "score": claim.score, "setting": claim.setting,
            "claimed": f"{'above' if claim.sign > 0 else 'below'} {claim.margin:g}{' times' if claim.ratio else ''}",
        }  # fmt: skip
        if found is not None and by_set is not None:
            row |= {
                "difference": round(found.value, 4), "interval": [round(found.low, 4), round(found.high, 4)], "cells": found.n,
                "interval over sets": [round(by_set.low, 4), round(by_set.high, 4)], "sets": by_set.n,
            }  # fmt: skip
        decides = by_set if claim.setting == "few-shot" else found
        rows.append(row | {"verdict": verdict(decides, sign=claim.sign, margin=claim.margin, fewest=FEWEST)})
    return rows


def rank(values: np.ndarray) -> np.ndarray:
    """Return ranks from 0; equal values share their mean rank."""
    return np.array([(values < each).sum() + ((values == each).sum() - 1) / 2 for each in values])


def spearman(records: Sequence[dict[str, Any]], score: str, *, resamples: int = 2000) -> dict[str, Any] | None:
    """Return the rank correlation, over runs of deep prompts, of a score with new accuracy above zero-shot, and a bootstrap interval."""
    cells = {
        (r["data"], r["foundation"], r["seed"]): r
        for r in records
        if r["label"] == "zero-shot" and r["split"] == "base"
    }
    pairs = [
        (value_of(r, score), r["scores"]["new"][0] - cells[key]["scores"]["new"][0])
        for r in records
        if r["split"] == "base" and score in r["scores"] and (key := (r["data"], r["foundation"], r["seed"])) in cells
    ]
    if len(pairs) < 4:
        return None
    values, rng = np.array(pairs), np.random.default_rng(0)
    draws = [values[rng.integers(0, len(values), len(values))] for _ in range(resamples)]
    with np.errstate(invalid="ignore"):  # a sample of equal values has no correlation
        rho = [np.corrcoef(rank(each[:, 0]), rank(each[:, 1]))[0, 1] for each in (values, *draws)]
    if np.isnan(rho[0]):
        return None
    low, high = np.nanquantile(rho[1:], (0.025, 0.975))
    return {"score": score, "spearman": round(rho[0], 3), "interval": [round(low, 3), round(high, 3)], "runs": len(values)}  # fmt: skip


def means_of(records: Sequence[dict[str, Any]], arms: Sequence[Arm] = ARMS) -> dict[str, dict[str, dict[str, float]]]:
    """Return mean scores by setting and arm, in the order of the arms."""
    parts = {f"{split}, {shots} shots": [] for split, shots in sorted({(r["split"], r["shots"]) for r in records})}
    for record in records:
        parts[f"{record['split']}, {record['shots']} shots"].append(record)
    return {
        part: {
            arm.name: {name: round(value, 4) for name, value in averages(some, arm.name).items()}
            | {"runs": sum(r["label"] == arm.name for r in some)}
            for arm in arms
            if any(r["label"] == arm.name for r in some)
        }
        for part, some in parts.items()
    }


def ends(interval: Sequence[float]) -> str:
    """Return both ends of an interval as text."""
    return " – ".join(f"{end:+.3f}" for end in interval)


def report(records: Sequence[dict[str, Any]], claims: Sequence[Claim], arms: Sequence[Arm] = ARMS) -> dict[str, Any]:
    """Print and return the averages of the arms and the claims."""
    means = means_of(records, arms)
    columns = ("base", "new", "harmonic of means", "harmonic", "all", "cross", "shift")
    for part, by_arm in means.items():
        cells = [
            (name, *(f"{100 * each[c]:.1f}" if c in each else "-" for c in columns), each["runs"])
            for name, each in by_arm.items()
        ]
        table(f"trained on {part}: means, %", ("method", *columns, "runs"), cells)
    rows = judged(records, claims)
    shown = [
        (
            row["row"], row["claim"], f"{row['difference']:+.3f}", ends(row["interval"]), ends(row["interval over sets"]), row["claimed"],
            f"{row['cells']} / {row['sets']}", row["verdict"],
        )
        for row in rows
        if "difference" in row
    ]  # fmt: skip
    columns = ("row", "claim", "difference", "over cells", "over sets", "claimed", "cells / sets", "verdict")
    table("claims, 95 % intervals", columns, shown)
    correlations = [found for score in ("gap", "alignment") if (found := spearman(records, score))]
    for each in correlations:
        words = f"Spearman of {each['score']} and new accuracy above zero-shot: {each['spearman']}"
        out.print(f"{words}, 95 % interval {ends(each['interval'])}, {each['runs']} runs", soft_wrap=True)
    names = {record["label"] for record in records}
    seconds = {
        name: round(float(np.mean([r["processor"] for r in records if r["label"] == name])), 1)
        for name in sorted(names)
    }
    return {
        "means": means, "claims": rows, "correlations": correlations, "processor seconds of training per run": seconds, "runs": len(records),
        "sets": sorted({r["data"] for r in records}), "foundations": sorted({r["foundation"] for r in records}),
    }  # fmt: skip
