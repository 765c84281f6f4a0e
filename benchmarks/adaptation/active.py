"""Which images are worth a label? Acquisitions with and without the balance of PCB, on pools with even and uneven classes.

    PYTHONPATH=benchmarks PERCEPT_CACHE=... python benchmarks/adaptation/active.py --models nano,runs/upgrade/small-0,runs/upgrade/small-1 \\
        --json-file benchmarks/adaptation/active.json

Every acquisition plain, balanced by predicted classes (PCB), and balanced by true classes as a bound; equal budgets, the same first round.
Classes are equally frequent in a pool, or their frequencies fall as 1 / rank. Sets that do not pass the gate of an encoder are left out. A round trains
100 epochs, where the paper trains 200; the arms with descriptions run with --descriptions only. Reported are accuracy and entropy of the labels after
every round, how often the model had predicted the label, and differences of the mean over all rounds, paired by set, encoder and seed.

Runs are lines of --runs, so the command goes on where it was interrupted. Two processes may share the work, each with --threads 1, its own --runs
file and its own --models, --sets or --arms; --report --runs ONE OTHER judges both.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from beds import about, drawn, seen_by
from family import passed
from harness import save
from recorded import (
    Record,
    Runs,
    claim,
    content_of,
    differences,
    files_of,
    of_one_setting,
    parser_of,
    read_files,
    show_claims,
    weights_of,
)

import percept
from percept.core.config import to_dict
from percept.core.report import table
from percept.methods.adaptation.active import ACQUISITIONS, Plan, Round, area, learn, uneven
from percept.methods.adaptation.bench import Arm, digest
from percept.methods.adaptation.few import Seen
from percept.methods.adaptation.pcb import Described

SETS = ("chalk", "fog", "pixels", "psychedelic", "satellite", "x-ray", "histology")
PLACE = ("data", "foundation", "weights", "seed", "power", "label")
"""Fields that identify a run, with `settings`, the hash of everything else that changes its result."""
KEY = (*PLACE, "settings")
CELL = PLACE[:-1]
"""Fields that two runs of a pair share."""
BALANCES = ("none", "predicted", "true")
DESCRIBED = (("names", "nothing"), ("scores", "scores"), ("embeddings", "embeddings"))
"""Labels of the arms of descriptions, which are compared with BADGE + PCB."""


def arm_of(describe: Any, epochs: int) -> Arm:
    """Return the method that every round trains."""
    return Arm(method="pcb", config=Described.Config(describe=describe), training={"epochs": epochs})


def settings_of(seen: Seen, plan: Plan, arm: Arm) -> str:
    """Return a short hash of what changes the result of a run, besides encoder, seed and power."""
    return digest(
        [to_dict(plan), arm.method, to_dict(arm.config), dict(arm.training), content_of(seen.data), seen.least]
    )


def rounds_of(seen: Seen, plan: Plan, arm: Arm, seed: int, power: float) -> list[Round]:
    """Return the rounds of one run."""
    return learn(arm, seen, plan, seed=seed, pool=uneven(seen.data.pool, seen.data.labels, power=power, seed=seed))


def as_record(rounds: Sequence[Round]) -> Record:
    """Return the measurements of a run as plain data."""
    return {
        "area": area(rounds), "labels": [each.labelled for each in rounds], "accuracy": [round(each.accuracy.value, 4) for each in rounds],
        "label entropy": [round(each.label_entropy, 4) for each in rounds],
        "predicted right": [each.predicted_right for each in rounds], "seconds": round(sum(each.seconds for each in rounds), 1),
    }  # fmt: skip


def plans(options: argparse.Namespace) -> list[tuple[str, Plan, str]]:
    """Return the arms that are run: name, plan and how descriptions are used."""
    found = [
        (plan.name, plan, "nothing")
        for acquisition in ACQUISITIONS
        for balance in BALANCES
        if (plan := Plan(acquisition=acquisition, balance=balance, rounds=options.rounds))
        and (acquisition != "random" or balance == "none")  # type: ignore[arg-type]
    ]
    badge = Plan(acquisition="badge", rounds=options.rounds)
    chosen = options.arms.split(",") if options.arms else []
    if options.descriptions or any(name not in {arm[0] for arm in found} for name in chosen):
        found += [(f"{badge.name}, {label}", badge, describe) for label, describe in DESCRIBED[1:]]
    return [arm for arm in found if not chosen or arm[0] in chosen]


def told(options: argparse.Namespace) -> Record:
    """Return the settings that every record has in words, besides the hash."""
    return {"rounds": options.rounds, "epochs": options.epochs, "pool": options.pool}


def run_all(options: argparse.Namespace, files: Sequence[Path]) -> list[Record]:
    """Run what the files do not hold yet, and return the records of these options."""
    runs, found = Runs(files, KEY), []
    cases = [(seed, power) for seed in range(1, options.seeds + 1) for power in map(float, options.powers.split(","))]
    for name, seen in sets(options):
        for seed, power in cases:
            for label, plan, describe in plans(options):
                arm = arm_of(describe, options.epochs)
                place = (name, seen.encoder.name, weights_of(seen.encoder), seed, power, label, settings_of(seen, plan, arm))  # fmt: skip
                found.append(runs.once(
                    place, lambda seen=seen, plan=plan, arm=arm, seed=seed, power=power: told(options) | as_record(rounds_of(seen, plan, arm, seed, power)),
                    lambda each: f"{each['data']} {each['foundation']} {each['power']:g} {each['seed']} {each['label']}: {curve_of(each)}",
                ))  # fmt: skip
    return found


def curve_of(record: Record) -> str:
    """Return the accuracy after every round as text."""
    return " ".join(f"{value:.0%}" for value in record["accuracy"])


def recorded(options: argparse.Namespace, files: Sequence[Path]) -> list[Record]:
    """Return the records of the files that have these rounds, epochs and pools."""
    wanted = told(options)
    records = [each for each in read_files(files, (*KEY, *wanted)) if wanted.items() <= each.items()]
    return of_one_setting(records, PLACE, {"foundation": "weights"})


def sets(options: argparse.Namespace) -> Iterator[tuple[str, Seen]]:
    """Yield the sets that pass the gate of an encoder, with larger pools and its vectors."""
    for model in options.models.split(","):
        encoder = percept.load(model, dtype="float32")
        for name in options.sets.split(","):
            if passed(encoder, name) is not None:
                yield name, seen_by(encoder, drawn(name, options.pool))


def evenness(record: Record) -> float:
    """Return the mean entropy of the labels over all rounds but the first."""
    return float(np.mean(record["label entropy"][1:]))


def compared(
    words: str, records: Sequence[Record], label: str, than: str, score: Callable[[Record], float], **how: Any
) -> Record:
    """Return a claim about the paired difference of two arms over sets, encoders and seeds."""
    row = claim(words, differences(records, CELL, label, than, score, field="label"), **how)
    return row | {"arm": label, "than": than}


def in_every_round(acquisition: str, records: Sequence[Record]) -> Record:
    """Return the claim that PCB makes labels more even in each round after the first; its value is the least difference of a round."""
    own, count = f"{acquisition} + PCB", max(len(record["labels"]) for record in records)
    rows = [
        compared(f"round {number + 1}", records, own, acquisition, lambda record, number=number: record["label entropy"][number])
        for number in range(1, count)
    ]  # fmt: skip
    least = min(rows, key=lambda row: row.get("interval", [0])[0])
    verdicts = {row["verdict"] for row in rows}
    whole = "holds" if verdicts == {"holds"} else next(each for each in ("not measured", "too few cells", "does not hold", "within noise") if each in verdicts)  # fmt: skip
    return least | {"claim": f"PCB makes the labels of {acquisition} more even in every round; the least:", "verdict": whole, "rounds": rows}  # fmt: skip


def claims(records: Sequence[Record]) -> list[Record]:
    """Return what is claimed of PCB, judged."""

    def curve(record: Record) -> float:
        return record["area"]

    rows = [
        compared(f"labels of plain {name} are less even than random ones", records, name, "random", evenness, sign=-1)
        for name in ("entropy", "coreset")
    ]
    for name in ("entropy", "coreset", "badge"):
        own = f"{name} + PCB"
        rows += [
            compared(f"PCB makes the labels of {name} more even", records, own, name, evenness), in_every_round(name, records),
            compared(f"PCB raises the curve of {name}", records, own, name, curve),
            compared(f"plain {name} is below random over all rounds", records, name, "random", curve, sign=-1),
            compared(f"{name} with PCB is above random over all rounds", records, own, "random", curve),
            compared(f"the true balance is above PCB with {name}", records, f"{name} + true balance", own, curve),
        ]  # fmt: skip
    return rows + [
        compared(f"descriptions by {label} raise the curve", records, f"badge + PCB, {label}", "badge + PCB", curve)
        for label, _ in DESCRIBED[1:]
    ]


def means_of(records: Sequence[Record]) -> dict[str, Record]:
    """Return the means of every arm, over all rounds and round by round."""
    found = {}
    for label in dict.fromkeys(record["label"] for record in records):
        own = [record for record in records if record["label"] == label]
        found[label] = {
            "mean accuracy": float(np.mean([each["area"] for each in own])),
            "last accuracy": float(np.mean([each["accuracy"][-1] for each in own])),
            "label entropy": float(np.mean([evenness(each) for each in own])),
            "predicted right": float(np.mean([value for each in own for value in each["predicted right"][1:]])),
            "runs": len(own),
            "by round": {name: by_round(own, name) for name in ("accuracy", "label entropy", "predicted right")},
        }
    return found


def by_round(records: Sequence[Record], name: str) -> list[float | None]:
    """Return the mean of a measurement over runs in every round; None where it was not measured."""
    columns = zip(*(record[name] for record in records), strict=True)
    return [None if None in column else round(float(np.mean(column)), 4) for column in columns]


def report(records: Sequence[Record]) -> Record:
    """Print and return the means of the arms and the claims, for each kind of pool."""
    result: Record = {"runs": len(records)}
    for power in sorted({record["power"] for record in records}):
        mine = [record for record in records if record["power"] == power]
        means, rows, kind = means_of(mine), claims(mine), f"class frequencies as rank^-{power:g}"
        columns = ("mean accuracy", "last accuracy", "label entropy", "predicted right")
        cells = [(name, *(f"{each[column]:.3f}" for column in columns), each["runs"]) for name, each in means.items()]
        table(f"{kind}: means", ("arm", *columns, "runs"), cells)
        rounds = [(name, *(f"{value:.3f}" for value in each["by round"]["label entropy"])) for name, each in means.items()]  # fmt: skip
        table(f"{kind}: entropy of the labels", ("arm", *(f"round {number}" for number in range(1, len(rounds[0])))), rounds)  # fmt: skip
        show_claims(f"{kind}: claims", rows)
        result[kind] = {"means": means, "claims": rows}
    return result


def options_of() -> argparse.Namespace:
    """Read the command line."""
    parser = parser_of(__doc__)
    parser.add_argument("--models", default="nano", help="encoders, separated by commas")
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument(
        "--arms", default="", help="names of arms, separated by commas; default: all without descriptions"
    )
    parser.add_argument("--descriptions", action="store_true", help="run the arms with descriptions too")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=100, help="of every round; 200 in the paper")
    parser.add_argument("--pool", type=int, default=300, help="images of every class that a pool is taken from")
    parser.add_argument("--powers", default="0,1", help="class frequencies of a pool fall as rank to the minus power")
    return parser.parse_args()


def main() -> None:
    """Run, print and write the comparison."""
    options, start = options_of(), time.perf_counter()
    torch.set_num_threads(options.threads)
    files = files_of(options.runs, "active.jsonl")
    records = recorded(options, files) if options.report else run_all(options, files)
    save(options.json_file, {**about(start), **report(records), "records": records})


if __name__ == "__main__":
    main()
