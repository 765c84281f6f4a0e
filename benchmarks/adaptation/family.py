"""The prompt-learning family side by side: every arm and claim of `claims.py` on the test beds, resumable.

    PYTHONPATH=benchmarks PERCEPT_CACHE=... python benchmarks/adaptation/family.py --cost                      # what it would take
    PYTHONPATH=benchmarks PERCEPT_CACHE=... python benchmarks/adaptation/family.py --json-file benchmarks/adaptation/family.json

Three settings. base-new: 16 shots of the base classes, tested on base, new and all names. few-shot: shots of all classes. transfer: 16 shots of all
classes of a source set, tested unchanged on sets of other classes (cross) and on other styles of the same classes (shift).
Sets have to pass the gate of `beds.py` with each encoder. Runs are lines of a file, so the command goes on where it was interrupted. Differences are paired
by set, encoder, seed, split and shots; 95 % intervals by a bootstrap over these cells. Before it starts, each arm is timed over one epoch and the time
of the whole table is printed.
"""

import argparse
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from beds import BEDS, FAMILY, about, gate, home, seen_by
from claims import ARMS, Claim, arms_of, chosen
from harness import save

import percept
from percept.core.io import read_json, write_json
from percept.core.report import notice, out, table
from percept.eval.statistics import Score, mean
from percept.methods.adaptation.bench import (
    FEWEST,
    KEY,
    Arm,
    Case,
    Run,
    adaptation_class,
    averages,
    paired,
    read_records,
    run,
    run_all,
    value_of,
    verdict,
)
from percept.methods.adaptation.deep import DeepPrompted
from percept.methods.adaptation.few import Seen
from percept.methods.adaptation.measure import logits_of, measure
from percept.methods.adaptation.shift import embedding_shift

CROPS = 2
"""Random crops of every training image whose vectors are computed."""
SHOTS = (1, 2, 4, 8, 16)
METERED = 32
"""Test images that the shift of deep prompts is measured on."""
SOURCES: dict[str, tuple[str, ...]] = {
    "pixels": ("chalk", "colours", "fog", "emoji"),
    "psychedelic": ("fog", "fills", "pixels", "emoji"),
    "x-ray": ("histology", "foreshortened", "colours", "chalk"),
}
"""Source of a transfer to its targets; one with the same classes is a different style, the others have other classes."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is run."""

    claims: Sequence[Claim]
    models: Sequence[str]
    sets: Sequence[str]
    seeds: int
    shots: Sequence[int]
    settings: Sequence[str]
    only: frozenset[str] = frozenset()
    """Arms that are run, besides zero-shot; all that claims name if empty."""
    epochs: int | None = None
    """Most epochs of any arm."""
    encoders: dict[str, Any] = field(default_factory=dict)
    seen: dict[tuple[str, str], Seen | None] = field(default_factory=dict)

    def arms(self, setting: str) -> list[Arm]:
        """Return the arms of a setting, with at most `epochs`."""
        arms = arms_of(self.claims, setting)
        return [capped(arm, self.epochs) for arm in arms if not self.only or arm.name in self.only | {"zero-shot"}]

    def bed(self, model: str, name: str) -> Seen | None:
        """Return a set with the vectors of an encoder; None if it cannot be drawn or does not pass the gate."""
        if (model, name) not in self.seen:
            if model not in self.encoders:
                self.encoders[model] = percept.load(model, dtype="float32")
            self.seen[model, name] = passed(self.encoders[model], name)
        return self.seen[model, name]

    def jobs(self) -> Iterator[tuple[int, str, str, Case, list[Arm]]]:
        """Yield seed, encoder, set, case and arms, seed by seed, so that a part of the table is complete early."""
        for seed in range(1, self.seeds + 1):
            for model in self.models:
                for name in self.sets:
                    for case, arms in self.cases(name, seed):
                        yield seed, model, name, case, arms

    def cases(self, name: str, seed: int) -> Iterator[tuple[Case, list[Arm]]]:
        """Yield the cases of a set with their arms."""
        if "base-new" in self.settings:
            yield Case(shots=16, seed=seed, crops=CROPS), self.arms("base-new")
        if "few-shot" in self.settings:
            for shots in self.shots:
                yield Case(split="all", shots=shots, seed=seed, crops=CROPS), self.arms("few-shot")
        if "transfer" in self.settings and name in SOURCES:
            yield Case(split="all", shots=16, seed=seed, crops=CROPS), self.arms("transfer")


def capped(arm: Arm, epochs: int | None) -> Arm:
    """Return an arm with at most so many epochs."""
    own = dict(arm.training).get("epochs", adaptation_class(arm.method).recipe(16).epochs)
    return arm if epochs is None else replace(arm, training={**arm.training, "epochs": min(own, epochs)})


def passed(encoder: Any, name: str) -> Seen | None:
    """Return a set with its vectors if it passes the gate of an encoder."""
    data = BEDS[name]()
    if data is None:
        return None
    row = gate(encoder, data)
    if not row["passes"]:
        notice(f"{name} is left out: zero-shot {row['zero-shot']:.1%} does not pass the gate of {encoder.name}")
    return seen_by(encoder, data) if row["passes"] else None


# further scores


def further(plan: Plan, model: str) -> Callable[[Run, Seen, Case], Iterable[Score]]:
    """Return what is measured besides accuracy on the set itself."""

    def more(result: Run, seen: Seen, case: Case) -> Iterable[Score]:
        if case.split == "base":
            return [*alignment(result, seen), *shift_scores(result, seen)]
        return transfer_scores(plan, model, result, seen) if case.shots == 16 else ()

    return more


@torch.no_grad()
def alignment(result: Run, seen: Seen) -> list[Score]:
    """Return the mean cosine of the test images of new classes and their own class vectors."""
    found, method = result.measured.answers.get("new"), result.method
    if found is None or type(method).__name__ in ("TipAdapter", "LinearProbe"):
        return []  # their logits are not cosines
    method.use(seen.data.names("new"), seen.data.template)
    truth = torch.from_numpy(found.truth - seen.data.part("new").start)
    cosines = logits_of(method, seen, found.rows).gather(1, truth[:, None])[:, 0] / float(method.clip.scale())
    return [mean("alignment", cosines.numpy(), unit="")]


@torch.no_grad()
def shift_scores(result: Run, seen: Seen) -> list[Score]:
    """Return the feature shifts of deep prompts on some test images and names of new classes, and their gap."""
    method = result.method
    if not isinstance(method, DeepPrompted):
        return []
    method.use(seen.data.names("new"), seen.data.template)
    rows = result.measured.answers["new"].rows[:METERED].tolist()
    found = embedding_shift(method, seen.pixels(rows, None))
    values = {
        "gap": found.gap(),
        "text shift": found.text[1:].mean(),
        "image shift": found.image[1:].mean(),
    }
    return [Score(name=name, value=float(each), unit="", n=1, low=float(each), high=float(each)) for name, each in values.items()]  # fmt: skip


def transfer_scores(plan: Plan, model: str, result: Run, seen: Seen) -> list[Score]:
    """Return the mean accuracies on sets of other classes and on other styles of the same classes."""
    cells: dict[str, list[float]] = {"cross": [], "shift": []}
    for name in SOURCES.get(seen.data.name, ()):
        target = plan.bed(model, name)
        if target is None:
            continue
        kind = "shift" if set(target.data.classes) == set(seen.data.classes) else "cross"
        scores = measure(result.method, target, np.zeros(0, dtype=np.int64), ("all",)).scores
        cells[kind].extend(score.value for score in scores.values())
    result.method.use(seen.data.names("all"), seen.data.template)
    return [mean(name, values) for name, values in cells.items() if values]


# cost


def timed(arm: Arm, seen: Seen, case: Case) -> dict[str, float]:
    """Run one epoch of an arm, and return the seconds of a step and of everything else, and the share of them that a processor worked."""
    epochs = dict(arm.training).get("epochs", adaptation_class(arm.method).recipe(case.shots).epochs)
    start, busy = time.perf_counter(), time.process_time()
    result = run(replace(arm, training={**arm.training, "epochs": min(1, epochs)}), seen, case)
    whole = time.perf_counter() - start
    return {
        "step": result.trained.seconds / max(1, result.trained.steps),
        "steps per epoch": result.trained.steps,
        "rest": whole - (result.trained.seconds if result.trained.steps else 0.0),
        "busy": (time.process_time() - busy) / whole,
    }


def cost(plan: Plan, file: Path, done: set[tuple[Any, ...]]) -> None:
    """Print the time that each arm still needs; arms are timed once and remembered in a file."""
    known: dict[str, dict[str, float]] = read_json(file) if file.is_file() else {}
    sums: dict[str, list[float]] = {}
    counted, warm = set(done), False
    for seed, model, name, case, arms in plan.jobs():
        for arm in arms:
            seen = plan.bed(model, name)
            if seen is None or (key := (arm.name, seen.encoder.name, name, case.split, case.shots, seed)) in counted:
                continue
            counted.add(key)
            if arm.name not in known:
                if not warm:
                    timed(Arm(method="coop"), seen, case)  # the first optimiser of a process takes seconds of imports
                known[arm.name], warm = timed(arm, seen, case), True
                write_json(file, known)
            sums.setdefault(arm.name, []).append(expected(known[arm.name], arm, seen, case))
    rows = [
        (name, len(each), f"{np.mean(each):.1f}", f"{sum(each) / 60:.1f}", f"{sum(each) * known[name]['busy'] / 60:.1f}")
        for name, each in sums.items()
    ]  # fmt: skip
    table("still to run", ("arm", "runs", "seconds of a run", "minutes", "minutes of processor"), rows)
    total = sum(map(sum, sums.values())) / 3600
    busy = sum(sum(each) * known[name]["busy"] for name, each in sums.items()) / 3600
    out.print(f"{total:.2f} hours on this machine as it is loaded now, {busy:.2f} hours of processor", soft_wrap=True)


def expected(known: dict[str, float], arm: Arm, seen: Seen, case: Case) -> float:
    """Return the seconds that a run will take, by its number of steps."""
    recipe = adaptation_class(arm.method).recipe(case.shots)
    training = {"epochs": recipe.epochs, "batch": recipe.batch} | dict(arm.training)
    images = case.shots * len(seen.data.part(case.split))
    steps = max(1, images // training["batch"]) * training["epochs"] if known["steps per epoch"] else 0
    return known["step"] * steps + known["rest"]


# report


def judged(records: Sequence[dict[str, Any]], claims: Sequence[Claim]) -> list[dict[str, Any]]:
    """Return one row per claim, marked holds, does not hold, within noise, too few cells, or not measured."""
    rows = []
    for claim in claims:
        mine = [record for record in records if claim.counts(record)]
        found = paired(mine, claim.arm, claim.than, claim.score, ratio=claim.ratio)
        row: dict[str, Any] = {
            "row": claim.row, "claim": claim.words, "arm": claim.arm, "than": claim.than, "score": claim.score, "setting": claim.setting,
            "claimed": f"{'above' if claim.sign > 0 else 'below'} {claim.margin:g}{' times' if claim.ratio else ''}",
        }  # fmt: skip
        if found is not None:
            row |= {
                "difference": round(found.value, 4),
                "interval": [round(found.low, 4), round(found.high, 4)],
                "cells": found.n,
            }
        rows.append(row | {"verdict": verdict(found, sign=claim.sign, margin=claim.margin, fewest=FEWEST)})
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
        (row["row"], row["claim"], f"{row['difference']:+.3f}", " – ".join(f"{end:+.3f}" for end in row["interval"]), row["claimed"], row["cells"], row["verdict"])
        for row in rows
        if "difference" in row
    ]  # fmt: skip
    table("claims", ("row", "claim", "difference", "95 % interval", "claimed", "cells", "verdict"), shown)
    correlations = [found for score in ("gap", "alignment") if (found := spearman(records, score))]
    for each in correlations:
        ends = " – ".join(map(str, each["interval"]))
        words = f"Spearman of {each['score']} and new accuracy above zero-shot: {each['spearman']}"
        out.print(f"{words}, 95 % interval {ends}, {each['runs']} runs", soft_wrap=True)
    names = {record["label"] for record in records}
    seconds = {
        name: round(float(np.mean([r["seconds"] for r in records if r["label"] == name])), 1) for name in sorted(names)
    }
    return {
        "means": means, "claims": rows, "correlations": correlations, "seconds of training per run": seconds, "runs": len(records),
        "sets": sorted({r["data"] for r in records}), "foundations": sorted({r["foundation"] for r in records}),
    }  # fmt: skip


def options_of() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="", help="rows whose claims are judged, separated by commas; default: all")
    parser.add_argument("--arms", default="", help="only these arms")
    parser.add_argument("--models", default="nano", help="encoders, separated by commas")
    parser.add_argument("--sets", default=",".join(FAMILY))
    parser.add_argument("--settings", default="base-new,few-shot,transfer")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--shots", default=",".join(map(str, SHOTS)), help="of the setting few-shot")
    parser.add_argument(
        "--epochs", type=int, help="most epochs of every arm; runs with a limit have a file of their own"
    )
    parser.add_argument("--runs", type=Path, help="json-lines file of the runs; default: family.jsonl in the cache")
    parser.add_argument("--cost", action="store_true", help="print what is still to run, and stop")
    parser.add_argument("--report", action="store_true", help="run nothing, and judge the runs that there are")
    parser.add_argument("--json-file", type=Path)
    return parser.parse_args()


def parts(text: str) -> list[str]:
    """Return what commas separate."""
    return [part for part in text.split(",") if part]


def main() -> None:
    """Print the cost, run, print and write the comparison."""
    options, start = options_of(), time.perf_counter()
    cap = "" if options.epochs is None else f"-{options.epochs}"
    file = options.runs or home() / f"family{cap}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    plan = Plan(
        claims=chosen(parts(options.rows)), models=parts(options.models), sets=parts(options.sets), seeds=options.seeds,
        shots=[int(each) for each in parts(options.shots)], settings=parts(options.settings), only=frozenset(parts(options.arms)),
        epochs=options.epochs,
    )  # fmt: skip
    if not options.report:
        done = {tuple(record[name] for name in KEY) for record in read_records(file)}
        cost(plan, file.with_suffix(".cost.json"), done)
    if options.cost:
        return
    for _, model, name, case, arms in () if options.report else plan.jobs():
        if (seen := plan.bed(model, name)) is not None:
            run_all(arms, [seen], [case], file, told=out.print, more=further(plan, model))
    records = read_records(file)
    kept = (*KEY, "steps", "seconds", "trainable", "scores")
    result = {**about(start), **report(records, plan.claims)}
    save(options.json_file, result | {"records": [{name: each[name] for name in kept} for each in records]})


if __name__ == "__main__":
    main()
