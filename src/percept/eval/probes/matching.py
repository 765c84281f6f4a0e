"""Measures without training: correspondence of points in two images, and tracking by label propagation.

The tracker is that of `percept.infer.tracking`, with its constants; the measures are those of `percept.eval.matching` and
`percept.eval.tracking`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from percept.eval.matching import correct_points
from percept.eval.probes.dense import fitted_labels
from percept.eval.probes.head import upsampled
from percept.eval.probes.outcome import Outcome, Sums, ratio
from percept.eval.probes.stream import Frame, OnPatches
from percept.eval.tracking import region_similarity
from percept.infer.tracking import hardened, propagate

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


def spread(count: int) -> Int[np.ndarray, " k"]:
    """Return the numbers of at most `MOST_POINTS` of the known points, evenly spread."""
    return np.linspace(0, count - 1, min(count, MOST_POINTS)).round().astype(int)


class _Untrained(OnPatches):
    """A probe that needs no training."""

    trains = False

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
        first, second = (torch.from_numpy(part[spread(known)]).float() for part in target)
        height, width = self.frame.size
        scale, found = torch.tensor([width, height]), match_points(maps[0], maps[1], first, self.frame.size)
        pixels = ((scale * each).double().numpy() for each in (found, second))
        right = correct_points(*pixels, extent=max(height, width), alpha=TOLERANCE)
        return float(right.sum()), len(right)

    def head(self, layer: int) -> None:
        """Return None: there is nothing to train."""


class Points(_Untrained):
    """Share of points found within a tenth of the image (PCK). Targets are points of both views, (x, y) in [0, 1]."""

    def fit(self, features: Sequence[Tensor], targets: Sequence[Any], *, seed: int) -> FittedPoints:
        """Return the measure."""
        return FittedPoints(frame=self.setup.frame)


@dataclass(frozen=True, kw_only=True)
class FittedTracks:
    """Label propagation."""

    frame: Frame

    def judge(
        self, features: Sequence[Float[Tensor, "t w y x"]], targets: Sequence[np.ndarray]
    ) -> Mapping[str, Outcome]:
        """Return the mean over objects of the region similarity; the first and the last frame are not counted, as in DAVIS 2017."""
        rows = [self._one(*pair) for pair in zip(features, targets, strict=True)]
        return {"J": Sums(sums=np.array(rows, np.float64), measure=ratio)}

    def _one(self, maps: Float[Tensor, "t w y x"], masks: np.ndarray) -> tuple[float, int]:
        size = self.frame.size
        truth = np.stack([fitted_labels(mask, size).numpy() for mask in masks])
        numbers = [int(number) for number in np.unique(truth[0]) if number > 0]
        if not numbers or len(truth) < 3:
            return 0.0, 0
        shares = np.stack([truth[0] == number for number in (0, *numbers)]).astype(np.float32)
        first = F.avg_pool2d(torch.from_numpy(shares)[None], self.frame.patch)[0]
        soft = list(propagate((one.permute(1, 2, 0) for one in maps), first))
        places = np.array([0, *numbers])
        found = [places[hardened(one, size).numpy()] for one in soft[1:-1]]
        pairs = list(zip(found, truth[1:-1], strict=True))
        overlaps = [np.mean([region_similarity(one == n, other == n) for one, other in pairs]) for n in numbers]
        return float(np.sum(overlaps)), len(numbers)

    def head(self, layer: int) -> None:
        """Return None: there is nothing to train."""


class Tracks(_Untrained):
    """Region similarity J of label propagation. Targets are objects [t, y, x] of all frames; only the first is given to the tracker."""

    def fit(self, features: Sequence[Tensor], targets: Sequence[Any], *, seed: int) -> FittedTracks:
        """Return the measure."""
        return FittedTracks(frame=self.setup.frame)
