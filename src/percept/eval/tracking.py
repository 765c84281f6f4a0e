"""Video object segmentation: region similarity J, contour accuracy F and their mean, as defined for DAVIS.

Perazzi et al. 2016, CVPR, "A benchmark dataset and evaluation methodology for video object segmentation"; Pont-Tuset et al. 2017,
arXiv:1704.00675.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, hypot
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, UInt8

from percept.core.errors import PerceptError
from percept.eval.statistics import Score, mean

if TYPE_CHECKING:
    from percept.infer.encoder import Encoder

TOLERANCE = 0.008
"""Largest distance of matching contours, as a share of the diagonal of the image; rounded up to whole pixels."""


@dataclass(frozen=True, kw_only=True)
class Tracked:
    """How well one object was tracked: means over the frames."""

    j: float
    """Region similarity: intersection over union."""
    f: float
    """Contour accuracy."""

    @property
    def both(self) -> float:
        """The mean of J and F."""
        return (self.j + self.f) / 2


def region_similarity(found: Bool[np.ndarray, "y x"], truth: Bool[np.ndarray, "y x"]) -> float:
    """Return J, intersection over union; 1 if both masks are empty."""
    union = np.count_nonzero(found | truth)
    return np.count_nonzero(found & truth) / union if union else 1.0


def contour(mask: Bool[np.ndarray, "y x"]) -> Bool[np.ndarray, "y x"]:
    """Return the pixels that differ from their neighbour to the right, below, or diagonally below to the right."""
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    return (mask ^ padded[:-1, 1:]) | (mask ^ padded[1:, :-1]) | (mask ^ padded[1:, 1:])


def contour_accuracy(found: Bool[np.ndarray, "y x"], truth: Bool[np.ndarray, "y x"]) -> float:
    """Return F, the harmonic mean of the precision and recall of contour pixels within a tolerance."""
    radius = ceil(TOLERANCE * hypot(*truth.shape))
    ours, theirs = contour(found), contour(truth)
    precision, recall = _covered(ours, theirs, radius), _covered(theirs, ours, radius)
    if not ours.any() or not theirs.any():  # one of the contours is empty: only empty against empty is right
        return float(ours.any() == theirs.any())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _covered(pixels: Bool[np.ndarray, "y x"], others: Bool[np.ndarray, "y x"], radius: int) -> float:
    """Return the share of `pixels` that have one of `others` within `radius`."""
    total = np.count_nonzero(pixels)
    return np.count_nonzero(pixels & _dilated(others, radius)) / total if total else 0.0


def _dilated(mask: Bool[np.ndarray, "y x"], radius: int) -> Bool[np.ndarray, "y x"]:
    """Return the pixels within `radius` of the mask."""
    height, width = mask.shape
    padded, wide = np.pad(mask, radius), np.zeros_like(mask)
    for down in range(-radius, radius + 1):
        for across in range(-radius, radius + 1):
            if down * down + across * across <= radius * radius:
                wide |= padded[radius + down : radius + down + height, radius + across : radius + across + width]
    return wide


def tracked(found: Sequence[UInt8[np.ndarray, "_ _"]], truth: Sequence[UInt8[np.ndarray, "_ _"]]) -> dict[int, Tracked]:
    """Return the scores of each object of the first true mask.

    The first and the last frame are not counted, as in the evaluation of DAVIS 2017: the first mask is given.

    Raises:
        PerceptError: masks of different number or size, fewer than three frames, or no object.
    """
    _check(found, truth)
    objects = sorted(set(np.unique(truth[0]).tolist()) - {0})
    pairs = list(zip(found, truth, strict=True))[1:-1]
    scores = {}
    for number in objects:
        masks = [(one == number, other == number) for one, other in pairs]
        j = float(np.mean([region_similarity(*both) for both in masks]))
        scores[number] = Tracked(j=j, f=float(np.mean([contour_accuracy(*both) for both in masks])))
    return scores


def _check(found: Sequence[np.ndarray], truth: Sequence[np.ndarray]) -> None:
    if len(found) != len(truth) or len(truth) < 3:
        raise PerceptError(
            f"got {len(found)} masks for {len(truth)} true ones. Give one per frame, of at least 3 frames."
        )
    sizes = {each.shape for each in (*found, *truth)}
    if len(sizes) > 1:
        raise PerceptError(f"the masks have different sizes: {sorted(sizes)}. Give masks of the size of the true ones.")
    if not truth[0].any():
        raise PerceptError("the first true mask marks no object, so there is nothing to track.")


def scores_of(objects: Sequence[Tracked], *, seed: int = 0) -> list[Score]:
    """Return the means of J&F, J and F over objects, with bootstrap intervals over objects.

    Raises:
        PerceptError: there are no objects.
    """
    columns = {
        "J&F": [each.both for each in objects],
        "J": [each.j for each in objects],
        "F": [each.f for each in objects],
    }
    return [mean(name, values, seed=seed) for name, values in columns.items()]


@dataclass(frozen=True, kw_only=True, eq=False)
class Shot:
    """Frames with true masks."""

    name: str
    frames: Sequence[Any]
    masks: Sequence[UInt8[np.ndarray, "y x"]]
    """Number of the object at each pixel, 0 for the background."""


def world_sequences(count: int, *, split: str, frames: int = 16, size: int = 192) -> Iterator[Shot]:
    """Yield clips of one shot of the labelled world, in which the camera is not cut."""
    from itertools import count as numbers

    from percept.world.clips import generate_clip, plan_clip

    found = 0
    for number in numbers():
        if found == count:
            return
        if len(plan_clip(number, split=split, frames=frames).shots) > 1:
            continue
        clip = generate_clip(number, split=split, frames=frames, size=size)
        assert clip.ids is not None
        masks = [np.where(ids == 255, 0, ids).astype(np.uint8) for ids in clip.ids]
        if masks[0].any():
            found += 1
            yield Shot(name=f"{split} {number}", frames=list(clip.frames), masks=masks)


def evaluate(encoder: "Encoder", sequences: Iterator[Shot], **options: Any) -> list[Tracked]:
    """Track all objects of the first frame of each sequence.

    Args:
        encoder: computes the features.
        sequences: frames with truth.
        options: of `percept.infer.tracking.track`.
    """
    from percept.infer.tracking import track

    results: list[Tracked] = []
    for each in sequences:
        found = list(track(encoder, each.frames, each.masks[0], **options))
        results += tracked(found, each.masks).values()
    return results
