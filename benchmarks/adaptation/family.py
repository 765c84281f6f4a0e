"""The prompt-learning family side by side: every arm and claim of `claims.py` on the test beds, resumable.

    PYTHONPATH=benchmarks PERCEPT_CACHE=... python benchmarks/adaptation/family.py --cost                      # what it would take
    PYTHONPATH=benchmarks PERCEPT_CACHE=... python benchmarks/adaptation/family.py --json-file benchmarks/adaptation/family.json

Three settings. base-new: 16 shots of the base classes, tested on base, new and all names. few-shot: shots of all classes. transfer: 16 shots of all
classes of a source set, tested unchanged on sets of other classes (cross) and on other styles of the same classes (shift).
Every trained arm takes nearly the same number of steps (--steps), in whole epochs of its own batches at its own rates; with --steps 0 it has the epochs of
its paper. Sets have to pass the gate of `beds.py` with each encoder. Runs are lines of a file, one file for each number of steps, so the command goes on
where it was interrupted; a file with other settings or weights is refused. Two processes can share the work: give each different --models, --sets or
--rows and a file of --runs of its own, then both files to --report; the start of GRAM is learned once in a process for each encoder
and seed, so divide by --models first. Runs of fewer seeds come first with --seeds 1, and those that are there are kept with --seeds 3 --arms
SOME: a claim is judged over the cells that both of its arms have. Before it starts, each arm is timed over one epoch and the time of the whole table
is printed. `family_report.py` judges the runs.
"""

import argparse
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from beds import BEDS, FAMILY, about, gate, home, seen_by
from cells import runs_in
from claims import Claim, adjusted, arms_of, chosen
from family_report import report
from harness import save

import percept
from percept.core.io import read_json, write_json
from percept.core.report import notice, out, table
from percept.eval.statistics import Score, mean
from percept.methods.adaptation.bench import (
    KEY,
    Arm,
    Case,
    Known,
    Run,
    by_key,
    images_of,
    key_of,
    missing,
    read_records,
    run,
    run_all,
    training_of,
)
from percept.methods.adaptation.deep import DeepPrompted
from percept.methods.adaptation.few import Seen
from percept.methods.adaptation.measure import logits_of, measure
from percept.methods.adaptation.mmrl import MMRL
from percept.methods.adaptation.shift import embedding_shift
from percept.methods.adaptation.trainer import Trained, steps_of

CROPS = 2
"""Random crops of every training image whose vectors are computed."""
SHOTS = (1, 2, 4, 8, 16)
STEPS = 200
"""Optimiser steps of every trained arm, nearly."""
METERED = 32
"""Test images that the shift of deep prompts is measured on."""
SOURCES: dict[str, tuple[str, ...]] = {
    "pixels": ("chalk", "colours", "fog"),
    "psychedelic": ("fog", "fills", "pixels"),
    "x-ray": ("histology", "foreshortened", "colours", "chalk"),
}
"""Source of a transfer to its targets; one with the same classes is a different style, the others have none of its classes."""


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
    steps: int = STEPS
    """Of every trained arm; 0 for the epochs of each paper."""
    encoders: dict[str, Any] = field(default_factory=dict)
    seen: dict[tuple[str, str], Seen | None] = field(default_factory=dict)

    def arms(self, setting: str, seen: Seen, shots: int = 16) -> list[Arm]:
        """Return the arms of a setting, as they are run on a set."""
        arms = arms_of(self.claims, setting, shots)
        kept = [arm for arm in arms if not self.only or arm.name in self.only | {"zero-shot"}]
        return [adjusted(arm, setting, seen.data) for arm in kept]

    def bed(self, model: str, name: str) -> Seen | None:
        """Return a set with the vectors of an encoder; None if it cannot be drawn or does not pass the gate."""
        if (model, name) not in self.seen:
            if model not in self.encoders:
                self.encoders[model] = percept.load(model, dtype="float32")
            self.seen[model, name] = passed(self.encoders[model], name)
        return self.seen[model, name]

    def jobs(self) -> Iterator[tuple[str, Seen, Case, list[Arm]]]:
        """Yield encoder, set, case and arms, seed by seed, so that a part of the table is complete early."""
        for seed in range(1, self.seeds + 1):
            for model in self.models:
                for name in self.sets:
                    if (seen := self.bed(model, name)) is not None:
                        yield from ((model, seen, case, arms) for case, arms in self.cases(seen, seed))

    def cases(self, seen: Seen, seed: int) -> Iterator[tuple[Case, list[Arm]]]:
        """Yield the cases of a set with their arms."""
        base = Case(shots=16, seed=seed, crops=CROPS, steps=self.steps)
        if "base-new" in self.settings:
            yield base, self.arms("base-new", seen)
        if "few-shot" in self.settings:
            for shots in self.shots:
                yield replace(base, split="all", shots=shots), self.arms("few-shot", seen, shots)
        if "transfer" in self.settings and seen.data.name in SOURCES:
            yield replace(base, split="all"), self.arms("transfer", seen)


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
    """Return the mean accuracies on sets of other classes and on other styles of the same classes; both are judged as MMRL judges new classes."""
    cells: dict[str, list[float]] = {"cross": [], "shift": []}
    for name in SOURCES.get(seen.data.name, ()):
        target = plan.bed(model, name)
        if target is None:
            continue
        kind = "shift" if set(target.data.classes) == set(seen.data.classes) else "cross"
        with result.method.all_new() if isinstance(result.method, MMRL) else nullcontext():
            scores = measure(result.method, target, np.zeros(0, dtype=np.int64), ("all",)).scores
        cells[kind].extend(score.value for score in scores.values())
    result.method.use(seen.data.names("all"), seen.data.template)
    return [mean(name, values) for name, values in cells.items() if values]


# cost


def timed(arm: Arm, seen: Seen, case: Case) -> dict[str, float]:
    """Run one epoch of an arm, and return processor seconds of a step, of what is done once for an encoder and a seed, and of everything else in a run.

    Returns:
        step, once, rest; and busy: the share of the time on the clock that a processor worked.
    """
    epochs = min(1, training_of(arm, case, images_of(seen, case)).epochs)
    short = replace(arm, training={**arm.training, "epochs": epochs})

    def spent() -> tuple[Trained, float]:
        before = time.process_time()
        return run(short, seen, replace(case, steps=0)).trained, time.process_time() - before

    start, busy = time.perf_counter(), time.process_time()
    trained, first = spent()
    seconds = first
    if arm.method == "gram":  # a start is learned in the first run only
        trained, seconds = spent()
    return {
        "step": trained.processor / max(1, trained.steps),
        "once": max(0.0, first - seconds),
        "rest": max(0.0, seconds - trained.processor),
        "busy": (time.process_time() - busy) / (time.perf_counter() - start),
    }


def cost(plan: Plan, file: Path, done: Known, runs: Path) -> None:
    """Print the time that each arm still needs; arms are timed once and remembered in a file.

    Raises:
        PerceptError: a run in `runs` has different settings or weights.
    """
    known: dict[str, dict[str, float]] = read_json(file) if file.is_file() else {}
    sums: dict[str, list[float]] = {}
    counted: set[tuple[Any, ...]] = set()
    warm = False
    for model, seen, case, arms in plan.jobs():
        for arm in missing(arms, seen, case, done, runs):
            if key_of(arm, seen, case) in counted:
                continue
            if arm.name not in known:
                if not warm:
                    timed(Arm(method="coop"), seen, case)  # the first optimiser of a process takes seconds of imports
                known[arm.name], warm = timed(arm, seen, case), True
                write_json(file, known)
            begun = (arm.name, model, case.seed)
            once = 0.0 if begun in counted else known[arm.name]["once"]
            counted |= {key_of(arm, seen, case), begun}
            sums.setdefault(arm.name, []).append(once + expected(known[arm.name], arm, seen, case))
    minutes = {name: sum(each) / 60 for name, each in sums.items()}
    rows = [
        (name, len(each), f"{np.mean(each):.1f}", f"{minutes[name]:.1f}", f"{minutes[name] / known[name]['busy']:.1f}")
        for name, each in sums.items()
    ]
    columns = ("arm", "runs", "processor seconds of a run", "minutes of processor", "minutes")
    table("still to run", columns, rows)
    hours = sum(minutes.values()) / 60
    clock = sum(each / known[name]["busy"] for name, each in minutes.items()) / 60
    out.print(f"{clock:.2f} hours on this machine as it is loaded now, {hours:.2f} hours of processor", soft_wrap=True)


def expected(known: dict[str, float], arm: Arm, seen: Seen, case: Case) -> float:
    """Return the processor seconds that a run will take, by its number of steps."""
    images = images_of(seen, case)
    training = training_of(arm, case, images)
    return known["step"] * training.epochs * steps_of(images, training.batch) + known["rest"]


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
        "--steps", type=int, default=STEPS, help="of every trained arm, nearly; 0: the epochs of each paper"
    )
    parser.add_argument(
        "--runs", type=Path, nargs="+", help="json-lines file of the runs, or several with --report; default: family-STEPS.jsonl in the cache"
    )  # fmt: skip
    parser.add_argument("--threads", type=int, help="of a process; default: as many as torch takes")
    parser.add_argument("--cost", action="store_true", help="print what is still to run, and stop")
    parser.add_argument("--report", action="store_true", help="run nothing, and judge the runs that there are")
    parser.add_argument("--json-file", type=Path)
    options = parser.parse_args()
    options.runs = options.runs or [home() / f"family-{options.steps or 'own'}.jsonl"]
    if len(options.runs) > 1 and not options.report:
        parser.error("new runs go to one file. Give one --runs, or --report.")
    if options.report and (absent := [str(file) for file in options.runs if not file.is_file()]):
        parser.error(f"there is no file {', '.join(absent)}")
    return options


def parts(text: str) -> list[str]:
    """Return what commas separate."""
    return [part for part in text.split(",") if part]


def run_plan(plan: Plan, file: Path, *, only_cost: bool) -> None:
    """Print the cost of what a file does not hold yet, and run it unless `only_cost` is set."""
    file.parent.mkdir(parents=True, exist_ok=True)
    cost(plan, file.with_suffix(".cost.json"), by_key(read_records(file)), file)
    for model, seen, case, arms in () if only_cost else plan.jobs():
        run_all(arms, [seen], [case], file, told=out.print, more=further(plan, model))


def main() -> None:
    """Print the cost, run, print and write the comparison."""
    options, start = options_of(), time.perf_counter()
    if options.threads:
        torch.set_num_threads(options.threads)
    plan = Plan(
        claims=chosen(parts(options.rows)), models=parts(options.models), sets=parts(options.sets), seeds=options.seeds,
        shots=[int(each) for each in parts(options.shots)], settings=parts(options.settings), only=frozenset(parts(options.arms)),
        steps=options.steps,
    )  # fmt: skip
    if not options.report:
        run_plan(plan, options.runs[0], only_cost=options.cost)
    if options.cost:
        return
    records = list(by_key(record for file in options.runs for record in runs_in(file)).values())
    kept = (*KEY, "steps", "seconds", "processor", "trainable", "scores")
    result = {**about(start), **report(records, plan.claims)}
    save(options.json_file, result | {"records": [{name: each[name] for name in kept} for each in records]})


if __name__ == "__main__":
    main()
