"""Does BiomedCoOp reject wrong sentences? Banks of sentences of which a known share is wrong, planted in two ways.

    PYTHONPATH=benchmarks PERCEPT_CACHE=... python benchmarks/adaptation/planted.py --json-file benchmarks/adaptation/planted.json

Every class has 24 written sentences. places: the wrong ones stand at the same places for all classes and are about nothing; classes: each
class has wrong ones at places of its own, which are about a different class. Sentences are selected by their place for all classes together, so
only the first pattern can be found. Arms: CoOp, BiomedCoOp without distillation, without and with selection, and with the wrong sentences taken
out (oracle); all of them have the tokens, the batches and the steps of BiomedCoOp. Reported are accuracies with few shots, and the share of
rejections among wrong sentences (recall) and of wrong ones among rejections (precision). Sets have to pass the gate of `beds.py`. Runs are lines
of --runs, so that the command goes on where it was interrupted; two processes may share the work, each with its own --runs file and its own --models or
--sets; --report --runs ONE OTHER judges both. Intervals: 95 %, a bootstrap over set, foundation and seed; shots are averaged.
"""

import argparse
import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from beds import FAMILY, about
from family import passed
from harness import save
from recorded import Record, Runs, claim, content_of, files_of, of_one_setting, parser_of, read_files, weights_of

import percept
from percept.core.config import to_dict
from percept.core.report import out, table
from percept.core.seed import derive
from percept.methods.adaptation.bench import Arm, Case, digest, run
from percept.methods.adaptation.biomedcoop import BiomedCoOp
from percept.methods.adaptation.coop import CoOp
from percept.methods.adaptation.few import Seen
from percept.methods.adaptation.sentences import PATTERNS

OFF_TOPIC = (
    "open monday to friday",
    "price and free parking",
    "sale ends soon",
    "hello and welcome",
    "page one of two",
    "thanks and please wait",
)
"""About nothing that a class could be."""
PLACE = ("model", "vectors", "label", "data", "share", "pattern", "shots", "seed")
KEY = ("epochs", "settings", *PLACE)
"""Fields that identify a run."""
Flags = np.ndarray
"""True where the sentence of a class is wrong [c, s]."""


def planted(names: Sequence[str], share: float, pattern: str, seed: int) -> tuple[tuple[tuple[str, ...], ...], Flags]:
    """Return sentences about classes, and which of them are wrong."""
    rng, count = random.Random(derive(seed, pattern)), round(share * len(PATTERNS))
    wrong = np.zeros((len(names), len(PATTERNS)), dtype=bool)
    same = rng.sample(range(len(PATTERNS)), count)
    for row in wrong:
        row[same if pattern == "places" else rng.sample(range(len(PATTERNS)), count)] = True
    rows = []
    for place, name in enumerate(names):
        others = [each for each in names if each != name]
        false = [rng.choice(OFF_TOPIC) if pattern == "places" else text.format(rng.choice(others)) for text in PATTERNS]
        rows.append(
            tuple(
                bad if flag else text.format(name)
                for text, bad, flag in zip(PATTERNS, false, wrong[place], strict=True)
            )
        )
    return tuple(rows), wrong


def arms(epochs: int) -> dict[str, Arm]:
    """Return the arms by name; all have the optimisation and the learned tokens of BiomedCoOp."""
    training = vars(BiomedCoOp.recipe(1)) | {"epochs": epochs}
    config = BiomedCoOp.Config()
    return {
        "coop": Arm(method="coop", config=CoOp.Config(prompt=config.prompt), training=training),
        "consistency": Arm(method="biomedcoop", config=replace(config, distillation=0.0), training=training),
        "no selection": Arm(method="biomedcoop", config=replace(config, select=False), training=training),
        "selection": Arm(method="biomedcoop", training=training),
        "oracle": Arm(method="biomedcoop", config=replace(config, select=False), training=training),
    }


def rejection(kept: np.ndarray, wrong: Flags) -> dict[str, float]:
    """Return precision and recall of rejected places, and the share of wrong sentences, over all classes."""
    rejected = np.broadcast_to(1 - kept, wrong.shape)
    found = float((rejected * wrong).sum())
    return {
        "precision": found / max(1e-9, float(rejected.sum())),
        "recall": found / max(1, int(wrong.sum())),
        "wrong": float(wrong.mean()),
        "rejected": float(rejected.mean()),
    }


def settings_of(arm: Arm, seen: Seen) -> str:
    """Return a short hash of what decides a run besides its key."""
    config = None if arm.config is None else to_dict(arm.config)
    return digest([PATTERNS, OFF_TOPIC, config, dict(arm.training), content_of(seen.data), seen.least])


def one(seen: Seen, name: str, arm: Arm, share: float, pattern: str, shots: int, seed: int) -> Record:
    """Return what is measured in a run."""
    sentences, wrong = planted(seen.data.classes, share, pattern, seed)
    if name == "oracle":
        sentences = tuple(
            tuple(text for text, flag in zip(own, flags, strict=True) if not flag)
            for own, flags in zip(sentences, wrong, strict=True)
        )
    told = replace(seen, data=replace(seen.data, sentences=sentences))
    result = run(arm, told, Case(split="all", shots=shots, seed=seed, crops=2))
    record: Record = {"steps": result.trained.steps, "all": result.measured.scores["all"].value}
    if name == "selection" and isinstance(result.method, BiomedCoOp):
        record |= rejection(result.method.kept_share.numpy(), wrong)
    return record


def cases(options: argparse.Namespace) -> Iterable[tuple[float, str, int, int]]:
    """Yield share of wrong sentences, pattern, shots and seed."""
    for seed in range(1, options.seeds + 1):
        for shots in map(int, options.shots.split(",")):
            for share in map(float, options.shares.split(",")):
                for pattern in ("places", "classes") if share else ("places",):
                    yield share, pattern, shots, seed


def above_base(records: Sequence[dict[str, Any]]) -> list[float]:
    """Return precision - share of wrong sentences for each set, model and seed, averaged over shots."""
    cells: dict[tuple[Any, ...], list[float]] = {}
    for each in records:
        cells.setdefault((each["data"], each["model"], each["seed"]), []).append(each["precision"] - each["wrong"])
    return [float(np.mean(values)) for values in cells.values()]


def report(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Print and return means by share and pattern, and whether rejections are wrong more often than sentences are."""
    rows = []
    for share, pattern in sorted({(each["share"], each["pattern"]) for each in records}):
        mine = [each for each in records if (each["share"], each["pattern"]) == (share, pattern)]
        row: dict[str, Any] = {"share": share, "pattern": pattern}
        for label in dict.fromkeys(each["label"] for each in mine):
            row[label] = float(np.mean([each["all"] for each in mine if each["label"] == label]))
        judged = [each for each in mine if "precision" in each]
        rejecting = [each for each in judged if each["rejected"]]  # a run that rejects nothing has no precision
        if judged and share:
            row |= {name: float(np.mean([each[name] for each in judged])) for name in ("recall", "rejected")}
            row |= {"precision": float(np.mean([each["precision"] for each in rejecting]))} if rejecting else {}
            row |= claim("the precision of rejections is above the base rate", above_base(rejecting))
        rows.append(row)
    names = [*arms(1), "precision", "recall", "rejected"]
    table(
        "wrong sentences",
        ("share", "pattern", *names, "verdict"),
        [
            (f"{r['share']:g}", r["pattern"], *(f"{r[n]:.3f}" if n in r else "-" for n in names), r.get("verdict", "-"))
            for r in rows
        ],
    )
    return {"rows": rows, "runs": len(records)}


def run_all(options: argparse.Namespace, files: Sequence[Path]) -> list[Record]:
    """Run what the files do not hold, and return the runs of these options."""
    runs, found = Runs(files, KEY), []
    for model in options.models.split(","):
        encoder = percept.load(model, dtype="float32")
        for seen in (each for name in options.sets.split(",") if (each := passed(encoder, name)) is not None):
            for case in cases(options):
                for name, arm in arms(options.epochs).items():
                    place = (options.epochs, settings_of(arm, seen), encoder.name, weights_of(encoder), name, seen.data.name, *case)  # fmt: skip
                    found.append(runs.once(place, lambda seen=seen, name=name, arm=arm, case=case: one(seen, name, arm, *case)))  # fmt: skip
            out.print(f"{encoder.name} {seen.data.name} is done", soft_wrap=True)
    return found


def recorded(options: argparse.Namespace, files: Sequence[Path]) -> list[Record]:
    """Return the runs of the files that have these epochs."""
    kept = [record for record in read_files(files, KEY) if record["epochs"] == options.epochs]
    return of_one_setting(kept, PLACE, {"model": "vectors"})


def main() -> None:
    """Run, print and write the comparison."""
    parser = parser_of(__doc__)
    parser.add_argument("--models", default="nano", help="encoders, separated by commas")
    parser.add_argument("--sets", default=",".join(FAMILY))
    parser.add_argument("--shots", default="1,2,4")
    parser.add_argument("--shares", default="0,0.25,0.5", help="of wrong sentences")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=50)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    start = time.perf_counter()
    files = files_of(options.runs, "planted.jsonl")
    records = recorded(options, files) if options.report else run_all(options, files)
    save(options.json_file, {**about(start), "models": options.models, **report(records)})


if __name__ == "__main__":
    main()
