"""Segmentation: intersection over union per class and its mean, with intervals over images; unsupervised masks by best overlap."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Integer

from percept.core.errors import PerceptError
from percept.eval.statistics import RESAMPLES, Score

IGNORED = 255
"""Label of pixels that are not counted."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Overlap:
    """Pixels per class, of one image or summed over several."""

    intersection: Int[np.ndarray, "*n c"]
    """Pixels that have the class in the prediction and in the truth."""
    union: Int[np.ndarray, "*n c"]
    """Pixels that have it in either."""


def overlap(found: Integer[np.ndarray, "_ _"], truth: Integer[np.ndarray, "_ _"], classes: int) -> Overlap:
    """Count the pixels of one image; those with the true label 255 are left out.

    Raises:
        PerceptError: the sizes differ, or a label is not below `classes`.
    """
    if found.shape != truth.shape:
        raise PerceptError(
            f"a prediction of {found.shape} pixels does not fit a truth of {truth.shape}. Give equal sizes."
        )
    counted = truth != IGNORED
    found, truth = found[counted].astype(np.int64), truth[counted].astype(np.int64)
    if len(truth) and max(int(found.max()), int(truth.max())) >= classes:
        raise PerceptError(
            f"a label is not below the number of classes, {classes}. Ignored pixels have the true label 255."
        )
    same = np.bincount(truth[found == truth], minlength=classes)
    union = np.bincount(found, minlength=classes) + np.bincount(truth, minlength=classes) - same
    return Overlap(intersection=same, union=union)


def iou(counts: Overlap) -> Float[np.ndarray, "*n c"]:
    """Return intersection over union per class; NaN for classes that occur neither in the prediction nor in the truth."""
    return np.divide(counts.intersection, counts.union, out=np.full(counts.union.shape, np.nan), where=counts.union > 0)


def mean_iou(name: str, images: Sequence[Overlap], *, seed: int = 0) -> Score:
    """Return the mean over classes of the IoU of the summed pixels, with a bootstrap interval over images.

    Raises:
        PerceptError: there are no images, or no pixel is counted.
    """
    if not images:
        raise PerceptError(f"{name}: there are no images; give at least one.")
    same = np.stack([each.intersection for each in images]).astype(np.float64)
    union = np.stack([each.union for each in images]).astype(np.float64)
    if not union.any():
        raise PerceptError(f"{name}: every pixel is ignored, so there is nothing to measure.")
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(len(images), np.full(len(images), 1 / len(images)), size=RESAMPLES).astype(np.float64)
    low, high = np.nanquantile(_mean_of(draws @ same, draws @ union), (0.025, 0.975))
    value = float(_mean_of(same.sum(axis=0)[None], union.sum(axis=0)[None])[0])
    return Score(name=name, value=value, n=len(images), low=min(float(low), value), high=max(float(high), value))


def _mean_of(same: Float[np.ndarray, "r c"], union: Float[np.ndarray, "r c"]) -> Float[np.ndarray, " r"]:
    present = union > 0
    shares = np.divide(same, union, out=np.zeros_like(same), where=present)
    return np.divide(shares.sum(axis=1), present.sum(axis=1), out=np.full(len(same), np.nan), where=present.any(axis=1))


def best_overlaps(found: Bool[np.ndarray, "m y x"], truth: Bool[np.ndarray, "k y x"]) -> Float[np.ndarray, " k"]:
    """Return the largest IoU of each true mask with any found mask; 0 where nothing was found."""
    if not len(found):
        return np.zeros(len(truth))
    one, other = found.reshape(len(found), -1).astype(np.float64), truth.reshape(len(truth), -1).astype(np.float64)
    same = other @ one.T
    union = other.sum(axis=1)[:, None] + one.sum(axis=1)[None] - same
    return np.divide(same, union, out=np.zeros_like(same), where=union > 0).max(axis=1)
