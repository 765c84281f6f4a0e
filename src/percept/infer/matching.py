"""Find the same points in two images: mutual nearest neighbours of patch features, or the places of given key points."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from percept.core.errors import PerceptError
from percept.infer.dense import Layer
from percept.infer.grid import PATCHES, dense_layer, unit_map, with_grid

if TYPE_CHECKING:
    from percept.infer.encoder import Encoder

FINE = 8
"""Places per patch, across and down, among which the match of a key point is chosen."""

APART = 0.05
"""Least distance of points that are shown together, as a share of the image."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Matches:
    """Pairs of points: the most distinctive first for mutual neighbours, in the given order for key points."""

    first: Float[Tensor, "n 2"]
    """Across and down in the first image, from 0 to 1."""
    second: Float[Tensor, "n 2"]
    """Across and down in the second image, from 0 to 1."""
    cosine: Float[Tensor, " n"]
    """Similarity of the features."""

    def __len__(self) -> int:
        return len(self.cosine)

    def spread(self, count: int) -> "Matches":
        """Return at most `count` pairs, the first ones whose points in the first image are at least `APART` apart."""
        chosen: list[int] = []
        for place, point in enumerate(self.first):
            if len(chosen) == count:
                break
            if not chosen or float((self.first[chosen] - point).norm(dim=1).min()) >= APART:
                chosen.append(place)
        return Matches(first=self.first[chosen], second=self.second[chosen], cosine=self.cosine[chosen])


def mutual(first: Float[Tensor, "y x w"], second: Float[Tensor, "h v w"]) -> Matches:
    """Return the pairs of patches that are each other's nearest neighbour; points are centres of patches.

    The most distinctive pairs come first: their cosine exceeds their mean cosine with all patches of both images most. By the cosine
    alone, the first ones would lie on plain walls and skies, whose patches are all alike.
    """
    cosines = unit_map(first).flatten(0, 1) @ unit_map(second).flatten(0, 1).T
    forward, back = cosines.argmax(dim=1), cosines.argmax(dim=0)
    rows = torch.arange(len(forward))
    kept = rows[back[forward] == rows]
    means = (cosines.mean(dim=1)[kept] + cosines.mean(dim=0)[forward[kept]]) / 2
    kept = kept[(cosines[kept, forward[kept]] - means).argsort(descending=True, stable=True)]
    others = forward[kept]
    return Matches(
        first=_centres(kept, first.shape[:2]), second=_centres(others, second.shape[:2]), cosine=cosines[kept, others]
    )


def _centres(places: Int[Tensor, " n"], grid: torch.Size) -> Float[Tensor, "n 2"]:
    """Return the centres of cells, across and down in [0, 1]."""
    return torch.stack([(places % grid[1] + 0.5) / grid[1], (places // grid[1] + 0.5) / grid[0]], dim=1)


def find_points(first: Float[Tensor, "y x w"], second: Float[Tensor, "h v w"], points: Float[Tensor, "n 2"]) -> Matches:
    """Return the most similar place in the second map of each point of the first.

    The feature of a point is interpolated bilinearly; its cosines with all patches are enlarged bicubically, eight times
    across and down, and the largest one is taken.
    """
    at = (2 * points - 1)[None, None].to(first.dtype)
    features = F.grid_sample(
        unit_map(first).permute(2, 0, 1)[None], at.float(), padding_mode="border", align_corners=False
    )
    vectors = F.normalize(features[0, :, 0].T, dim=-1)
    cosines = torch.einsum("nw,hvw->nhv", vectors, unit_map(second))
    fine = F.interpolate(cosines[None], scale_factor=FINE, mode="bicubic", align_corners=False)[0]
    found = _centres(fine.flatten(1).argmax(dim=1), fine.shape[1:])
    at = (2 * found - 1)[:, None, None]  # the cosine itself is interpolated bilinearly: bicubic values may exceed 1
    values = F.grid_sample(cosines[:, None], at, padding_mode="border", align_corners=False)
    return Matches(first=points, second=found, cosine=values.flatten())


def match(
    encoder: "Encoder",
    first: Any,
    second: Any,
    *,
    points: Float[Tensor, "n 2"] | None = None,
    layer: Layer | None = None,
    patches: int = PATCHES,
) -> Matches:
    """Match two images.

    Args:
        encoder: any image encoder of which layers can be read.
        first: an image.
        second: an image of any size.
        points: key points of the first image, across and down in [0, 1], to find in the second. Default: mutual nearest
            neighbours of all patches.
        layer: block whose features are compared. Default: at two thirds of the depth.
        patches: patches along the longer side of each image.

    Raises:
        PerceptError: a point is outside the image.
    """
    at = dense_layer(encoder, layer)
    maps = [hidden.map(at) for hidden in with_grid(encoder, patches).hidden([first, second], at)]
    if points is None:
        return mutual(maps[0], maps[1])
    if points.ndim != 2 or points.shape[1] != 2 or not bool(((points >= 0) & (points <= 1)).all()):
        raise PerceptError("points must be [n, 2], across and down in the first image, from 0 to 1.")
    return find_points(maps[0], maps[1], points)
