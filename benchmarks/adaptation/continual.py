"""Compare continual methods by what they keep and what they learn, on sequences of test beds and on one bed whose classes come in parts.

    PYTHONPATH=benchmarks python benchmarks/upgrade.py --train --folder runs/upgrade          # small encoders
    PERCEPT_CACHE=... PYTHONPATH=benchmarks python benchmarks/adaptation/continual.py --models runs/upgrade/small-0 runs/upgrade/small-1 \\
        runs/upgrade/small-2 --json-file benchmarks/adaptation/continual.json

Ten sets, less those that do not pass the gate of an encoder, in two orders, 16 images of a class, each image classified among the names of its set
("task") or of all sets ("union"). The classes of one bed come in five parts, each image classified among the names seen so far; the average there is
over the parts seen so far. A task takes 41 steps of 32 images, where ZSCL takes 1,001 of 64: the cheap setting for three encoders and three seeds.

--groups: headline is the published methods and their rivals; ablations leaves parts out; location has LoRA in one tower and one kind of layer each.
The reference of ZSCL: images and sentences of the world that were drawn apart from each other, of seeds that nano was not trained on; "noise
reference" replaces the images by noise and the sentences by random words. All arms take the same steps, batches and label smoothing; the learning
rate of each is the best of `TOWER` or `LOW_RANK` by the mean of Transfer and Last on the first two sets, trained and measured on training images alone.
"WiSE-FT 0.5" is the mean of the initial weights and those of plain fine-tuning, measured after every task of the run of fine-tuning itself; "WiSE-FT after
each task" goes on from the mean of the weights before and after a task, with a share of 0.8, as the release of ZSCL does. The
largest threshold of CoDyRA is raised as its steps are fewer than the paper's, so that gates shrink as much over a task. Its towers are timed in turns with
those of the encoder, after an update is merged and before.

Runs are lines of --runs, so the command goes on where it was interrupted. Two processes may share the work, each with --threads 1, its own --runs
file and its own --arms or --models; --report --runs ONE OTHER judges both. Intervals are bootstraps over (encoder, order, seed).
"""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from beds import about
from continual_arms import ARMS, Arm, Group, config_of
from continual_report import LATENCY, report
from family import passed
from harness import Rate, Turns, save, take_turns, timed
from recorded import (
    Record,
    RunOptions,
    Runs,
    best_of,
    content_of,
    files_of,
    of_one_setting,
    read_files,
    weights_of,
)

import percept
from percept.core.config import to_dict
from percept.core.errors import PerceptError, unknown_name
from percept.methods.adaptation.bench import digest
from percept.methods.adaptation.few import LabelledSet, Seen
from percept.methods.adaptation.texts import base_of
from percept.methods.continual.codyra import CoDyRA
from percept.methods.continual.contract import Schedule
from percept.methods.continual.harness import Matrix, run, tasks_of
from percept.methods.continual.zscl import ZSCL, Reference
from percept.models.clip import CLIP
from percept.world import generate, long_caption, sample_scene, short_caption

ORDER = ("chalk", "satellite", "colours", "emoji", "fog", "fills", "pixels", "openclipart", "x-ray", "psychedelic")
"""Order 1. Order 2 is a fixed permutation of it."""
SECOND = (6, 2, 8, 5, 0, 9, 3, 7, 1, 4)
REFERENCES = 500
"""Images, and as many sentences, of a reference; their seeds start at 10 million."""
PARTS = 5
"""Parts of the class-incremental set."""
PLACE = ("model", "weights", "sequence", "arm", "seed", "protocol")
"""Fields that identify a run, with `settings`, the hash of everything else that changes its result."""
KEY = (*PLACE, "settings")
TUNED = "tuning"
"""Name of the sequence on which learning rates are chosen."""
TIMED = {"images": 16, "texts": 16, "turns": 9, "span": 4.0}
"""What the latency of CoDyRA is measured with: sizes of a batch, and at least so many turns in so many seconds."""


@dataclass(frozen=True, kw_only=True)
class Options(RunOptions):
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
    steps: int = 41
    """Steps of a task; one more than a multiple of the period of ZSCL's mean, which then holds the last weights."""
    batch: int = 32
    """Images of a step."""
    protocol: Literal["task", "union"] = "task"
    """Names among which images of the sequences are classified."""
    class_incremental: str = "chalk"
    """Set whose classes are learned in five parts; empty to leave it out."""
    groups: tuple[Group, ...] = ("headline",)
    """Groups of arms that are run."""
    arms: tuple[str, ...] = ()
    """Arms that are run, in place of the groups."""

    @property
    def chosen(self) -> list[Arm]:
        """Arms that are run."""
        known = {arm.name: arm for arm in ARMS}
        if unknown := [name for name in self.arms if name not in known]:
            raise unknown_name("arm", unknown[0], known)
        return [arm for arm in ARMS if (arm.name in self.arms if self.arms else arm.group in self.groups)]

    @property
    def told(self) -> Record:
        """Settings that every record has in words, besides the hash."""
        return {"steps": self.steps, "shots": self.shots, "batch": self.batch, "sets": ",".join(self.sets)}


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
    """Return the sequences of sets that pass the gate of the encoder, by name; and that of `TUNED`, the same whatever orders are run.

    Raises:
        PerceptError: fewer than three sets pass.
    """
    kept = {name: seen for name in options.sets if (seen := passed(encoder, name)) is not None}
    if len(kept) < 3:
        raise PerceptError(
            f"only {len(kept)} of the sets pass the gate of {encoder.name}. Give at least three that do."
        )
    places = [place for place in SECOND if place < len(options.sets)]
    orders = {1: options.sets, 2: tuple(options.sets[place] for place in places)}
    found = {f"order {number}": [kept[name] for name in orders[number] if name in kept] for number in options.orders}
    if options.class_incremental and (seen := passed(encoder, options.class_incremental)) is not None:
        found["class-incremental"] = [see_part(seen, part) for part in parts_of(seen.data, PARTS)]
    return found | {TUNED: [held_back(seen) for seen in list(kept.values())[:2]]}


def see_part(seen: Seen, part: LabelledSet) -> Seen:
    """Return a part of a set with the vectors that the set has."""
    place = {key: row for row, key in enumerate(seen.data.keys)}
    return replace(seen, data=part, vectors=seen.vectors[[place[key] for key in part.keys]], folder=None)


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run: an arm on a sequence. `settings` holds everything that changes the result, besides encoder and seed."""

    arm: Arm
    sequence: str
    sets: Sequence[Seen]
    rate: float
    options: Options

    @property
    def protocol(self) -> str:
        """Names among which images are classified."""
        return "seen" if self.sequence == "class-incremental" else self.options.protocol

    @property
    def schedule(self) -> Schedule:
        """Optimisation of a task."""
        own, options = self.arm.kind.schedule(), self.options
        return replace(own, steps=options.steps, batch=options.batch, rate=self.rate, warmup=min(own.warmup, options.steps // 10))  # fmt: skip

    @property
    def settings(self) -> str:
        """A short hash."""
        arm = self.arm
        return digest(
            [
                arm.kind.__name__, to_dict(config_of(arm, self.options.steps)), arm.reference and [arm.reference, REFERENCES], arm.blends,
                to_dict(self.schedule), self.options.shots, self.protocol, self.sequence.startswith("order") and self.options.sets,
                [[content_of(seen.data), seen.least] for seen in self.sets],
            ]
        )  # fmt: skip

    def run(self, encoder: Any, seed: int, given: Reference | None) -> Record:
        """Teach the arm the sequence, and return the measurements."""
        torch.manual_seed(seed)
        method = self.arm.kind(config_of(self.arm, self.options.steps), base_of(encoder))
        if isinstance(method, ZSCL) and given is not None:
            method.refer(given)
        tasks = tasks_of(self.sets, self.options.shots, seed)
        never = tasks[-1:] if self.sequence.startswith("order") else []
        matrix, facts = run(
            method, tasks[: len(tasks) - len(never)], protocol=self.protocol, schedule=self.schedule, seed=seed, others=never,
            blends=self.arm.blends,
        )  # fmt: skip
        extra = {"mean rank": method.mean_rank, "ranks": method.history[-1]} if isinstance(method, CoDyRA) else {}
        blends = {f"{share:g}": scores_of(*found) for share, found in facts.pop("blends").items()}
        untouched = scores_of(
            matrix.zero_shot, {name: [first, first] for name, (first, _) in facts["never learned"].items()}
        )
        return {
            **facts, **extra, "schedule": to_dict(self.schedule), "scores": scores_of(matrix, facts["never learned"]), "untouched": untouched,
            "blends": blends, "after": matrix.after.round(4).tolist(), "before": matrix.before.round(4).tolist(),
        }  # fmt: skip


def latency(encoder: Any) -> Record:
    """Return how many times the processor time of the encoder's towers those of CoDyRA take, after an update is merged and before; measured in turns."""
    size = encoder.preprocess.size
    method = CoDyRA(CoDyRA.Config(), base_of(encoder)).eval()
    image = torch.randn(TIMED["images"], 3, size, size)
    tokens = method.tokens([f"a photo of number {number}" for number in range(TIMED["texts"])])

    @torch.no_grad()
    def embed(clip: CLIP, passes: int) -> Rate:
        return timed(lambda: (clip.embed_image(image), clip.embed_text(tokens)), torch.device("cpu"), passes)

    clips = {"plain": base_of(encoder).copied().clip, "merged": method.merged(), "not merged": method.clip}
    times = take_turns({name: partial(embed, clip.eval()) for name, clip in clips.items()}, Turns(TIMED["turns"], TIMED["span"]))  # fmt: skip
    turns = {name: [each.processor for each in own.passes] for name, own in times.items()}
    return {
        "times the processor time": {name: round(float(np.median(np.divide(turns[name], turns["plain"]))), 4) for name in ("merged", "not merged")},
        "seconds of a pass": {name: each.summary() for name, each in times.items()},
        "parameters": {name: sum(each.numel() for each in clip.parameters()) for name, clip in clips.items()},
    }  # fmt: skip


def scores_of(matrix: Matrix, never: dict[str, list[float]]) -> dict[str, float]:
    """Return all scores of a run."""
    found = matrix.summary()
    found["mean"] = (found["transfer"] + found["last"]) / 2
    return found | ({"never": float(np.mean([after for _, after in never.values()]))} if never else {})


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
    runs: Runs

    def record(self, name: str, sets: Sequence[Seen], seed: int, rate: float) -> Record:
        """Return the record of a run, which takes place if it is not done."""
        job = Job(arm=self.arm, sequence=name, sets=sets, rate=rate, options=self.options)
        place = (self.model, weights_of(self.encoder), name, self.arm.name, seed, job.protocol)

        def told(record: Record) -> str:
            shown = " ".join(f"{score} {100 * record['scores'][score]:.1f}" for score in ("transfer", "average", "last", "forgetting"))  # fmt: skip
            return f"{' '.join(map(str, place))}, rate {rate:g}: {shown}, {record['seconds']:.0f} s"

        return self.runs.once(
            (*place, job.settings), lambda: self.options.told | {"rate": rate} | job.run(self.encoder, seed, self.given), told
        )  # fmt: skip

    def latency(self) -> Record:
        """Return the record of the latency of the arm."""
        place = (self.model, weights_of(self.encoder), LATENCY, self.arm.name, 0, self.options.protocol, digest(TIMED))

        def told(record: Record) -> str:
            return f"{self.model}: CoDyRA takes {record['times the processor time']} times the processor time of the encoder"

        return self.runs.once(place, lambda: self.options.told | latency(self.encoder), told)

    def best_rate(self, sets: Sequence[Seen]) -> float:
        """Return the rate with the largest mean of Transfer and Last."""
        return best_of(self.arm.rates, lambda rate: self.record(TUNED, sets, 0, rate)["scores"]["mean"])


def run_all(options: Options, files: Sequence[Path]) -> list[Record]:
    """Run what the files do not hold yet, and return the records of these options."""
    runs, found = Runs(files, KEY), []
    for model in options.models:
        encoder, references = percept.load(model, dtype="float32"), dict[str, Reference | None]()
        all_sets = sequences(options, encoder)
        tuned = all_sets.pop(TUNED)
        for arm in options.chosen:
            if arm.reference not in references:
                references[arm.reference] = reference(arm.reference, encoder)
            cells = Cells(model, encoder, arm, references[arm.reference], options, runs)
            rate = cells.best_rate(tuned)
            found += [cells.record(name, sets, seed, rate) for name, sets in all_sets.items() for seed in options.seeds]
            found += [cells.latency()] if arm.name == "CoDyRA" else []
    return found


def recorded(options: Options, files: Sequence[Path]) -> list[Record]:
    """Return the records of the files that have these options, whatever their encoders, arms and seeds."""
    records = read_files(files, (*KEY, *options.told))
    kept = [
        record for record in records
        if options.told.items() <= record.items() and record["sequence"] != TUNED and record["protocol"] in (options.protocol, "seen")
    ]  # fmt: skip
    return of_one_setting(kept, PLACE, {"model": "weights"})


def main(options: Options) -> None:
    """Run what is missing, print and write the comparison."""
    torch.set_num_threads(options.threads)
    start, files = time.perf_counter(), files_of(options.runs, "continual.jsonl")
    records = recorded(options, files) if options.report else run_all(options, files)
    result = report(records)
    settings = to_dict(replace(options, runs=(), json_file=None))
    save(options.json_file, {**about(start), "options": settings, **result})


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
