"""Compare RLCF at test time with entropy minimisation, averaging of views, and the reward model itself.

    PYTHONPATH=benchmarks python benchmarks/upgrade.py --train --folder runs/upgrade          # policies: small encoders
    PYTHONPATH=benchmarks python benchmarks/adaptation/rlcf.py --policies runs/upgrade/small-0 runs/upgrade/small-1 \\
        --json-file benchmarks/adaptation/rlcf.json

Classification: test images of shifted beds, COUNT of each. Every arm sees the same views of an image and is reset after it. Retrieval: short
captions of the world among images of the evaluation split in all styles, the query tower adapted; items whose caption is the same are right too.
Learning rates are those of --rates, chosen on the training images of the first bed for the objective `reward` of each policy, and used for all
objectives. Every cell (policy, bed) is a line of --runs, so the command goes on where it was interrupted; cells of another reward model, count
or number of views are measured anew. Differences are paired by image; the intervals are bootstraps over images.
"""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from beds import BEDS, about, home
from harness import save
from PIL import Image
from torch import Tensor

import percept
from percept.core.errors import PerceptError, unknown_name
from percept.core.io import append_json_line
from percept.core.report import out, table
from percept.core.seed import derive
from percept.eval.statistics import mean, proportion
from percept.infer.encoder import Encoder
from percept.methods.adaptation.bench import read_records, verdict
from percept.methods.adaptation.few import LabelledSet
from percept.methods.adaptation.rlcf import RLCF, Prompt, Query, Sample, confident, views_of
from percept.methods.adaptation.texts import base_of, filled, text_vectors
from percept.world import generate, short_caption

LEAST, KEPT = 0.5, 0.2
"""Least share of an image in a view, as the things of these drawings are small; share of the views that take part."""
OBJECTIVES = {"RLCF": "reward", "entropy (TPT)": "entropy", "distilled": "distil", "random reward": "random"}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of the benchmark."""

    policies: tuple[str, ...]
    """Encoders that are adapted."""
    reward: str = "nano"
    """Encoder that judges; the policy itself is tried as a weaker judge."""
    beds: tuple[str, ...] = ("chalk", "fog", "pixels", "psychedelic")
    """Shifted sets."""
    count: int = 60
    """Test images of each set."""
    gallery: int = 200
    """Images and queries of retrieval."""
    views: int = 32
    """Views of an image; 64 in the paper."""
    rates: tuple[float, ...] = (1e-3, 7e-3, 3e-2)
    """Learning rates that are tried for a prompt; 7e-3 in the paper."""
    query_rates: tuple[float, ...] = (1e-6, 1e-5, 1e-4)
    """Learning rates that are tried for the tower of queries; 1e-6 in the paper."""
    runs: Path | None = None
    """File of the cells; rlcf.jsonl in the cache by default."""
    json_file: Path | None = None
    """File for the result."""


@dataclass(frozen=True, kw_only=True)
class Judge:
    """An encoder with the classes of a set."""

    encoder: Encoder
    classes: Tensor

    @classmethod
    def of(cls, encoder: Encoder, data: LabelledSet) -> "Judge":
        """Embed the class texts."""
        return cls(encoder=encoder, classes=text_vectors(base_of(encoder), filled(data.template, data.classes)))

    def see(self, data: LabelledSet, row: int, views: int) -> tuple[Tensor, Tensor]:
        """Return the unit vectors of the views of an image, and their cosines with the classes."""
        image = data.image(row)
        source = Image.fromarray(image) if isinstance(image, np.ndarray) else image
        vector = self.encoder.image(
            views_of(source, self.encoder.preprocess, views, least=LEAST, seed=derive(0, data.name, row))
        )
        return vector, vector @ self.classes.T

    @property
    def scale(self) -> float:
        """The scale of the logits."""
        return float(self.encoder.model.scale())


def classified(policy: Judge, judge: Judge, data: LabelledSet, rows: Sequence[int], options: Options, rate: float) -> dict[str, list[int]]:  # fmt: skip
    """Return the answer of every arm for every image, and how sure the un-adapted model is in % ("sure")."""
    module, config = policy_of(policy, data), RLCF.Config(rate=rate, kept=KEPT)
    arms: dict[str, list[int]] = {}
    for row in rows:
        vector, own = policy.see(data, row, options.views)
        _, judged = judge.see(data, row, options.views)
        logits, other = policy.scale * own, judge.scale * judged
        kept = confident(logits, config.kept)
        found = {
            "un-adapted": logits[0],
            "mean of views": logits.softmax(1).mean(0),
            "mean of kept views": logits[kept].softmax(1).mean(0),
            "reward model alone": other[0],
            "both models": logits[0].softmax(0) + other[0].softmax(0),
        }
        for name, objective in OBJECTIVES.items():
            task = RLCF(replace(config, objective=objective), module, judge.scale, seed=row)
            found[name] = task.adapted(Sample(view=vector, cosine=judged))
        found["judged by itself"] = RLCF(config, module, policy.scale).adapted(Sample(view=vector, cosine=own))
        for name, scores in found.items():
            arms.setdefault(name, []).append(int(scores.argmax()))
        arms.setdefault("sure", []).append(round(100 * float(logits[0].softmax(0).max())))
    return arms


def policy_of(policy: Judge, data: LabelledSet) -> Prompt:
    """Return a prompt that starts from the words of the template before the class name."""
    return Prompt(base_of(policy.encoder), data.classes, data.template.partition(" {}")[0])


def best_rate(rates: Sequence[float], right: Callable[[float], float]) -> float:
    """Return the rate with the most right answers; the smallest of equal ones."""
    return max(rates, key=lambda rate: (right(rate), -rate))


def cells(options: Options, file: Path) -> Iterator[dict[str, Any]]:
    """Yield the classification cells."""
    settings = {"reward": options.reward, "count": options.count, "views": options.views}
    kept = [record for record in read_records(file) if settings.items() <= record.items()]
    done = {(record["policy"], record["bed"]): record for record in kept}
    reward = percept.load(options.reward, dtype="float32")
    for name in options.policies:
        rate, encoder = None, percept.load(name, dtype="float32")
        for bed in options.beds:
            if (name, bed) not in done:
                data, dice = bed_of(bed), random.Random(0)
                policy, judge = Judge.of(encoder, data), Judge.of(reward, data)
                if rate is None:  # chosen once for a policy
                    rate = chosen_rate(encoder, reward, options)
                rows = sorted(dice.sample(data.test.tolist(), min(options.count, len(data.test))))
                start = time.perf_counter()
                answers = classified(policy, judge, data, rows, options, rate)
                truth = data.labels[rows].tolist()
                record = {"policy": name, "bed": bed, **settings, "rate": rate, "truth": truth, "answers": answers}
                append_json_line(file, record | {"seconds": round(time.perf_counter() - start, 1)})
                out.print(f"{name} {bed}: {accuracies(record)}")
                done[name, bed] = record
            yield done[name, bed]


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


def chosen_rate(encoder: Encoder, reward: Encoder, options: Options) -> float:
    """Return the learning rate with the most right answers on training images of the first bed."""
    data = bed_of(options.beds[0])
    policy, judge = Judge.of(encoder, data), Judge.of(reward, data)
    rows = sorted(random.Random(1).sample(data.pool.tolist(), min(options.count, len(data.pool))))
    module, samples = policy_of(policy, data), []
    for row in rows:
        vector, _ = policy.see(data, row, options.views)
        samples.append(Sample(view=vector, cosine=judge.see(data, row, options.views)[1]))

    def right(rate: float) -> float:
        task = RLCF(RLCF.Config(rate=rate, kept=KEPT), module, judge.scale)
        return float(np.mean([int(task.adapted(one).argmax()) for one in samples] == data.labels[rows]))

    return best_rate(options.rates, right)


def accuracies(record: dict[str, Any]) -> dict[str, float]:
    """Return the accuracy of every arm of a cell."""
    truth = np.array(record["truth"])
    return {
        arm: round(float((np.array(answers) == truth).mean()), 3)
        for arm, answers in record["answers"].items()
        if arm != "sure"
    }


def retrieved(name: str, options: Options) -> dict[str, Any]:
    """Return the hits of captions among images, before and after, with the rate that was best on other queries."""
    policy, reward = percept.load(name, dtype="float32"), percept.load(options.reward, dtype="float32")

    def measured(split: str, rate: float, count: int) -> dict[str, list[int]]:
        drawn = [generate(n, split=split, style="mixed", things=(1, 3), truth=False) for n in range(count)]
        texts = [short_caption(each.scene, random.Random(n)) for n, each in enumerate(drawn)]
        galleries = [each.image([one.image for one in drawn]) for each in (policy, reward)]
        judged = reward.text(texts) @ galleries[1].T
        module = Query(base_of(policy), galleries[0], "text")
        arms = {
            arm: RLCF(RLCF.Config.queries("text", rate=rate, objective=objective), module)
            for arm, objective in (("RLCF", "reward"), ("random reward", "random"), ("distilled", "distil"))
        }
        hits: dict[str, list[int]] = {}
        for number, text in enumerate(texts):
            assert policy.tokenizer is not None
            view = policy.tokenizer([text])
            sample = Sample(view=view, cosine=judged[number : number + 1])
            with torch.no_grad():
                found = {"un-adapted": module(view)[0], "reward model alone": judged[number]}
            found |= {arm: task.adapted(sample) for arm, task in arms.items()}
            for arm, scores in found.items():
                hits.setdefault(arm, []).append(int(texts[int(scores.argmax())] == text))
        return hits

    rate = best_rate(
        options.query_rates, lambda rate: float(np.mean(measured("train", rate, options.gallery // 2)["RLCF"]))
    )
    return {"policy": name, "rate": rate, "hits": measured("evaluation", rate, options.gallery)}


def compared(records: Sequence[dict[str, Any]], arm: str, than: str) -> dict[str, Any]:
    """Return the paired difference of two arms over all images."""
    differences = [
        (np.array(record["answers"][arm]) == record["truth"]).astype(float) - (np.array(record["answers"][than]) == record["truth"])
        for record in records
    ]  # fmt: skip
    score = mean(f"{arm} - {than}", np.concatenate(differences))
    return _row(score, 1 if arm == "RLCF" else -1)


def _row(score: Any, sign: int) -> dict[str, Any]:
    return {
        "arms": score.name, "difference": round(score.value, 4), "interval": [round(score.low, 4), round(score.high, 4)],
        "n": score.n, "verdict": verdict(score, sign=sign),
    }  # fmt: skip


def corrected(records: Sequence[dict[str, Any]], arm: str) -> dict[str, Any] | None:
    """Return the share of the confident mistakes of the un-adapted model that an arm corrects, None without any.

    A mistake is confident if its confidence is at least the median of its cell.
    """
    fixed: list[bool] = []
    for record in records:
        truth, sure = np.array(record["truth"]), np.array(record["answers"]["sure"])
        wrong = (np.array(record["answers"]["un-adapted"]) != truth) & (sure >= np.median(sure))
        fixed += (np.array(record["answers"][arm]) == truth)[wrong].tolist()
    if not fixed:
        return None
    score = proportion(arm, fixed)
    return {"arm": arm, "corrected": round(score.value, 4), "interval": [round(score.low, 4), round(score.high, 4)], "n": score.n}  # fmt: skip


def main(options: Options) -> None:
    """Run what is missing, print and write the comparison."""
    start, file = time.perf_counter(), options.runs or home() / "rlcf.jsonl"
    records = list(cells(options, file))
    arms = [arm for arm in records[0]["answers"] if arm != "sure"]
    table(
        "accuracy, %",
        ("policy", "bed", *arms),
        [(r["policy"], r["bed"], *(f"{100 * accuracies(r)[arm]:.1f}" for arm in arms)) for r in records],
    )
    rivals = ("un-adapted", "mean of views", "mean of kept views", "entropy (TPT)", "distilled", "judged by itself", "reward model alone", "both models")  # fmt: skip
    differences = [compared(records, "RLCF", rival) for rival in rivals]
    differences.append(compared(records, "random reward", "un-adapted"))
    mended = [row for arm in ("RLCF", "entropy (TPT)", "mean of kept views") if (row := corrected(records, arm))]
    searched = [retrieved(name, options) for name in options.policies]
    found = {arm: np.concatenate([each["hits"][arm] for each in searched]) for arm in searched[0]["hits"]}
    retrieval = {
        "R@1": {arm: round(float(values.mean()), 4) for arm, values in found.items()},
        "claims": [
            _row(mean(f"{arm} - un-adapted", found[arm] - found["un-adapted"].astype(float)), sign)
            for arm, sign in (("RLCF", 1), ("distilled", 1), ("random reward", -1))
        ],
    }
    for title, rows in (("paired, classification", differences), ("confident mistakes", mended), ("paired, retrieval", retrieval["claims"])):  # fmt: skip
        if rows:
            table(title, tuple(rows[0]), [[str(value) for value in row.values()] for row in rows])
    save(
        options.json_file,
        {
            **about(start), "classification": {"cells": [{"policy": r["policy"], "bed": r["bed"], "rate": r["rate"], **accuracies(r)} for r in records], "claims": differences},
            "confident mistakes": mended, "retrieval": retrieval | {"rates": {each["policy"]: each["rate"] for each in searched}},
        },
    )  # fmt: skip


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
