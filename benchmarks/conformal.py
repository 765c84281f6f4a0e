"""Conformal abstention, LAC and APS: coverage, set size, accuracy, calibration and cost on items never trained on.

    python benchmarks/conformal.py                      # 100 random splits for coverage, 10 for the policies
    python benchmarks/conformal.py --assistant FOLDER   # adds multiple-choice questions, with and without the image

Tasks of encoders: categories in six styles of the world, colours, scikit-learn's digits. An interval is over the splits.
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import facts, save

import percept
from percept.eval import world
from percept.eval.abstention import Cost, Split, compared, cost
from percept.eval.conformal import aps, judged, lac, softmax
from percept.eval.digits import read_digits
from percept.eval.vlm.item import without_media
from percept.eval.vlm.world import Plan, image_item
from percept.eval.zeroshot import colour_texts, prompts
from percept.infer.labels import averaged
from percept.world.language import CLASS_TEMPLATES
from percept.world.objects import CATEGORIES
from percept.world.variants import STYLES

ALPHA = 0.1
QUESTIONS = ("count", "side", "region", "colour")
"""Kinds of questions with options."""


def encoder_tasks(name: str, count: int) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield (task, logits, labels) of an encoder, zero-shot; logits are cosines times the scale it was trained with."""
    encoder = percept.load(name)
    scale = float(encoder.model.scale())
    weights = averaged(encoder, prompts(list(CATEGORIES), CLASS_TEMPLATES))
    for style, data in world.singles_by_style(dict.fromkeys(STYLES, count), seed=0, split="evaluation").items():
        yield f"category, {style}", logits(encoder, data.images, weights, scale), np.array(data.categories)
        if style == "plain":
            colours = averaged(encoder, colour_texts(list(CATEGORIES)))
            yield "colour, plain", logits(encoder, data.images, colours, scale), np.array(data.colours)
    yield from digits(encoder, scale)


def digits(encoder: Any, scale: float) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield real handwritten digits, classified by a linear probe that was fitted on half of them."""
    from sklearn.linear_model import LogisticRegression

    images, values = read_digits()
    labels, vectors = np.array(values), encoder.image(list(images)).float().numpy()
    fitted = LogisticRegression(max_iter=500).fit(vectors[::2], labels[::2])
    yield "digits, linear probe", fitted.decision_function(vectors[1::2]), labels[1::2]


def question_tasks(folder: str, count: int) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield multiple-choice questions about images, scored by the log-likelihood of the options, with the image and from the text alone."""
    assistant, plan = percept.assistant(folder), Plan(count=count)
    for kind in QUESTIONS:
        items = [image_item(kind, plan, number) for number in range(count)]
        items = [item for item in items if len(item.options) == len(items[0].options)]
        labels = np.array([item.options.index(item.reference) for item in items])
        for blind in (False, True):
            asked = [without_media(item.prompt) if blind else item.prompt for item in items]
            scores = [assistant.scores(prompt, item.options) for prompt, item in zip(asked, items, strict=True)]
            yield f"{kind}{', text alone' if blind else ''}", np.array(scores), labels


def logits(encoder: Any, images: Any, weights: Any, scale: float) -> np.ndarray:
    """Return scaled cosines [n, classes]."""
    return (scale * encoder.image(images).float() @ weights.T).numpy()


def coverage(probabilities: np.ndarray, labels: np.ndarray, splits: int) -> dict[str, Any]:
    """Return the mean coverage of LAC and APS over random splits, its standard error, and whether it is as promised."""
    found: dict[str, list[float]] = {"LAC": [], "APS": [], "APS randomised": []}
    for seed in range(splits):
        order = np.random.default_rng(seed).permutation(len(labels))
        known, test = np.split(order, [len(order) // 2])
        given = (probabilities[test], probabilities[known], labels[known])
        answers = (
            lac(*given, alpha=ALPHA),
            aps(*given, alpha=ALPHA),
            aps(*given, alpha=ALPHA, randomised=True, seed=seed),
        )
        for values, each in zip(found.values(), answers, strict=True):
            values.append(float(each.sets[np.arange(len(test)), labels[test]].mean()))
    return {
        name: {"mean": float(np.mean(values)), "standard error": float(np.std(values) / np.sqrt(splits))}
        for name, values in found.items()
    }


def judged_splits(probabilities: np.ndarray, labels: np.ndarray, splits: int) -> dict[str, dict[str, list[float]]]:
    """Return every score of every method, one value per split."""
    table: dict[str, dict[str, list[float]]] = {}
    for seed in range(splits):
        split = Split.random(len(labels), seed)
        for name, answers in compared(probabilities, labels, split, alpha=ALPHA, seed=seed).items():
            values = table.setdefault(name, {})
            values.setdefault("cost", []).append(cost(answers, labels[split.test], Cost()))
            for score in judged(answers, labels[split.test]):
                values.setdefault(score.name, []).append(score.value)
    return table


def main() -> None:
    """Measure all tasks and write the json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["nano"])
    parser.add_argument("--assistant", help="folder of a language model whose multiple-choice answers are added")
    parser.add_argument("--count", type=int, default=1500)
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--json-file", type=Path)
    given, start = parser.parse_args(), time.perf_counter()
    tasks = {(model, task): found for model in given.models for task, *found in encoder_tasks(model, given.count)}
    if given.assistant:
        tasks |= {(given.assistant, task): found for task, *found in question_tasks(given.assistant, given.count)}
    result: dict[str, Any] = {}
    for (model, task), (values, labels) in tasks.items():
        probabilities = softmax(values)
        methods = judged_splits(probabilities, labels, given.splits)
        print(f"\n{Path(model).name}, {task}: {len(labels)} items, {values.shape[1]} classes")
        for name, scores in methods.items():
            print(f"  {name:16}", *(f"{key} {np.mean(each):.3f}" for key, each in scores.items()))
        result[f"{Path(model).name}, {task}"] = {
            "items": len(labels), "coverage over 100 splits": coverage(probabilities, labels, 100), "methods": methods,
        }  # fmt: skip
    save(given.json_file, {**facts(torch.device("cpu"), start), "result": result})


if __name__ == "__main__":
    main()
