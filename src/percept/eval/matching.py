"""Point correspondence: the share of correct key points (PCK).

Yang and Ramanan 2013, doi:10.1109/TPAMI.2012.261; per image as in SPair-71k (Min et al. 2019, arXiv:1908.10543).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, UInt8

from percept.core.errors import PerceptError
from percept.eval.statistics import Score, mean_share

if TYPE_CHECKING:
    from percept.infer.encoder import Encoder

ALPHAS = (0.05, 0.1)
"""Thresholds as shares of the longer side of the image or box."""


def correct_points(
    found: Float[np.ndarray, "_ 2"], truth: Float[np.ndarray, "_ 2"], *, extent: float | int, alpha: float = 0.1
) -> Bool[np.ndarray, " _"]:
    """Return which points are within `alpha` times `extent` of the true ones; the limit itself counts.

    Args:
        found: across and down, in the unit of `extent`.
        truth: the true points.
        extent: longer side of the image, or of the box of the object.
        alpha: share of it.

    Raises:
        PerceptError: the numbers of points differ, or extent or alpha are not positive.
    """
    found, truth = np.asarray(found, np.float64), np.asarray(truth, np.float64)
    if found.shape != truth.shape or found.ndim != 2 or found.shape[1:] != (2,):
        raise PerceptError(
            f"got points of shape {found.shape} for true ones of shape {truth.shape}. Give two arrays [n, 2]."
        )
    if extent <= 0 or alpha <= 0:
        raise PerceptError(f"extent and alpha must be positive, got {extent} and {alpha}.")
    return np.linalg.norm(found - truth, axis=1) <= alpha * extent


def pck(correct: Sequence[Bool[np.ndarray, " _"]], *, alpha: float = 0.1, seed: int = 0) -> Score:
    """Return the mean over pairs of images of the share of correct points; pairs without points are left out.

    Raises:
        PerceptError: no pair has a point.
    """
    shares = [float(np.mean(each)) for each in correct if len(each)]
    return mean_share(f"PCK@{alpha:g}", shares, seed=seed)


@dataclass(frozen=True, kw_only=True, eq=False)
class Views:
    """Two images with points that both of them show."""

    images: tuple[UInt8[np.ndarray, "y x 3"], UInt8[np.ndarray, "y x 3"]]
    first: Float[np.ndarray, "n 2"]
    """Across and down in the first image, from 0 to 1."""
    second: Float[np.ndarray, "n 2"]
    """The same points in the second image."""


def world_views(count: int, *, split: str, points: int = 20, size: int = 192, seed: int = 0) -> Iterator[Views]:
    """Yield two views of rooms of the labelled world; the points are on the solids, whose places are known from the depth."""
    from percept.world.rooms import correspondences, generate_room

    number, found = 0, 0
    while found < count:
        room = generate_room(number, split=split, views=2, size=size)
        number += 1
        first, second = correspondences(*room.views)
        columns, rows = first.astype(int).T
        solid = np.flatnonzero(room.views[0].ids[rows, columns] > 0)
        if len(solid) < points:
            continue
        chosen = np.random.default_rng((seed, number)).choice(solid, points, replace=False)
        found += 1
        yield Views(
            images=(room.views[0].image, room.views[1].image), first=first[chosen] / size, second=second[chosen] / size
        )


def evaluate(
    encoder: "Encoder", pairs: Iterator[Views], *, alphas: Sequence[float] = ALPHAS, **options: Any
) -> list[Score]:
    """Return PCK of key points found in the second image, as a share of the side of the image.

    Args:
        encoder: computes the features.
        pairs: images with points.
        alphas: thresholds.
        options: of `percept.infer.matching.match`.
    """
    import torch

    from percept.infer.matching import match

    found = []
    for pair in pairs:
        points = torch.from_numpy(pair.first).float()
        found.append((match(encoder, *pair.images, points=points, **options).second.numpy(), pair.second))
    return [
        pck([correct_points(one, other, extent=1.0, alpha=alpha) for one, other in found], alpha=alpha)
        for alpha in alphas
    ]
