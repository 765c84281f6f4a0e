"""Average precision as COCO defines it (Lin et al. 2014, arXiv:1405.0312), with weights of images for its interval.

The value that is reported is computed by faster-coco-eval, the maintained form of pycocotools; the weighted form here gives the same value
for equal weights (`tests/eval/probes/test_boxes.py`) and is used for intervals.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from percept.core.errors import missing_extra
from percept.eval.statistics import Better, Unit

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
MOST = 100
"""Detections of an image and class that count."""
RESAMPLES = 200
Matcher: TypeAlias = Callable[[Any, Any, Any], tuple[Any, Any]]
"""Takes what was found in an image, what is labelled, and which of it is a crowd; returns what `match` returns."""
PIXELS = 1000.0
"""Size to which boxes are scaled for the library: it groups boxes by area, and takes any number."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Truth:
    """Labelled boxes of one image."""

    boxes: Float[np.ndarray, "k 4"]
    """xyxy in [0, 1]."""
    labels: Int[np.ndarray, " k"]
    crowd: Bool[np.ndarray, " k"]
    """True for a box around many things: detections in it are neither right nor wrong."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Detected:
    """Boxes found in one image."""

    boxes: Float[np.ndarray, "k 4"]
    """xyxy in [0, 1]."""
    labels: Int[np.ndarray, " k"]
    scores: Float[np.ndarray, " k"]


def iou(
    one: Float[Tensor, "n 4"], other: Float[Tensor, "m 4"], crowd: Bool[Tensor, " m"] | None = None
) -> Float[Tensor, "n m"]:
    """Return intersection over union of boxes xyxy; over the area of the first box where the second is a crowd."""
    low, high = torch.maximum(one[:, None, :2], other[None, :, :2]), torch.minimum(one[:, None, 2:], other[None, :, 2:])
    both = (high - low).clamp(min=0).prod(dim=-1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=-1) for boxes in (one, other)]
    union = areas[0][:, None] + areas[1][None] - both
    if crowd is not None:
        union = torch.where(crowd[None], areas[0][:, None], union)
    return torch.where(union > 0, both / union.clamp(min=1e-12), 0.0)


def suppress(
    boxes: Float[Tensor, "n 4"], scores: Float[Tensor, " n"], labels: Int[Tensor, " n"], overlap: float
) -> Int[Tensor, " k"]:
    """Return the boxes that no better box of the same class overlaps by more than `overlap`, best first."""
    order = scores.argsort(descending=True, stable=True)
    boxes, labels = boxes[order], labels[order]
    clash = (iou(boxes, boxes) > overlap) & (labels[:, None] == labels[None])
    kept = torch.ones(len(order), dtype=torch.bool, device=boxes.device)
    for place in range(len(order)):
        if kept[place]:
            kept[place + 1 :] &= ~clash[place, place + 1 :]
    return order[kept]


@dataclass(frozen=True, kw_only=True, eq=False)
class OfClass:
    """Detections of one class in all images, best first."""

    images: Int[np.ndarray, " d"]
    """Image of each detection."""
    hit: Bool[np.ndarray, "t d"]
    """True if it is a right one, per IoU threshold."""
    ignored: Bool[np.ndarray, "t d"]
    """True if it lies in a crowd."""
    truths: Int[np.ndarray, " n"]
    """Labelled boxes of each image, crowds not counted."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Precision:
    """Average precision over images with weights; an `Outcome`."""

    classes: Sequence[OfClass]
    """Only classes with labelled boxes."""
    images: int
    thresholds: tuple[int, ...]
    """Which IoU thresholds are averaged."""
    library: float
    """The value for equal weights, from faster-coco-eval."""
    unit: Unit = field(default="share", init=False)
    better: Better = field(default="more", init=False)

    def __len__(self) -> int:
        return self.images

    @property
    def resamples(self) -> int:
        """Number of bootstrap resamples."""
        return RESAMPLES

    def values(self, weights: Float[np.ndarray, "r n"]) -> Float[np.ndarray, " r"]:
        """Return the mean average precision of the classes that have boxes in images with weight; NaN if none has."""
        return np.array([self._value(row) for row in weights])

    def _value(self, weights: Float[np.ndarray, " n"]) -> float:
        values = [
            weighted_ap(one, weights, at) for one in self.classes for at in self.thresholds if one.truths @ weights > 0
        ]
        return float(np.mean(values)) if values else float("nan")


def weighted_ap(found: OfClass, weights: Float[np.ndarray, " n"], at: int) -> float:
    """Return the precision averaged over 101 recalls, at one IoU threshold; an image counts as often as its weight."""
    weight = np.where(found.ignored[at], 0.0, weights[found.images])
    right, wrong = np.cumsum(weight * found.hit[at]), np.cumsum(weight * ~found.hit[at])
    recall = right / (found.truths @ weights)
    precision = right / np.maximum(right + wrong, np.finfo(np.float64).tiny)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(recall, RECALLS, side="left")
    return float(
        np.where(places < len(precision), np.append(precision, 0.0)[np.minimum(places, len(precision))], 0.0).mean()
    )


def average_precision(targets: Sequence[Truth], detected: Sequence[Detected], classes: int) -> Mapping[str, Precision]:
    """Return AP over IoU 0.5 to 0.95, and AP at 0.5.

    Raises:
        PerceptError: faster-coco-eval is not installed.
    """
    by_class = [of_class(targets, detected, label) for label in range(classes)]
    present = [one for one in by_class if one.truths.any()]
    mean, half = library_ap(targets, detected, classes)
    shared: dict[str, Any] = {"classes": present, "images": len(targets)}
    return {
        "AP": Precision(**shared, thresholds=tuple(range(len(THRESHOLDS))), library=mean),
        "AP50": Precision(**shared, thresholds=(0,), library=half),
    }


def of_class(
    targets: Sequence[Truth],
    detected: Sequence[Detected],
    label: int,
    *,
    field: str = "boxes",
    matched: Matcher | None = None,
) -> OfClass:
    """Match the detections of one class, as COCO does: each takes the free box that it overlaps most.

    Args:
        targets: of all images.
        detected: of all images.
        label: the class.
        field: what is compared.
        matched: as `match`, which is the default.
    """
    matched = matched or match
    hits, ignored, scores, images, truths = [], [], [], [], []
    for number, (target, found) in enumerate(zip(targets, detected, strict=True)):
        mine, own = target.labels == label, found.labels == label
        order = np.argsort(-found.scores[own], kind="mergesort")[:MOST]
        hit, skip = matched(getattr(found, field)[own][order], getattr(target, field)[mine], target.crowd[mine])
        hits.append(hit)
        ignored.append(skip)
        scores.append(found.scores[own][order])
        images.append(np.full(len(order), number))
        truths.append(int((mine & ~target.crowd).sum()))
    best = np.argsort(-np.concatenate(scores), kind="mergesort")
    return OfClass(
        images=np.concatenate(images)[best], hit=np.concatenate(hits, axis=1)[:, best],
        ignored=np.concatenate(ignored, axis=1)[:, best], truths=np.array(truths),
    )  # fmt: skip


def match(
    boxes: Float[np.ndarray, "d 4"], truth: Float[np.ndarray, "g 4"], crowd: Bool[np.ndarray, " g"]
) -> tuple[Bool[np.ndarray, "t d"], Bool[np.ndarray, "t d"]]:
    """Return which detections of an image, best first, are right, and which lie in a crowd, at each IoU threshold."""
    order = np.argsort(crowd, kind="mergesort")  # crowds last
    truth, crowd = truth[order], crowd[order]
    one, other = (torch.from_numpy(np.ascontiguousarray(part, np.float64)) for part in (boxes, truth))
    return match_overlaps(iou(one, other, torch.from_numpy(crowd)).numpy(), crowd)


def match_overlaps(
    overlaps: Float[np.ndarray, "d g"], crowd: Bool[np.ndarray, " g"]
) -> tuple[Bool[np.ndarray, "t d"], Bool[np.ndarray, "t d"]]:
    """Return what `match` does, from the overlaps of detections, best first, with labelled things, crowds last."""
    shape = (len(THRESHOLDS), len(overlaps))
    hit, ignored = np.zeros(shape, bool), np.zeros(shape, bool)
    for row, threshold in enumerate(THRESHOLDS):
        free = np.ones(len(crowd), bool)
        for place in range(len(overlaps)):
            taken = _best(overlaps[place], free | crowd, crowd, threshold)
            if taken is not None:
                free[taken] = False
                hit[row, place], ignored[row, place] = not crowd[taken], crowd[taken]
    return hit, ignored


def _best(overlaps: np.ndarray, free: np.ndarray, crowd: np.ndarray, threshold: float) -> int | None:
    """Return the free box with the largest overlap, the last of equals; a crowd only if there is no other."""
    for group in (~crowd, crowd):
        usable = np.flatnonzero(free & group & (overlaps >= min(threshold, 1 - 1e-10)))
        if len(usable):
            return int(usable[np.flatnonzero(overlaps[usable] == overlaps[usable].max())[-1]])
    return None


def library_ap(targets: Sequence[Truth], detected: Sequence[Detected], classes: int) -> tuple[float, float]:
    """Return AP and AP50 of faster-coco-eval; 0 without any detection, NaN without any labelled box.

    Raises:
        PerceptError: faster-coco-eval is not installed.
    """
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError:
        raise missing_extra("faster-coco-eval", "eval", "average precision of boxes") from None
    if not any((~target.crowd).any() for target in targets):
        return float("nan"), float("nan")
    found = [
        row for image, one in enumerate(detected, start=1) for row in _rows(image, one.boxes, one.labels, one.scores)
    ]
    if not found:
        return 0.0, 0.0
    with redirect_stdout(StringIO()):
        truth = COCO(_dataset(targets, classes))
        evaluation = COCOeval_faster(truth, truth.loadRes(found), "bbox")
        evaluation.run()
    return max(0.0, float(evaluation.stats[0])), max(0.0, float(evaluation.stats[1]))


def _dataset(targets: Sequence[Truth], classes: int) -> dict[str, Any]:
    rows = [
        row | {"iscrowd": int(crowd)}
        for image, one in enumerate(targets, start=1)
        for row, crowd in zip(_rows(image, one.boxes, one.labels, None), one.crowd.tolist(), strict=True)
    ]
    return {
        "images": [{"id": image, "width": PIXELS, "height": PIXELS} for image in range(1, len(targets) + 1)],
        "annotations": [row | {"id": number} for number, row in enumerate(rows, start=1)],
        "categories": [{"id": label + 1, "name": str(label)} for label in range(classes)],
    }


def _rows(image: int, boxes: np.ndarray, labels: np.ndarray, scores: np.ndarray | None) -> list[dict[str, Any]]:
    sizes = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).astype(np.float64) * PIXELS
    rows = [
        {"image_id": image, "category_id": int(label) + 1, "bbox": size.tolist(), "area": float(size[2] * size[3])}
        for size, label in zip(sizes, labels, strict=True)
    ]
    if scores is None:
        return rows
    return [row | {"score": float(score)} for row, score in zip(rows, scores, strict=True)]
