"""Dense tasks without training on nano: segmentation by texts, tracking, point correspondence, unsupervised objects.

    python benchmarks/zeroshot_dense.py --json-file benchmarks/zeroshot_dense.json

Segmentation: every pixel gets one of the world's 100 categories or background. Each arm adds one thing:
    naive       cosine of text and token, past the pooling head; background below a threshold
    value       the value path of the pooling head
    ensemble    three templates per label, and texts of backgrounds in the softmax
    windows     also windows at twice the size: what `percept segment` does
Every arm has the background threshold that is best on the validation split; the numbers are from the evaluation split. So are those of the
other tasks, whose layer and grid are the defaults of the commands. Intervals: 95 %, bootstrap over images, clips or pairs.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import facts, save
from torch import Tensor
from torch.nn import functional as F

import percept
from percept.core.report import out, table
from percept.eval import matching, tracking
from percept.eval.resampling import mean_share
from percept.eval.segmentation import Overlap, best_overlaps, mean_iou, overlap
from percept.eval.statistics import Score
from percept.infer.labels import class_vectors
from percept.infer.masks import object_masks
from percept.infer.zeroshot_dense import ELSEWHERE, LEVELS, text_maps
from percept.world import CATEGORIES, generate

SIZE = 96
ARMS = ("naive", "value", "ensemble", "windows")
THRESHOLDS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


def images(split: str, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return images of 192 pixels and masks of 96: 0 for the background, else the category plus 1."""
    names, rows = list(CATEGORIES), []
    for number in range(count):
        found = generate(number, split=split, size=192)
        ids = np.zeros((192, 192), np.int64)
        assert found.masks is not None
        for thing, mask in zip(found.scene.things, found.masks, strict=True):
            ids[mask] = names.index(thing.category) + 1
        rows.append((found.image, ids[1::2, 1::2]))
    return rows


@torch.no_grad()
def naive_maps(encoder: Any, image: np.ndarray, texts: Tensor) -> Tensor:
    """Return the cosine of texts and projected tokens, without the pooling head."""
    tower = encoder.model.vision
    seen = tower(encoder.prepare(image)[None], pool=False)
    vectors = F.normalize(seen.tokens[0, seen.prefix :] @ tower.projection, dim=-1).unflatten(0, seen.grid)
    return torch.einsum("hwd,cd->chw", vectors, texts)


def cosines(encoder: Any, arm: str, image: np.ndarray, texts: dict[str, Tensor]) -> Tensor:
    """Return cosines with the texts of an arm, at the size of the masks."""
    if arm == "naive":
        maps = naive_maps(encoder, image, texts["one"])
    else:
        from PIL import Image

        words = texts["one" if arm == "value" else "all"]
        maps = text_maps(encoder, Image.fromarray(image), words, LEVELS if arm == "windows" else (1.0,))
    return F.interpolate(maps[None], (SIZE, SIZE), mode="bilinear", align_corners=False)[0]


def counts(encoder: Any, arm: str, rows: Any, texts: dict[str, Tensor], thresholds: Any) -> dict[float, list[Overlap]]:
    """Return the overlap of every image, for every threshold of the probability."""
    result: dict[float, list[Overlap]] = {each: [] for each in thresholds}
    for image, truth in rows:
        shares = (encoder.scale * cosines(encoder, arm, image, texts)).softmax(dim=0)[: len(CATEGORIES)]
        values, best = shares.max(dim=0)
        for each in thresholds:
            found = torch.where(values < each, 0, best + 1).numpy()
            result[each].append(overlap(found, truth, len(CATEGORIES) + 1))
    return result


def segmentation(encoder: Any, count: int) -> dict[str, Any]:
    """Return the scores of every arm; thresholds are chosen on the validation split."""
    labels = list(CATEGORIES)
    texts = {"one": class_vectors(encoder, labels, "a photo of a {}")}
    texts["all"] = torch.cat([class_vectors(encoder, labels), F.normalize(encoder.text(list(ELSEWHERE)), dim=-1)])
    validation, evaluation = images("validation", count // 2), images("evaluation", count)
    result = {}
    for arm in ARMS:
        tried = counts(encoder, arm, validation, texts, THRESHOLDS)
        best = max(THRESHOLDS, key=lambda each: mean_iou("", tried[each]).value)
        score = mean_iou("mIoU", counts(encoder, arm, evaluation, texts, (best,))[best])
        result[arm] = {**numbers(score), "threshold": best}
        out.print(f"{arm}: {score}")
    return result


def numbers(score: Score) -> dict[str, Any]:
    """Return a score for the file."""
    return {"value": round(score.value, 4), "low": round(score.low, 4), "high": round(score.high, 4), "n": score.n}


def objects(encoder: Any, count: int) -> dict[str, Any]:
    """Return the best IoU of each true object with one of three found ones, and with the whole image as a baseline."""
    values, whole, owners = [], [], []
    for number in range(count):
        image = generate(number, split="evaluation", things=(1, 3), size=96)
        assert image.masks is not None
        truth = image.masks[image.masks.any(axis=(1, 2))]
        owners += [number] * len(truth)
        values += best_overlaps(object_masks(encoder, image.image, count=3, size=(96, 96)), truth).tolist()
        whole += truth.mean(axis=(1, 2)).tolist()
    groups = np.unique(owners, return_inverse=True)[1]
    found, baseline = (mean_share("IoU", np.array(each), groups) for each in (values, whole))
    return {"found": numbers(found), "whole image": numbers(baseline)}


def still(sequences: Any) -> list[Score]:
    """Return the scores of masks that stay where they are: the baseline of tracking."""
    return tracking.scores_of(
        {one.name: tracking.tracked([one.masks[0]] * len(one.masks), one.masks) for one in sequences}
    )


def main() -> None:
    """Measure everything and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json-file", type=Path)
    parser.add_argument(
        "--count", type=int, default=120, help="images of the evaluation split; half as many for choices"
    )
    parser.add_argument("--clips", type=int, default=8)
    chosen = parser.parse_args()
    start = time.perf_counter()
    encoder = percept.load("nano", dtype="float32")
    content: dict[str, Any] = {"segmentation": segmentation(encoder, chosen.count)}
    pairs = list(matching.world_views(chosen.clips * 2, split="evaluation"))
    content["matching"] = {each.name: numbers(each) for each in matching.evaluate(encoder, iter(pairs))}
    out.print(str(content["matching"]))
    content["objects"] = objects(encoder, chosen.clips * 3)
    out.print(str(content["objects"]))
    sequences = list(tracking.world_sequences(chosen.clips, split="evaluation"))
    content["tracking"] = {
        each.name: numbers(each) for each in tracking.scores_of(tracking.evaluate(encoder, iter(sequences)))
    }
    content["tracking, masks that stay"] = {each.name: numbers(each) for each in still(sequences)}
    rows = [
        (task, name, f"{each['value']:.3f} [{each['low']:.3f} - {each['high']:.3f}]", each["n"])
        for task, part in content.items()
        for name, each in part.items()
    ]
    table("Without training", ("task", "arm or score", "value", "n"), rows)
    save(chosen.json_file, {"run": facts(torch.device("cpu"), start), **content})


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
