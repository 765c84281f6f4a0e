"""Compare continual methods by what they keep and what they learn, on sequences of test beds and on one bed whose classes come in parts.

    PERCEPT_CACHE=... PYTHONPATH=benchmarks python benchmarks/adaptation/continual.py --json-file benchmarks/adaptation/continual.json

Eight or more sets in two orders, 16 images of a class, each image classified among the names of its set ("task") or of all sets ("union").
The reference of ZSCL: images and sentences of the world that were drawn apart from each other, of seeds that nano was not trained on; "noise
reference" replaces the images by noise and the sentences by random words. All arms take the same steps and batches; the learning rate of each is
the best of `TOWER` or `LOW_RANK` by the mean of Transfer and Last on the first two sets, trained and measured on training images alone. The
largest threshold of CoDyRA is raised as its steps are fewer than the paper's, so that gates shrink as much over a task. Runs are lines of --runs,
so the command goes on where it was interrupted; intervals are bootstraps over (encoder, order, seed).
"""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from beds import BEDS, about, home, seen_by
from harness import save

import percept
from percept.core.config import to_dict
from percept.core.io import append_json_line
from percept.core.report import out, table
from percept.eval.statistics import mean
from percept.methods.adaptation.bench import FEWEST, read_records, verdict
from percept.methods.adaptation.few import LabelledSet, Seen
from percept.methods.adaptation.texts import base_of
from percept.methods.continual.codyra import CoDyRA
from percept.methods.continual.contract import Continual
from percept.methods.continual.finetune import FineTuning
from percept.methods.continual.harness import run, tasks_of
from percept.methods.continual.lwf import LwF
from percept.methods.continual.mulki import MulKILike
from percept.methods.continual.replay import Replay
from percept.methods.continual.zscl import ZSCL, Reference
from percept.world import generate, long_caption, sample_scene, short_caption

ORDER = ("chalk", "satellite", "colours", "emoji", "fog", "fills", "pixels", "openclipart", "x-ray", "psychedelic")
"""Order 1. Order 2 is a fixed permutation of it."""
SECOND = (6, 2, 8, 5, 0, 9, 3, 7, 1, 4)
REFERENCES = 500
"""Images, and as many sentences, of a reference; their seeds start at 10 million."""
SUMMARY = ("transfer", "average", "last", "forgetting")
KEY = ("model", "sequence", "arm", "seed", "steps", "shots", "batch", "protocol")
"""Fields that identify a run."""
TUNED = "tuning"
"""Name of the sequence on which learning rates are chosen."""
TOWER, LOW_RANK = (3e-6, 1e-5, 3e-5, 1e-4), (1e-4, 5e-4, 2e-3)
"""Learning rates that are tried for whole towers and for low-rank updates."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A method with its configuration."""

    name: str
    kind: type[Continual]
    config: Any
    rates: tuple[float, ...] = TOWER
    reference: str = ""
    """Kind of the reference: world, noise or none."""


ZSCL_ = ZSCL.Config(every=10)
MULKI = MulKILike.Config()
ARMS = (
    Arm(name="fine-tuning", kind=FineTuning, config=FineTuning.Config()),
    Arm(name="L2", kind=FineTuning, config=FineTuning.Config(penalty=1.0)),
    Arm(name="WiSE-FT", kind=FineTuning, config=FineTuning.Config(share=0.5)),
    Arm(name="LwF", kind=LwF, config=LwF.Config()),
    Arm(name="replay", kind=Replay, config=Replay.Config()),
    Arm(name="ZSCL", kind=ZSCL, config=ZSCL_, reference="world"),
    Arm(name="ZSCL, features alone", kind=ZSCL, config=replace(ZSCL_, penalty=0.0, every=0), reference="world"),
    Arm(name="ZSCL, weights alone", kind=ZSCL, config=replace(ZSCL_, images=0.0, sentences=0.0)),
    Arm(name="ZSCL, noise reference", kind=ZSCL, config=ZSCL_, reference="noise"),
    Arm(name="mulki-like", kind=MulKILike, config=MULKI),
    Arm(name="mulki-like, equal teachers", kind=MulKILike, config=replace(MULKI, teachers="fixed")),
    Arm(name="mulki-like, initial teacher", kind=MulKILike, config=replace(MULKI, teachers="initial")),
    Arm(name="mulki-like, previous teacher", kind=MulKILike, config=replace(MULKI, teachers="previous")),
    Arm(name="mulki-like, no eliciting", kind=MulKILike, config=replace(MULKI, eliciting=0.0)),
    Arm(name="mulki-like, no relations", kind=MulKILike, config=replace(MULKI, relations=0.0)),
    Arm(name="mulki-like, no connections", kind=MulKILike, config=replace(MULKI, connections=0.0)),
    Arm(name="CoDyRA", kind=CoDyRA, config=CoDyRA.Config(), rates=LOW_RANK),
    *(
        Arm(name=f"LoRA {rank}", kind=CoDyRA, config=CoDyRA.Config(rank=rank, gated=False), rates=LOW_RANK)
        for rank in (1, 4, 8, 16)
    ),
    Arm(name="CoDyRA, no threshold", kind=CoDyRA, config=CoDyRA.Config(threshold=0.0), rates=LOW_RANK),
)
CLAIMS: tuple[tuple[str, str, str, str, float], ...] = (
    ("ZSCL keeps Transfer above fine-tuning", "ZSCL", "fine-tuning", "transfer", 0.0),
    ("ZSCL loses at most 2 points of Last to fine-tuning", "ZSCL", "fine-tuning", "last", -0.02),
    ("ZSCL forgets less than fine-tuning", "fine-tuning", "ZSCL", "forgetting", 0.0),
    *((f"Avg of ZSCL is above {rival}", "ZSCL", rival, "average", 0.0) for rival in ("LwF", "WiSE-FT", "replay")),
    ("ZSCL is above features alone", "ZSCL", "ZSCL, features alone", "average", 0.0),
    ("ZSCL is above weights alone", "ZSCL", "ZSCL, weights alone", "average", 0.0),
    ("ZSCL is above a reference of noise", "ZSCL", "ZSCL, noise reference", "transfer", 0.0),
    *(
        (f"{score} of mulki-like is above {rival}", "mulki-like", rival, score, 0.0)
        for rival in ("fine-tuning", "LwF", "mulki-like, equal teachers", "mulki-like, initial teacher", "mulki-like, previous teacher")
        for score in ("transfer", "last")
    ),
    *(
        (f"{score} of mulki-like is above {stage}", "mulki-like", f"mulki-like, no {stage}", score, 0.0)
        for stage in ("eliciting", "relations", "connections")
        for score in ("transfer", "last")
    ),
    *(
        (f"{score} of CoDyRA is above LoRA {rank}", "CoDyRA", f"LoRA {rank}", score, 0.0)
        for rank in (4, 8, 16)
        for score in ("transfer", "last")
    ),
    ("CoDyRA forgets less than LoRA 16", "LoRA 16", "CoDyRA", "forgetting", 0.0),
    ("CoDyRA forgets less than fine-tuning", "fine-tuning", "CoDyRA", "forgetting", 0.0),
)  # fmt: skip
"""What is claimed: words, arm, the arm it is compared with, score, and the least difference."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of the benchmark."""

    models: tuple[str, ...] = ("nano",)
    """Encoders."""
    sets: tuple[str, ...] = ORDER
    """Sets of order 1; the last one of each order is never learned."""
    orders: tuple[int, ...] = (1, 2)
    """Orders that are run."""
    seeds: tuple[int, ...] = (1, 2, 3)
    """Seeds of the drawn images."""
    shots: int = 16
    """Images of a class."""
    steps: int = 61
    """Steps of a task; one more than a multiple of the period of ZSCL's mean, which then holds the last weights."""
    batch: int = 32
    """Images of a step."""
    protocol: str = "task"
    """Names among which images are classified: task or union."""
    class_incremental: str = "chalk"
    """Set whose classes are learned in five parts, classified among all; empty to leave it out."""
    arms: tuple[str, ...] = field(default_factory=lambda: tuple(arm.name for arm in ARMS))
    """Arms that are run."""
    runs: Path | None = None
    """File of the runs; continual.jsonl in the cache by default."""
    json_file: Path | None = None
    """File for the result."""


def reference(kind: str, encoder: Any) -> Reference | None:
    """Return images and sentences that do not belong together."""
    if not kind:
        return None
    size, dice = encoder.preprocess.size, np.random.default_rng(0)
    if kind == "noise":
        images: list[Any] = [dice.integers(0, 255, (size, size, 3), dtype=np.uint8) for _ in range(REFERENCES)]
        words = sorted({word for text in reference_texts() for word in text.split()})
        texts = [" ".join(dice.choice(words, 6)) for _ in range(REFERENCES)]
    else:
        images = [generate(10_000_000 + n, split="train", style="mixed", truth=False).image for n in range(REFERENCES)]
        texts = reference_texts()
    pixels = torch.cat([encoder.preprocess.stack(as_pictures(images[n : n + 64])) for n in range(0, len(images), 64)])
    return Reference(image=encoder.preprocess.normalise(pixels), texts=texts)


def as_pictures(images: Sequence[Any]) -> list[Any]:
    """Return images as Pillow has them."""
    from PIL import Image

    return [Image.fromarray(each) for each in images]


def reference_texts() -> list[str]:
    """Return different captions of scenes other than those of the images."""
    rng, found = random.Random(0), {}
    for number in range(20_000_000, 20_000_000 + 4 * REFERENCES):
        write = short_caption if number % 2 else long_caption
        found[write(sample_scene(number, split="train", style="mixed"), rng)] = None
    return list(found)[:REFERENCES]


def parts_of(data: LabelledSet, count: int) -> list[LabelledSet]:
    """Return the set as `count` sets of some of its classes each."""
    return [
        subset(data, part.tolist(), number)
        for number, part in enumerate(np.array_split(np.arange(len(data.classes)), count))
    ]


def subset(data: LabelledSet, classes: list[int], number: int) -> LabelledSet:
    """Return the images of some classes."""
    rows = np.flatnonzero(np.isin(data.labels, classes))
    place = {row: new for new, row in enumerate(rows.tolist())}

    def among(chosen: np.ndarray) -> np.ndarray:
        return np.array([place[row] for row in chosen.tolist() if row in place], dtype=np.int64)

    return replace(
        data, name=f"{data.name} {number + 1}", classes=tuple(data.classes[each] for each in classes), image=lambda row: data.image(int(rows[row])),
        labels=np.searchsorted(classes, data.labels[rows]), keys=tuple(data.keys[row] for row in rows), pool=among(data.pool), test=among(data.test),
        looks=data.looks[rows], sentences=(),
    )  # fmt: skip


def sequences(options: Options, encoder: Any) -> dict[str, list[Seen]]:
    """Return the sequences of sets by name."""
    sets = [seen_by(encoder, data) for name in options.sets if (data := BEDS[name]()) is not None]
    found = {"order 1": sets, "order 2": [sets[place] for place in SECOND if place < len(sets)]}
    found = {name: found[name] for name in (f"order {number}" for number in options.orders)}
    if options.class_incremental and (data := BEDS[options.class_incremental]()) is not None:
        found["class-incremental"] = [seen_by(encoder, part) for part in parts_of(data, 5)]
    return found


def config_of(arm: Arm, steps: int) -> Any:
    """Return the configuration of an arm; gates shrink as much in `steps` as in the steps of the paper."""
    if arm.kind is not CoDyRA:
        return arm.config
    return replace(arm.config, threshold=arm.config.threshold * CoDyRA.schedule().steps / max(1, steps))


def one(arm: Arm, encoder: Any, sets: Sequence[Seen], options: Options, rate: float, seed: int, given: Reference | None, protocol: str) -> dict[str, Any]:  # fmt: skip
    """Run an arm over a sequence and return its record."""
    torch.manual_seed(seed)
    method = arm.kind(config_of(arm, options.steps), base_of(encoder))
    if isinstance(method, ZSCL) and given is not None:
        method.refer(given)
    tasks = tasks_of(sets, options.shots, seed)
    never = tasks[-1:] if protocol == "task" and len(tasks) > 2 else []
    schedule = replace(
        arm.kind.schedule(), steps=options.steps, batch=options.batch, rate=rate, warmup=min(arm.kind.schedule().warmup, options.steps // 10)
    )  # fmt: skip
    matrix, facts = run(
        method, tasks[: len(tasks) - len(never)], protocol=protocol, schedule=schedule, seed=seed, others=never
    )
    extra = {"mean rank": method.mean_rank, "ranks": method.history[-1]} if isinstance(method, CoDyRA) else {}
    return {
        **facts, **extra, "schedule": to_dict(schedule), "summary": matrix.summary(), "after": matrix.after.round(4).tolist(),
        "before": matrix.before.round(4).tolist(),
    }  # fmt: skip


def held_back(seen: Seen) -> Seen:
    """Return a set without its test images: every fourth training image of a class is measured, the others are trained on."""
    labels = seen.data.labels[seen.data.pool]
    number = np.array([int((labels[:place] == label).sum()) for place, label in enumerate(labels)])
    measured = number % 4 == 0
    return replace(seen, data=replace(seen.data, pool=seen.data.pool[~measured], test=seen.data.pool[measured]))


@dataclass(frozen=True)
class Cells:
    """The runs of one arm with one encoder; what is done is read from and added to a file."""

    model: str
    encoder: Any
    arm: Arm
    given: Reference | None
    options: Options
    file: Path
    done: dict[tuple[Any, ...], dict[str, Any]]

    def record(self, name: str, sets: Sequence[Seen], seed: int, rate: float) -> dict[str, Any]:
        """Return the record of a run, which takes place if it is not done."""
        options = self.options
        protocol = "union" if name == "class-incremental" else options.protocol
        arm = f"{self.arm.name} {rate:g}" if name == TUNED else self.arm.name
        place = (self.model, name, arm, seed, options.steps, options.shots, options.batch, protocol)
        if place not in self.done:
            result = one(self.arm, self.encoder, sets, options, rate, seed, self.given, protocol)
            self.done[place] = dict(zip(KEY, place, strict=True)) | result | {"rate": rate}
            append_json_line(self.file, self.done[place])
            shown = " ".join(f"{score} {100 * result['summary'][score]:.1f}" for score in SUMMARY)
            out.print(f"{' '.join(map(str, place))}: {shown}, {result['seconds']:.0f} s", soft_wrap=True)
        return self.done[place]

    def best_rate(self, sets: Sequence[Seen]) -> float:
        """Return the rate with the largest mean of Transfer and Last; the smallest of equal ones."""

        def worth(rate: float) -> float:
            scores = self.record(TUNED, sets, 0, rate)["summary"]
            return scores["transfer"] + scores["last"]

        return max(self.arm.rates, key=lambda rate: (worth(rate), -rate))


def main(options: Options) -> None:
    """Run what is missing, print and write the comparison."""
    start, file = time.perf_counter(), options.runs or home() / "continual.jsonl"
    done = {tuple(record[name] for name in KEY): record for record in read_records(file)}
    for model in options.models:
        encoder, references = percept.load(model, dtype="float32"), dict[str, Reference | None]()
        found = sequences(options, encoder)
        for arm in (arm for arm in ARMS if arm.name in options.arms):
            if arm.reference not in references:
                references[arm.reference] = reference(arm.reference, encoder)
            cells = Cells(model, encoder, arm, references[arm.reference], options, file, done)
            rate = cells.best_rate([held_back(seen) for seen in next(iter(found.values()))[:2]])
            for name, sets in found.items():
                for seed in options.seeds:
                    cells.record(name, sets, seed, rate)
    wanted = {"steps": options.steps, "shots": options.shots, "batch": options.batch}
    records = [each for each in done.values() if each["sequence"] != TUNED and wanted.items() <= each.items()]
    report(options, records, start)


def report(options: Options, records: Sequence[dict[str, Any]], start: float) -> None:
    """Print and write means and claims."""
    names = [arm.name for arm in ARMS if any(record["arm"] == arm.name for record in records)]
    result: dict[str, Any] = {}
    for kind, chosen in (
        ("sequences", [each for each in records if each["sequence"] != "class-incremental"]),
        ("class-incremental", [each for each in records if each["sequence"] == "class-incremental"]),
    ):
        if not chosen:
            continue
        scores = (*SUMMARY, "zero-shot transfer", "zero-shot")
        means = {
            name: {score: round(float(np.mean([r["summary"][score] for r in chosen if r["arm"] == name])), 4) for score in scores}
            for name in names
        }  # fmt: skip
        table(f"{kind}, %", ("arm", *scores), [(name, *(f"{100 * row[score]:.1f}" for score in scores)) for name, row in means.items()])  # fmt: skip
        claims = [row for claim in CLAIMS if (row := judged(chosen, *claim))]
        table(f"{kind}: paired differences, points", ("claim", "difference", "interval", "cells", "verdict"), [tuple(map(str, row.values())) for row in claims])  # fmt: skip
        result[kind] = {"means": means, "claims": claims}
    ranks = {name: round(float(np.mean([r["mean rank"] for r in records if r["arm"] == name])), 2) for name in names if any("mean rank" in r for r in records if r["arm"] == name)}  # fmt: skip
    never = {name: [r["never learned"] for r in records if r["arm"] == name and r["never learned"]] for name in names}
    rates = {r["arm"]: r["rate"] for r in records}
    settings = to_dict(replace(options, runs=None, json_file=None))
    save(options.json_file, {**about(start), "options": settings, "results": result, "mean active rank": ranks, "rates": rates, "never learned": never, "runs": len(records)})  # fmt: skip


def judged(records: Sequence[dict[str, Any]], words: str, arm: str, than: str, score: str, least: float) -> dict[str, Any] | None:  # fmt: skip
    """Return one claim, or None where an arm is missing."""
    cells: dict[tuple[Any, ...], dict[str, float]] = {}
    for record in records:
        if record["arm"] in (arm, than):
            cells.setdefault((record["model"], record["sequence"], record["seed"]), {})[record["arm"]] = record["summary"][score]  # fmt: skip
    differences = [both[arm] - both[than] - least for both in cells.values() if len(both) == 2]
    if not differences:
        return None
    found = mean(words, np.array(differences))
    interval = " – ".join(f"{100 * (end + least):.1f}" for end in (found.low, found.high))
    return {"claim": words, "difference": f"{100 * (found.value + least):+.1f}", "interval": interval, "cells": found.n, "verdict": verdict(found, fewest=FEWEST)}  # fmt: skip


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
