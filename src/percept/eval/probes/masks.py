"""Average precision of masks as COCO defines it (Lin et al. 2014, arXiv:1405.0312): that of boxes, with the overlap of masks."""

import math
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from percept.core.errors import missing_extra
from percept.eval.probes.boxes import THRESHOLDS, Detected, Precision, Truth, match_overlaps, of_class


@dataclass(frozen=True, kw_only=True, eq=False)
class MaskTruth(Truth):
    """Labelled masks of one image with their boxes."""

    masks: Bool[np.ndarray, "k y x"]


@dataclass(frozen=True, kw_only=True, eq=False)
class MaskDetected(Detected):
    """Masks found in one image with their boxes."""

    masks: Bool[np.ndarray, "k y x"]


def mask_overlaps(
    one: Bool[np.ndarray, "n y x"], other: Bool[np.ndarray, "m y x"], crowd: Bool[np.ndarray, " m"]
) -> Float[np.ndarray, "n m"]:
    """Return intersection over union of masks; over the area of the first where the second is a crowd."""
    flat, wide = (each.reshape(len(each), math.prod(each.shape[1:])).astype(np.float32) for each in (one, other))
    both = flat @ wide.T
    area = flat.sum(axis=1)[:, None]
    union = np.where(crowd[None], area, area + wide.sum(axis=1)[None] - both)
    return np.where(union > 0, both / np.maximum(union, 1), 0.0)


def match_masks(
    masks: Bool[np.ndarray, "d y x"], truth: Bool[np.ndarray, "g y x"], crowd: Bool[np.ndarray, " g"]
) -> tuple[Bool[np.ndarray, "t d"], Bool[np.ndarray, "t d"]]:
    """Return which masks of an image, best first, are right, and which lie in a crowd, at each IoU threshold."""
    order = np.argsort(crowd, kind="mergesort")
    return match_overlaps(mask_overlaps(masks, truth[order], crowd[order]), crowd[order])


def mask_precision(
    targets: Sequence[MaskTruth], detected: Sequence[MaskDetected], classes: Sequence[int]
) -> Mapping[str, Precision]:
    """Return the AP of masks of some classes over IoU 0.5 to 0.95, and at 0.5.

    Raises:
        PerceptError: faster-coco-eval is not installed.
    """
    by_class = [of_class(targets, detected, label, field="masks", matched=match_masks) for label in classes]
    mean, half = library_mask_ap(targets, detected, classes)
    shared: dict[str, Any] = {"classes": [one for one in by_class if one.truths.any()], "images": len(targets)}
    return {
        "AP": Precision(**shared, thresholds=tuple(range(len(THRESHOLDS))), library=mean),
        "AP50": Precision(**shared, thresholds=(0,), library=half),
    }


def library_mask_ap(
    targets: Sequence[MaskTruth], detected: Sequence[MaskDetected], classes: Sequence[int]
) -> tuple[float, float]:
    """Return AP and AP50 of masks by faster-coco-eval; 0 without any detection, NaN without any labelled mask.

    Raises:
        PerceptError: faster-coco-eval is not installed.
    """
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError:
        raise missing_extra("faster-coco-eval", "eval", "average precision of masks") from None
    truth = [row for image, one in enumerate(targets, start=1) for row in _truth_rows(image, one, classes)]
    if not any(not row["iscrowd"] for row in truth):
        return float("nan"), float("nan")
    found = [row for image, one in enumerate(detected, start=1) for row in _found_rows(image, one, classes)]
    if not found:
        return 0.0, 0.0
    high, wide = next(one.masks.shape[1:] for one in targets if len(one.masks))
    dataset = {
        "images": [{"id": image, "width": wide, "height": high} for image in range(1, len(targets) + 1)],
        "annotations": [row | {"id": number} for number, row in enumerate(truth, start=1)],
        "categories": [{"id": label + 1, "name": str(label)} for label in classes],
    }
    with redirect_stdout(StringIO()):
        labelled = COCO(dataset)
        evaluation = COCOeval_faster(labelled, labelled.loadRes(found), "segm")
        evaluation.run()
    return max(0.0, float(evaluation.stats[0])), max(0.0, float(evaluation.stats[1]))


def _truth_rows(image: int, one: MaskTruth, classes: Sequence[int]) -> list[dict[str, Any]]:
    rows = _rows(image, one, classes)
    return [row | {"iscrowd": int(one.crowd[place])} for place, row in rows]


def _found_rows(image: int, one: MaskDetected, classes: Sequence[int]) -> list[dict[str, Any]]:
    return [row | {"score": float(one.scores[place])} for place, row in _rows(image, one, classes)]


def _rows(image: int, one: MaskTruth | MaskDetected, classes: Sequence[int]) -> list[tuple[int, dict[str, Any]]]:
    from faster_coco_eval import mask as codec

    rows = []
    for place in np.flatnonzero(np.isin(one.labels, list(classes))).tolist():
        code = codec.encode(np.asfortranarray(one.masks[place], np.uint8))
        area = float(one.masks[place].sum())
        label = int(one.labels[place]) + 1
        rows.append((place, {"image_id": image, "category_id": label, "segmentation": code, "area": area, "bbox": _box(one, place)}))  # fmt: skip
    return rows


def _box(one: MaskTruth | MaskDetected, place: int) -> list[float]:
    high, wide = one.masks.shape[1:]
    left, top, right, bottom = (one.boxes[place].astype(np.float64) * (wide, high, wide, high)).tolist()
    return [left, top, right - left, bottom - top]
