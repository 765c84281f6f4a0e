"""Measures without training: correspondence of points in two images, and tracking by label propagation.

Propagation as in Caron et al. 2021 (DINO), arXiv:2104.14294, `eval_video_segmentation.py`: the first and the last 7 frames are the
context, the 5 nearest patches within 12 patches vote with exp(cosine / 0.1).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from percept.eval.probes.dense import fitted_labels
from percept.eval.probes.head import upsampled
from percept.eval.probes.outcome import Outcome, Sums, ratio
from percept.eval.probes.probe import Setup
from percept.eval.probes.stream import Frame, patches

CONTEXT, RADIUS, NEAREST, TEMPERATURE = 7, 12, 5, 0.1
"""Earlier frames besides the first, patches on each side, voters, and what divides the cosines."""
TOLERANCE = 0.1
"""Largest distance of a correct point, as a share of the longer side (PCK)."""
MOST_POINTS = 64
"""Points of a pair of images that are matched, evenly spread over those known."""


def match_points(
    first: Float[Tensor, "w y x"], second: Float[Tensor, "w y x"], points: Float[Tensor, "m 2"], size: tuple[int, int]
) -> Float[Tensor, "m 2"]:
    """Return where points of the first image are in the second, (x, y) in [0, 1]: the place of the largest cosine.

    Args:
        first: patch features.
        second: patch features.
        points: (x, y) in [0, 1].
        size: height and width of the places that are compared, pixels; similarities are interpolated between patches.
    """
    queries = F.grid_sample(first[None], 2 * points[None, None] - 1, align_corners=False, padding_mode="border")[
        0, :, 0
    ].T
    keys = F.normalize(second.flatten(1), dim=0)
    similarity = (F.normalize(queries, dim=1) @ keys).unflatten(1, tuple(second.shape[-2:]))
    best = upsampled(similarity[None], size)[0].flatten(1).argmax(dim=1)
    return torch.stack([(best % size[1] + 0.5) / size[1], (best // size[1] + 0.5) / size[0]], dim=1)


def pck(
    found: Float[Tensor, "m 2"], truth: Float[Tensor, "m 2"], shape: tuple[int, int], tolerance: float = TOLERANCE
) -> Bool[Tensor, " m"]:
    """Return whether each point is within `tolerance` times the longer side of the truth.

    Args:
        found: (x, y) in [0, 1].
        truth: (x, y) in [0, 1].
        shape: height and width of the image in pixels.
        tolerance: share of the longer side.
    """
    scale = torch.tensor([shape[1], shape[0]], dtype=found.dtype)
    return ((found - truth.to(found.dtype)) * scale).norm(dim=1) <= tolerance * max(shape)


class _Untrained:
    """A probe that needs no training."""

    trains, whole = False, False

    def __init__(self, setup: Setup) -> None:
        self.setup = setup

    def reduce(self, tokens: Float[Tensor, "b n w"], prefix: int, grid: tuple[int, int]) -> Float[Tensor, "b w y x"]:
        """Return maps of patches."""
        return patches(tokens, prefix, grid)

    def thin(self, features: dict[int, Tensor], target: Any, rng: np.random.Generator) -> tuple[dict[int, Tensor], Any]:
        """Return the sample as it is."""
        return features, target


@dataclass(frozen=True, kw_only=True)
class FittedPoints:
    """Correspondence by cosines."""

    frame: Frame

    def judge(
        self, features: Sequence[Float[Tensor, "2 w y x"]], targets: Sequence[tuple[np.ndarray, np.ndarray]]
    ) -> Mapping[str, Outcome]:
        """Return the share of correct points."""
        rows = [self._one(*pair) for pair in zip(features, targets, strict=True)]
        return {"PCK@0.1": Sums(sums=np.array(rows, np.float64), measure=ratio)}

    def _one(self, maps: Float[Tensor, "2 w y x"], target: tuple[np.ndarray, np.ndarray]) -> tuple[float, int]:
        known = len(target[0])
        if not known:
            return 0.0, 0
        chosen = np.linspace(0, known - 1, min(known, MOST_POINTS)).round().astype(int)
        first, second = (torch.from_numpy(part[chosen]).float() for part in target)
        found = match_points(maps[0], maps[1], first, self.frame.size)
        return float(pck(found, second, self.frame.size).sum()), len(chosen)

    def head(self, layer: int) -> None:
        """Return None: there is nothing to train."""


class Points(_Untrained):
    """Share of points found within a tenth of the image (PCK). Targets are points of both views, (x, y) in [0, 1]."""

    def fit(self, features: Sequence[Tensor], targets: Sequence[Any], *, seed: int) -> FittedPoints:
        """Return the measure."""
        return FittedPoints(frame=self.setup.frame)


def propagate(maps: Float[Tensor, "t w y x"], first: Float[Tensor, "k y x"]) -> Float[Tensor, "t k y x"]:
    """Return soft labels of all frames, propagated from the labels of the first one.

    Args:
        maps: patch features of each frame.
        first: share of each object, background included, in each patch of the first frame.
    """
    grid = (maps.shape[-2], maps.shape[-1])
    keys = F.normalize(maps.flatten(2), dim=1)
    near, labels = _near(grid), [first.flatten(1)]
    for frame in range(1, len(maps)):
        context = [0, *range(max(1, frame - CONTEXT), frame)]
        labels.append(_step(keys[frame], [keys[one] for one in context], [labels[one] for one in context], near))
    return torch.stack(labels).unflatten(2, grid)


def _near(grid: tuple[int, int]) -> Bool[Tensor, "n n"]:
    places = torch.cartesian_prod(torch.arange(grid[0]), torch.arange(grid[1]))
    return (places[:, None] - places[None]).abs().amax(dim=-1) <= RADIUS


def _step(
    query: Float[Tensor, "w n"], keys: Sequence[Tensor], labels: Sequence[Tensor], near: Bool[Tensor, "n n"]
) -> Float[Tensor, "k n"]:
    """Return the labels of one frame from those of its context."""
    affinity = torch.cat([(key.T @ query / TEMPERATURE).exp() * near for key in keys])
    least = affinity.topk(min(NEAREST, len(affinity)), dim=0).values[-1]
    affinity = affinity.masked_fill(affinity < least, 0)
    return torch.cat(list(labels), dim=1) @ (affinity / affinity.sum(dim=0))


def tracked(soft: Float[Tensor, "k y x"], size: tuple[int, int]) -> Int[Tensor, "h w"]:
    """Return the object of each pixel: each map is upsampled and stretched to [0, 1], and the largest wins."""
    maps = upsampled(soft[None], size)[0].flatten(1)
    low, high = maps.amin(dim=1, keepdim=True), maps.amax(dim=1, keepdim=True)
    spread = torch.where(high > low, (maps - low) / (high - low).clamp(min=1e-12), maps)
    return spread.argmax(dim=0).unflatten(0, size)


def region_similarity(found: np.ndarray, truth: np.ndarray, number: int) -> float:
    """Return the mean over frames of the IoU of an object (J); 1 in frames in which neither has it. Frames are [t, y, x]."""
    one, other = found == number, truth == number
    both, either = (one & other).sum(axis=(1, 2)), (one | other).sum(axis=(1, 2))
    return float(np.where(either > 0, both / np.maximum(either, 1), 1.0).mean())


@dataclass(frozen=True, kw_only=True)
class FittedTracks:
    """Label propagation."""

    frame: Frame

    def judge(
        self, features: Sequence[Float[Tensor, "t w y x"]], targets: Sequence[np.ndarray]
    ) -> Mapping[str, Outcome]:
        """Return the mean over objects of the region similarity."""
        rows = [self._one(*pair) for pair in zip(features, targets, strict=True)]
        return {"J": Sums(sums=np.array(rows, np.float64), measure=ratio)}

    def _one(self, maps: Float[Tensor, "t w y x"], masks: np.ndarray) -> tuple[float, int]:
        size = self.frame.size
        truth = np.stack([fitted_labels(mask, size).numpy() for mask in masks])
        numbers = [int(number) for number in np.unique(truth[0]) if number > 0]
        if not numbers or len(truth) < 2:
            return 0.0, 0
        shares = np.stack([truth[0] == number for number in (0, *numbers)]).astype(np.float32)
        first = F.avg_pool2d(torch.from_numpy(shares)[None], self.frame.patch)[0]
        soft = propagate(maps, first)
        places = np.array([0, *numbers])
        found = np.stack([places[tracked(one, size).numpy()] for one in soft[1:]])
        return sum(region_similarity(found, truth[1:], number) for number in numbers), len(numbers)

    def head(self, layer: int) -> None:
        """Return None: there is nothing to train."""


class Tracks(_Untrained):
    """Region similarity J of label propagation. Targets are objects [t, y, x] of all frames; only the first is given to the tracker."""

    def fit(self, features: Sequence[Tensor], targets: Sequence[Any], *, seed: int) -> FittedTracks:
        """Return the measure."""
        return FittedTracks(frame=self.setup.frame)
