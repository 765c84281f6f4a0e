"""Compare continual methods by what they keep and what they learn, on sequences of test beds and on one bed whose classes come in parts.

    PERCEPT_CACHE=... PYTHONPATH=benchmarks python benchmarks/adaptation/continual.py --models nano runs/upgrade/small-0 runs/upgrade/small-1 \\
        --json-file benchmarks/adaptation/continual.json

Ten sets, less those that do not pass the gate of an encoder, in two orders, 16 images of a class, each image classified among the names of its set
("task") or of all sets ("union"). The classes of one bed come in five parts, each image classified among the names seen so far; the average there is
over the parts seen so far. A task takes 41 steps of 32 images, where ZSCL takes 1,001 of 64, so that three encoders and three seeds fit into a day.

--groups: headline is the published methods and their rivals; ablations leaves parts out; location has LoRA in one tower and one kind of layer each.
The reference of ZSCL: images and sentences of the world that were drawn apart from each other, of seeds that nano was not trained on; "noise
reference" replaces the images by noise and the sentences by random words. All arms take the same steps, batches and label smoothing; the learning
rate of each is the best of `TOWER` or `LOW_RANK` by the mean of Transfer and Last on the first two sets, trained and measured on training images alone.
"WiSE-FT 0.5" is the mean of the initial weights and those of plain fine-tuning, measured after every task of the run of fine-tuning itself. The
largest threshold of CoDyRA is raised as its steps are fewer than the paper's, so that gates shrink as much over a task.

Runs are lines of --runs, so the command goes on where it was interrupted. Two processes may share the work, each with --threads 1, its own --runs
file and its own --arms, --seeds or --models; --report --runs ONE OTHER judges both. Intervals are bootstraps over (encoder, order, seed).
"""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from beds import about
from family import passed
from harness import save
from recorded import (
    Record,
    claim,
    content_of,
    differences,
    files_of,
    of_one_setting,
    read_files,
    show_claims,
    use_threads,
    weights_of,
)

import percept
from percept.core.config import to_dict
from percept.core.errors import PerceptError, unknown_name
from percept.core.io import append_json_line
from percept.core.report import out, table
from percept.methods.adaptation.bench import digest
from percept.methods.adaptation.few import LabelledSet, Seen
from percept.methods.adaptation.texts import base_of
from percept.methods.continual.codyra import CoDyRA
from percept.methods.continual.contract import CommonConfig, Continual, Schedule
from percept.methods.continual.finetune import FineTuning
from percept.methods.continual.harness import Matrix, run, tasks_of
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
PARTS = 5
"""Parts of the class-incremental set."""
SMOOTHING = 0.2
"""Label smoothing of every arm."""
SCORES = {
    "sequences": ("transfer", "average", "last", "forgetting", "mean", "never"),
    "class-incremental": ("incremental", "last", "forgetting"),
}
"""Scores of both kinds; mean is that of transfer and last, never the accuracy on the set that is never learned."""
PLACE = ("model", "weights", "sequence", "arm", "seed", "protocol")
"""Fields that identify a run, with `settings`, the hash of everything else that changes its result."""
CELL = ("model", "weights", "sequence", "seed")
"""Fields that two runs of a pair share."""
TUNED = "tuning"
"""Name of the sequence on which learning rates are chosen."""
UNTOUCHED = "untouched"
"""Arm of the model that nothing is taught to; it is measured in every run."""
BLENDS = (0.2, 0.5, 0.8)
"""Shares of the fine-tuned weights in WiSE-FT."""
TOWER, LOW_RANK = (3e-6, 1e-5, 3e-5, 1e-4), (1e-4, 5e-4, 2e-3)
"""Learning rates that are tried for whole towers and for low-rank updates."""
Group = Literal["headline", "ablations", "location"]


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A method with its configuration."""

    name: str
    kind: type[Continual]
    config: Any
    rates: tuple[float, ...] = TOWER
    reference: str = ""
    """Kind of the reference: world, noise or none."""
    blends: tuple[float, ...] = ()
    """Shares of the trained weights in means with the initial ones that are measured too."""
    group: Group = "ablations"


def lora(name: str, **fields: Any) -> Arm:
    """Return plain LoRA, or CoDyRA with some fields."""
    return Arm(name=name, kind=CoDyRA, config=CoDyRA.Config(**fields), rates=LOW_RANK)


ZSCL_ = ZSCL.Config(every=10)
MULKI = MulKILike.Config()
HEADLINE = (
    Arm(name="fine-tuning", kind=FineTuning, config=FineTuning.Config(), blends=BLENDS),
    Arm(name="LwF", kind=LwF, config=LwF.Config()),
    Arm(name="replay", kind=Replay, config=Replay.Config()),
    Arm(name="ZSCL", kind=ZSCL, config=ZSCL_, reference="world"),
    Arm(name="mulki-like", kind=MulKILike, config=MULKI),
    lora("CoDyRA"),
    *(lora(f"LoRA {rank}", rank=rank, gates="one") for rank in (1, 4, 8, 16)),
)
ABLATIONS = (
    Arm(name="L2", kind=FineTuning, config=FineTuning.Config(penalty=1.0)),
    Arm(name="WiSE-FT after each task", kind=FineTuning, config=FineTuning.Config(share=0.5)),
    Arm(name="ZSCL, features alone", kind=ZSCL, config=replace(ZSCL_, penalty=0.0, every=0), reference="world"),
    Arm(name="ZSCL, weights alone", kind=ZSCL, config=replace(ZSCL_, images=0.0, sentences=0.0)),
    Arm(name="ZSCL, noise reference", kind=ZSCL, config=ZSCL_, reference="noise"),
    Arm(name="mulki-like, equal teachers", kind=MulKILike, config=replace(MULKI, teachers="fixed")),
    Arm(name="mulki-like, initial teacher", kind=MulKILike, config=replace(MULKI, teachers="initial")),
    Arm(name="mulki-like, previous teacher", kind=MulKILike, config=replace(MULKI, teachers="previous")),
    Arm(name="mulki-like, no eliciting", kind=MulKILike, config=replace(MULKI, eliciting=0.0)),
    Arm(name="mulki-like, no relations", kind=MulKILike, config=replace(MULKI, relations=0.0)),
    Arm(name="mulki-like, no connections", kind=MulKILike, config=replace(MULKI, connections=0.0)),
    lora("CoDyRA, no threshold", threshold=0.0),
    lora("CoDyRA, random gates", gates="random"),
)
LOCATION = tuple(
    lora(f"LoRA {rank}, {tower} {'+'.join(layers)}", rank=rank, gates="one", towers=(tower,), layers=layers)
    for tower in ("vision", "text")
    for layers in (("qkv",), ("out",), ("up", "down"))
    for rank in (1, 8)
)
ARMS: tuple[Arm, ...] = (
    *(replace(arm, group="headline") for arm in HEADLINE), *ABLATIONS, *(replace(arm, group="location") for arm in LOCATION),
)  # fmt: skip
NAMES = (
    UNTOUCHED,
    "fine-tuning",
    *(f"WiSE-FT {share:g}" for share in BLENDS),
    *(arm.name for arm in ARMS if arm.name != "fine-tuning"),
)
"""All arms in the order of tables, those that are measured in the runs of others included."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """That an arm is above a rival in a score, by more than a margin."""

    row: str
    words: str
    arm: str
    than: str
    score: str
    margin: float = 0.0


def above(row: str, arm: str, rivals: Sequence[str], *scores: str) -> list[Claim]:
    """Claim that an arm is above its rivals."""
    return [
        Claim(row=row, words=f"{score} of {arm} is above {than}", arm=arm, than=than, score=score)
        for than in rivals
        for score in scores
    ]


def forgets_less(row: str, arm: str, rivals: Sequence[str]) -> list[Claim]:
    """Claim that the forgetting of the rivals is above that of an arm."""
    return [
        Claim(row=row, words=f"{arm} forgets less than {than}", arm=than, than=arm, score="forgetting")
        for than in rivals
    ]


WISE = tuple(f"WiSE-FT {share:g}" for share in BLENDS)
LORA = tuple(f"LoRA {rank}" for rank in (1, 4, 8, 16))
CLAIMS: tuple[Claim, ...] = (
    Claim(row="S54", words="ZSCL keeps Transfer within 2 points of zero-shot", arm="ZSCL", than=UNTOUCHED, score="transfer", margin=-0.02),
    Claim(row="S54", words="ZSCL loses at most 2 points of Last to fine-tuning", arm="ZSCL", than="fine-tuning", score="last", margin=-0.02),
    *above("S54", "ZSCL", ["fine-tuning"], "transfer"),
    *forgets_less("S54", "ZSCL", ["fine-tuning"]),
    *above("S54", "ZSCL", ["LwF", *WISE, "replay", UNTOUCHED], "average", "incremental"),
    *above("S54", "ZSCL", ["ZSCL, features alone", "ZSCL, weights alone", "L2", "WiSE-FT after each task"], "average", "incremental"),
    *above("S54", "ZSCL", ["ZSCL, noise reference"], "transfer"),
    *above("S38", "mulki-like", ["fine-tuning", "LwF", "mulki-like, initial teacher", "mulki-like, previous teacher"], "transfer", "last"),
    *above("S38", "mulki-like", ["mulki-like, equal teachers"], "transfer", "last", "mean"),
    *above("S38", "mulki-like", [f"mulki-like, no {stage}" for stage in ("eliciting", "relations", "connections")], "mean"),
    *above("S30", "CoDyRA", LORA, "transfer", "last"),
    *forgets_less("S30", "CoDyRA", [*LORA, "fine-tuning"]),
    Claim(row="S30", words="CoDyRA loses at most 1 point to zero-shot on sets not yet learned", arm="CoDyRA", than=UNTOUCHED, score="transfer", margin=-0.01),
    Claim(row="S30", words="CoDyRA loses at most 1 point to zero-shot on the set never learned", arm="CoDyRA", than=UNTOUCHED, score="never", margin=-0.01),
    *above("S30", "CoDyRA", ["CoDyRA, random gates", "CoDyRA, no threshold"], "transfer", "last"),
)  # fmt: skip
"""What is claimed. Scores that one kind of sequence does not have are left out there."""
GAP = Claim(
    row="S38",
    words="mean of mulki-like minus that of ZSCL, which has references",
    arm="mulki-like",
    than="ZSCL",
    score="mean",
)


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
    threads: int | None = None
    """Threads of PyTorch."""
    report: bool = False
    """Run nothing, and judge the runs of these steps, shots, batches, sets and protocol."""
    runs: tuple[Path, ...] = ()
    """Files of the runs, the first of which is written to; continual.jsonl in the cache by default."""
    json_file: Path | None = None
    """File for the result."""

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
    """Return the sequences of sets that pass the gate of the encoder, by name.

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
    return found


def see_part(seen: Seen, part: LabelledSet) -> Seen:
    """Return a part of a set with the vectors that the set has."""
    place = {key: row for row, key in enumerate(seen.data.keys)}
    return replace(seen, data=part, vectors=seen.vectors[[place[key] for key in part.keys]], folder=None)


def config_of(arm: Arm, steps: int) -> CommonConfig:
    """Return the configuration of an arm with the smoothing of all; gates shrink as much in `steps` as in the steps of the paper."""
    config = replace(arm.config, smoothing=SMOOTHING)
    if arm.kind is not CoDyRA:
        return config
    return replace(config, threshold=config.threshold * CoDyRA.schedule().steps / max(1, steps))


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
    file: Path
    done: dict[tuple[Any, ...], Record]

    def record(self, name: str, sets: Sequence[Seen], seed: int, rate: float) -> Record:
        """Return the record of a run, which takes place if it is not done."""
        job = Job(arm=self.arm, sequence=name, sets=sets, rate=rate, options=self.options)
        place = (self.model, weights_of(self.encoder), name, self.arm.name, seed, job.protocol)
        key = (*place, job.settings)
        if key not in self.done:
            result = job.run(self.encoder, seed, self.given)
            about_run = dict(zip((*PLACE, "settings"), key, strict=True)) | self.options.told | {"rate": rate}
            self.done[key] = about_run | result
            append_json_line(self.file, self.done[key])
            shown = " ".join(f"{score} {100 * result['scores'][score]:.1f}" for score in ("transfer", "average", "last", "forgetting"))  # fmt: skip
            out.print(f"{' '.join(map(str, place))}, rate {rate:g}: {shown}, {result['seconds']:.0f} s", soft_wrap=True)
        return self.done[key]

    def best_rate(self, sets: Sequence[Seen]) -> float:
        """Return the rate with the largest mean of Transfer and Last; the smallest of equal ones."""
        return max(self.arm.rates, key=lambda rate: (self.record(TUNED, sets, 0, rate)["scores"]["mean"], -rate))


def run_all(options: Options, files: Sequence[Path]) -> list[Record]:
    """Run what the files do not hold yet, and return the records of these options."""
    key, found = (*PLACE, "settings"), []
    done = {tuple(record[name] for name in key): record for record in read_files(files, key)}
    for model in options.models:
        encoder, references = percept.load(model, dtype="float32"), dict[str, Reference | None]()
        all_sets = sequences(options, encoder)
        tuned = [held_back(seen) for seen in next(iter(all_sets.values()))[:2]]
        for arm in options.chosen:
            if arm.reference not in references:
                references[arm.reference] = reference(arm.reference, encoder)
            cells = Cells(model, encoder, arm, references[arm.reference], options, files[0], done)
            rate = cells.best_rate(tuned)
            found += [cells.record(name, sets, seed, rate) for name, sets in all_sets.items() for seed in options.seeds]
    return found


def recorded(options: Options, files: Sequence[Path]) -> list[Record]:
    """Return the records of the files that have these options, whatever their encoders, arms and seeds."""
    records = read_files(files, (*PLACE, "settings", *options.told))
    kept = [
        record for record in records
        if options.told.items() <= record.items() and record["sequence"] != TUNED and record["protocol"] in (options.protocol, "seen")
    ]  # fmt: skip
    return of_one_setting(kept, PLACE)


def derived(records: Sequence[Record]) -> list[Record]:
    """Return the records, with those of arms that were measured in the runs of others: WiSE-FT, and the untouched model once in every cell."""
    found, known = [], set()
    for record in records:
        cell = tuple(record[name] for name in CELL)
        if cell not in known:
            found.append(record | {"arm": UNTOUCHED, "scores": record["untouched"], "kept bytes": {}})
            known.add(cell)
        found.append(record)
        found += [record | {"arm": f"WiSE-FT {share}", "scores": scores} for share, scores in record["blends"].items()]
    return found


def main(options: Options) -> None:
    """Run what is missing, print and write the comparison."""
    use_threads(options.threads)
    start, files = time.perf_counter(), files_of(options.runs, "continual.jsonl")
    records = recorded(options, files) if options.report else run_all(options, files)
    result = report(records)
    settings = to_dict(replace(options, runs=(), json_file=None))
    save(options.json_file, {**about(start), "options": settings, **result})


def report(records: Sequence[Record]) -> Record:
    """Print means and claims of both kinds of sequences, and return them."""
    everything, results = derived(records), {}
    for kind, scores in SCORES.items():
        chosen = [each for each in everything if (each["sequence"] == "class-incremental") == (kind != "sequences")]
        if not chosen:
            continue
        means = means_of(chosen, scores)
        rows = [(name, *(f"{100 * row[score]:.1f}" if score in row else "-" for score in scores), str(row["runs"])) for name, row in means.items()]  # fmt: skip
        table(f"{kind}, %", ("arm", *scores, "runs"), rows)
        claims = [judged(chosen, each) for each in CLAIMS if each.score in scores]
        show_claims(kind, claims)
        gap = judged(chosen, GAP) if GAP.score in scores else None
        if gap is not None and "value" in gap:
            out.print(f"{gap['claim']}: {gap['value']:+.3f}, 95 % interval {gap['interval']}", soft_wrap=True)
        results[kind] = {"means": means, "claims": claims, "gap to ZSCL": gap}
    return {"results": results, **costs(records), "runs": len(records)}


def means_of(records: Sequence[Record], scores: Sequence[str]) -> dict[str, Record]:
    """Return the mean scores of every arm."""
    found: dict[str, Record] = {}
    for name in NAMES:
        own = [record["scores"] for record in records if record["arm"] == name]
        if own:
            found[name] = {score: round(float(np.mean([each[score] for each in own if score in each])), 4) for score in scores if any(score in each for each in own)}  # fmt: skip
            found[name]["runs"] = len(own)
    return found


def judged(records: Sequence[Record], made: Claim) -> Record:
    """Return a claim with its paired difference and verdict."""
    values = differences(records, CELL, made.arm, made.than, lambda record: record["scores"].get(made.score))
    row = claim(f"{made.row}: {made.words}", values, margin=made.margin)
    return row | {"arm": made.arm, "than": made.than, "score": made.score}


def costs(records: Sequence[Record]) -> Record:
    """Print and return what arms keep from task to task, their active ranks with those of gates without a gradient, and their rates."""
    chosen = [record for record in records if record["sequence"] != "class-incremental"] or list(records)
    kept, ranks, rates = {}, {}, {}
    for name in dict.fromkeys(record["arm"] for record in chosen):
        own = [record for record in chosen if record["arm"] == name]
        kept[name] = {part: round(size / 1e6, 2) for part, size in own[0]["kept bytes"].items()}
        if "mean rank" in own[0]:
            ranks[name] = round(float(np.mean([record["mean rank"] for record in own])), 2)
        rates[name] = {record["model"]: record["rate"] for record in own}
    table("kept from task to task besides the model, MB", ("arm", "MB", "what"), [(name, f"{sum(parts.values()):.2f}", ", ".join(parts) or "nothing") for name, parts in kept.items()])  # fmt: skip
    null = {steps: ranks_by_chance(steps) for steps in sorted({record["steps"] for record in chosen})}
    for name, rank in ranks.items():
        out.print(f"{name}: mean active rank {rank}", soft_wrap=True)
    for steps, (value, deviation) in null.items() if ranks else ():
        out.print(f"CoDyRA gates without a gradient, {steps} steps: active rank {value:.2f}, standard deviation {deviation:.2f}", soft_wrap=True)  # fmt: skip
    return {
        "kept from task to task, MB": kept, "mean active rank": ranks, "rates": rates,
        "active rank without a gradient": {str(steps): [round(each, 2) for each in values] for steps, values in null.items()},
    }  # fmt: skip


def ranks_by_chance(steps: int) -> tuple[float, float]:
    """Return mean and standard deviation of the active ranks of an update of CoDyRA whose gates get no gradient."""
    config: Any = config_of(next(arm for arm in ARMS if arm.name == "CoDyRA"), steps)
    return CoDyRA.ranks_by_chance(config, steps)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
