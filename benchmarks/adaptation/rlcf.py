"""Compare RLCF at test time with entropy minimisation, averaging of views, and the reward model itself.

    PYTHONPATH=benchmarks python benchmarks/upgrade.py --train --folder runs/upgrade          # policies: small encoders
    PYTHONPATH=benchmarks python benchmarks/adaptation/rlcf.py --policies runs/upgrade/small-0 runs/upgrade/small-1 \\
        --json-file benchmarks/adaptation/rlcf.json

Classification: test images of shifted beds that pass the gate of a policy, COUNT of each. Every arm sees the same views of an image and is reset after
it. Retrieval: short captions of the world and images of the evaluation split in all styles, in both directions, the tower of the queries adapted;
answers whose caption is the same are right too. Learning rates are those of --rates, chosen for each policy and objective on the training images of the
first bed, or on a gallery of the training split.

Every cell (policy, bed or direction, seed of samples) is a line of --runs, so the command goes on where it was interrupted. Two processes may share
the work, each with --threads 1, its own --runs file and its own --policies or --seeds; --report --runs ONE OTHER judges both. Differences are those of
accuracies of a cell; the intervals are bootstraps over cells. Captions are compared by `rlcf_captions.py`.
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from beds import BEDS, about
from family import passed
from harness import save
from PIL import Image
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
from rlcf_report import ITSELF, OBJECTIVES, SIDES, accuracies, classification_report, found_shares, retrieval_report
from rlcf_search import chosen_rates, measured, scale_of
from torch import Tensor

import percept
from percept.core.config import to_dict
from percept.core.errors import PerceptError, unknown_name
from percept.core.seed import derive
from percept.infer.encoder import Encoder
from percept.methods.adaptation.bench import digest
from percept.methods.adaptation.few import LabelledSet
from percept.methods.adaptation.rlcf import RLCF, Prompt, Sample, confident, views_of
from percept.methods.adaptation.texts import base_of, filled, text_vectors

LEAST, KEPT = 0.5, 0.2
"""Least share of an image in a view, as the things of these drawings are small; share of the views that take part."""
PLACE = ("kind", "policy", "weights", "reward", "reward weights", "bed", "seed")
"""Fields that identify a cell, with `settings`, the hash of everything else that changes its result."""
KEY = (*PLACE, "settings")


@dataclass(frozen=True, kw_only=True)
class Options(RunOptions):
    """Options of the benchmark."""

    policies: tuple[str, ...] = ()
    """Encoders that are adapted."""
    reward: str = "nano"
    """Encoder that judges; the policy itself is tried as a weaker judge."""
    beds: tuple[str, ...] = ("chalk", "fog", "pixels", "psychedelic")
    """Shifted sets."""
    seeds: tuple[int, ...] = (1, 2, 3)
    """Seeds of the samples and of their views."""
    count: int = 60
    """Test images of each set."""
    gallery: int = 200
    """Images and captions of retrieval."""
    queries: int = 60
    """How many of them are queries."""
    views: int = 32
    """Views of an image; 64 in the paper."""
    rates: tuple[float, ...] = (1e-3, 7e-3, 3e-2)
    """Learning rates that are tried for a prompt; 7e-3 in the paper."""
    query_rates: tuple[float, ...] = (1e-6, 1e-5, 1e-4)
    """Learning rates that are tried for the tower of queries; 1e-6 in the paper."""

    def told(self, kind: str) -> Record:
        """Return the settings that every record of a kind has in words, besides the hash."""
        sizes = {"count": self.count, "views": self.views} if kind == "classification" else {"gallery": self.gallery, "queries": self.queries}  # fmt: skip
        return {"kind": kind, "reward": self.reward, **sizes}


@dataclass(frozen=True, kw_only=True)
class Judge:
    """An encoder with the classes of a set."""

    encoder: Encoder
    classes: Tensor

    @classmethod
    def of(cls, encoder: Encoder, data: LabelledSet) -> "Judge":
        """Embed the class texts."""
        return cls(encoder=encoder, classes=text_vectors(base_of(encoder), filled(data.template, data.classes)))

    def see(self, data: LabelledSet, row: int, views: int, seed: int = 0) -> tuple[Tensor, Tensor]:
        """Return the unit vectors of the views of an image, and their cosines with the classes."""
        image = data.image(row)
        source = Image.fromarray(image) if isinstance(image, np.ndarray) else image
        vector = self.encoder.image(
            views_of(source, self.encoder.preprocess, views, least=LEAST, seed=derive(seed, data.name, row))
        )
        return vector, vector @ self.classes.T

    @property
    def scale(self) -> float:
        """The scale of the logits."""
        return scale_of(self.encoder)


# classification


@dataclass(frozen=True)
class Classifying:
    """A policy and a reward model on a set."""

    policy: Judge
    judge: Judge
    data: LabelledSet
    options: Options

    @classmethod
    def of(cls, policy: Encoder, reward: Encoder, data: LabelledSet, options: Options) -> "Classifying":
        """Embed the class texts with both."""
        return cls(Judge.of(policy, data), Judge.of(reward, data), data, options)

    @cached_property
    def module(self) -> Prompt:
        """A prompt that starts from the words of the template before the class name."""
        return Prompt(base_of(self.policy.encoder), self.data.classes, self.data.template.partition(" {}")[0])

    def task(self, arm: str, rate: float, seed: int) -> RLCF:
        """Return the loop of an arm; the policy judges itself in one of them."""
        config = RLCF.Config(rate=rate, kept=KEPT, objective=OBJECTIVES.get(arm, "reward"))
        return RLCF(config, self.module, (self.policy if arm == ITSELF else self.judge).scale, seed=seed)

    def seen(self, row: int, seed: int) -> dict[str, Sample]:
        """Return the views of an image with what either model says of them."""
        vector, own = self.policy.see(self.data, row, self.options.views, seed)
        judged = self.judge.see(self.data, row, self.options.views, seed)[1]
        return {"own": Sample(view=vector, cosine=own), "judged": Sample(view=vector, cosine=judged)}

    def chosen_rates(self) -> dict[str, float]:
        """Return for every arm the rate with the most right answers on training images, whose views are computed once."""
        count = min(self.options.count, len(self.data.pool))
        rows = sorted(random.Random(1).sample(self.data.pool.tolist(), count))
        samples = [self.seen(row, 0) for row in rows]

        def right(arm: str, rate: float) -> float:
            found = [self.answer(arm, rate, sample, row) for row, sample in zip(rows, samples, strict=True)]
            return float(np.mean(np.array(found) == self.data.labels[rows]))

        return {
            arm: best_of(self.options.rates, lambda rate, arm=arm: right(arm, rate)) for arm in (*OBJECTIVES, ITSELF)
        }

    def answer(self, arm: str, rate: float, sample: dict[str, Sample], seed: int) -> int:
        """Return the class after adaptation."""
        return int(self.task(arm, rate, seed).adapted(sample["own" if arm == ITSELF else "judged"]).argmax())

    def answers(self, rows: Sequence[int], rates: dict[str, float], seed: int) -> dict[str, list[int]]:
        """Return the answer of every arm for every image, and how sure the un-adapted model is in % ("sure")."""
        arms: dict[str, list[int]] = {}
        for row in rows:
            sample = self.seen(row, seed)
            logits, other = self.policy.scale * sample["own"].cosine, self.judge.scale * sample["judged"].cosine
            kept = confident(logits, KEPT)
            plain = {
                "un-adapted": logits[0],
                "mean of views": logits.softmax(1).mean(0),
                "mean of kept views": logits[kept].softmax(1).mean(0),
                "reward model alone": other[0],
                "both models": logits[0].softmax(0) + other[0].softmax(0),
            }
            found = {name: int(scores.argmax()) for name, scores in plain.items()}
            found |= {arm: self.answer(arm, rate, sample, row) for arm, rate in rates.items()}
            found["sure"] = round(100 * float(logits[0].softmax(0).max()))
            for name, value in found.items():
                arms.setdefault(name, []).append(value)
        return arms


def bed_of(name: str) -> LabelledSet:
    """Return a bed.

    Raises:
        PerceptError: unknown bed, or its files are missing.
    """
    if name not in BEDS:
        raise unknown_name("bed", name, BEDS)
    data = BEDS[name]()
    if data is None:
        raise PerceptError(f"the bed {name} needs files that are not there. Leave it out of --beds, or fetch them.")
    return data


# cells


def cell(
    run: Runs, options: Options, kind: str, pair: tuple[Encoder, Encoder], bed: str, seed: int, settings: Any, made: Callable[[], Record]
) -> Record:  # fmt: skip
    """Return the record of a cell of a policy and a reward model, which is measured if it is not done."""
    policy, reward = pair
    place = (kind, policy.name, weights_of(policy), options.reward, weights_of(reward), bed, seed, digest(settings))
    shown = accuracies if kind == "classification" else found_shares
    return run.once(place, lambda: options.told(kind) | made(), lambda each: f"{policy.name} {bed} {seed}: {shown(each)}")  # fmt: skip


def run_all(options: Options, files: Sequence[Path]) -> list[Record]:
    """Run what the files do not hold yet, and return the records of these options.

    Raises:
        PerceptError: there is no policy.
    """
    if not options.policies:
        raise PerceptError("there is no policy to adapt. Give one or more encoders to --policies.")
    run, reward, found = Runs(files, KEY), percept.load(options.reward, dtype="float32"), []
    for name in options.policies:
        pair = percept.load(name, dtype="float32"), reward
        found += classification(run, options, pair)
        found += [record for direction in SIDES for record in retrieval(run, options, pair, direction)]
    return found


def classification(run: Runs, options: Options, pair: tuple[Encoder, Encoder]) -> list[Record]:
    """Return the cells of a policy on all beds that pass its gate."""
    beds = {bed: bed_of(bed) for bed in options.beds}
    sets = [data for bed, data in beds.items() if passed(pair[0], bed) is not None]
    rates: dict[str, float] = {}

    def answered(data: LabelledSet, seed: int) -> Record:
        if not rates:  # chosen once for a policy
            rates.update(Classifying.of(*pair, sets[0], options).chosen_rates())
        rows = sorted(random.Random(seed).sample(data.test.tolist(), min(options.count, len(data.test))))
        answers = Classifying.of(*pair, data, options).answers(rows, rates, seed)
        return {"rates": dict(rates), "truth": data.labels[rows].tolist(), "answers": answers}

    found = []
    for data in sets:
        settings = [options.count, options.views, options.rates, LEAST, to_dict(RLCF.Config(kept=KEPT)), content_of(data), content_of(sets[0])]  # fmt: skip
        found += [
            cell(run, options, "classification", pair, data.name, seed, settings, lambda data=data, seed=seed: answered(data, seed))
            for seed in options.seeds
        ]  # fmt: skip
    return found


def retrieval(run: Runs, options: Options, pair: tuple[Encoder, Encoder], direction: str) -> list[Record]:
    """Return the cells of a policy in one direction."""
    rates: dict[str, float] = {}
    drawn = {"gallery": options.gallery, "queries": options.queries}

    def searched(seed: int) -> Record:
        if not rates:
            rates.update(chosen_rates(*pair, direction, drawn, options.query_rates))
        return measured(*pair, direction, seed, drawn, rates)

    settings = [drawn, options.query_rates, to_dict(RLCF.Config.queries(SIDES[direction]))]
    return [
        cell(run, options, "retrieval", pair, direction, seed, settings, lambda seed=seed: searched(seed))
        for seed in options.seeds
    ]


def recorded(options: Options, files: Sequence[Path]) -> list[Record]:
    """Return the records of the files that have these options, whatever their policies, beds and seeds."""
    kept = [record for record in read_files(files, KEY) if options.told(record["kind"]).items() <= record.items()]
    return of_one_setting(kept, PLACE, {"policy": "weights", "reward": "reward weights"})


def main(options: Options) -> None:
    """Run what is missing, print and write the comparison."""
    torch.set_num_threads(options.threads)
    start, files = time.perf_counter(), files_of(options.runs, "rlcf.jsonl")
    records = recorded(options, files) if options.report else run_all(options, files)
    classified, searched = (
        [record for record in records if record["kind"] == kind] for kind in ("classification", "retrieval")
    )
    result = {
        "classification": classification_report(classified) if classified else {},
        "retrieval": retrieval_report(searched),
    }
    save(options.json_file, {**about(start), **result})


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
