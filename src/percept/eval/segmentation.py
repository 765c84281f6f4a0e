"""Segmentation: intersection over union per class and its mean, with intervals over images; unsupervised masks by best overlap."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Integer

from percept.core.errors import PerceptError
from percept.eval.probes import outcome
from percept.eval.statistics import Score

IGNORED = 255
"""Label of pixels that are not counted."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Overlap:
    """Pixels per class, of one image or summed over several."""

    intersection: Int[np.ndarray, "*n c"]
    """Pixels that have the class in the prediction and in the truth."""
    union: Int[np.ndarray, "*n c"]
    """Pixels that have it in either."""


def overlap(
    predicted: Integer[np.ndarray, "_ _"], truth: Integer[np.ndarray, "_ _"], classes: int, *, ignored: int = IGNORED
) -> Overlap:
    """Count the pixels of one image; those with the true label `ignored` are left out.

    Raises:
        PerceptError: the sizes differ, or a label is not from 0 to `classes` - 1.
    """
    if predicted.shape != truth.shape:
        raise PerceptError(
            f"a prediction of {predicted.shape} pixels does not fit a truth of {truth.shape}. Give equal sizes."
        )
    counted = truth != ignored
    guess, label = predicted[counted].astype(np.int64), truth[counted].astype(np.int64)
    if len(label) and not 0 <= min(guess.min(), label.min()) <= max(guess.max(), label.max()) < classes:
        raise PerceptError(
            f"a label is negative or not below the number of classes, {classes}. Ignored pixels have the true label {ignored}."
        )
    same = np.bincount(label[guess == label], minlength=classes)
    union = np.bincount(guess, minlength=classes) + np.bincount(label, minlength=classes) - same
    return Overlap(intersection=same, union=union)


def iou(counts: Overlap) -> Float[np.ndarray, "*n c"]:
    """Return intersection over union per class; NaN for classes that occur neither in the prediction nor in the truth."""
    return outcome.divided(counts.intersection, counts.union)


def mean_iou(name: str, images: Sequence[Overlap], *, seed: int = 0) -> Score:
    """Return the mean over classes of the IoU of the summed pixels, with a bootstrap interval over images that is centred on it.

    Raises:
        PerceptError: there are no images, or no pixel is counted.
    """
    if not images:
        raise PerceptError(f"{name}: there are no images; give at least one.")
    if not any(each.union.any() for each in images):
        raise PerceptError(f"{name}: every pixel is ignored, so there is nothing to measure.")
    return outcome.score_of(outcome_of(images), name, seed=seed)


def outcome_of(images: Sequence[Overlap]) -> outcome.Sums:
    """Return the mean IoU of images as an outcome, which can be compared with that of a different prediction."""
    sums = np.stack([np.concatenate([each.intersection, each.union]) for each in images]).astype(np.float64)
    return outcome.Sums(sums=sums, measure=outcome.mean_iou)


def best_overlaps(found: Bool[np.ndarray, "m y x"], truth: Bool[np.ndarray, "k y x"]) -> Float[np.ndarray, " k"]:
    """Return the largest IoU of each true mask with any found mask; 0 where nothing was found."""
    if not len(found):
        return np.zeros(len(truth))
    one, other = found.reshape(len(found), -1).astype(np.float64), truth.reshape(len(truth), -1).astype(np.float64)
    same = other @ one.T
    union = other.sum(axis=1)[:, None] + one.sum(axis=1)[None] - same
    return np.divide(same, union, out=np.zeros_like(same), where=union > 0).max(axis=1)
