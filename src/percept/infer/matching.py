"""Find the same points in two images: mutual nearest neighbours of patch features, or the places of given key points."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from percept.core.errors import PerceptError
from percept.infer.dense import Layer
from percept.infer.grid import PATCHES, dense_layer, unit_map, with_grid

if TYPE_CHECKING:
    from percept.infer.encoder import Encoder

FINE = 8
"""Places per patch, across and down, among which the match of a key point is chosen."""
CHANNELS = 64
"""Channels of a map that are enlarged at once."""

NEAR = 3
"""Distance across and down, in patches, from which a second place counts as elsewhere."""
MARGIN = 0.02
"""A match is ambiguous if its cosine exceeds the largest one elsewhere by less. Of points in pairs of views of rooms (validation split),
31 % are then ambiguous and 58 % of these correct (PCK@0.1), of the others 88 %."""

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
    elsewhere: Float[Tensor, " n"]
    """Largest cosine in the second image farther away than `NEAR` patches; minus infinity if the image has no such place."""

    @property
    def ambiguous(self) -> Bool[Tensor, " n"]:
        """True if a different place is nearly as similar, so that the match may be wrong."""
        return self.cosine - self.elsewhere < MARGIN

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
        return Matches(
            first=self.first[chosen],
            second=self.second[chosen],
            cosine=self.cosine[chosen],
            elsewhere=self.elsewhere[chosen],
        )


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
    grid = second.shape[:2]
    maps = cosines[kept].unflatten(1, grid)
    elsewhere = [_elsewhere(each, place, NEAR) for each, place in zip(maps, others.tolist(), strict=True)]
    return Matches(
        first=_centres(kept, first.shape[:2]),
        second=_centres(others, grid),
        cosine=cosines[kept, others],
        elsewhere=torch.tensor(elsewhere),
    )


def _elsewhere(cosines: Float[Tensor, "h v"], place: int, radius: int) -> float:
    """Return the largest value farther than `radius` cells, across or down, from cell number `place`."""
    y, x = divmod(place, cosines.shape[1])
    others = cosines.clone()
    others[max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1] = float("-inf")
    return float(others.max())


def _centres(places: Int[Tensor, " n"], grid: torch.Size) -> Float[Tensor, "n 2"]:
    """Return the centres of cells, across and down in [0, 1]."""
    return torch.stack([(places % grid[1] + 0.5) / grid[1], (places // grid[1] + 0.5) / grid[0]], dim=1)


def find_points(first: Float[Tensor, "y x w"], second: Float[Tensor, "h v w"], points: Float[Tensor, "n 2"]) -> Matches:
    """Return the most similar place in the second map of each point of the first, among eight per patch across and down.

    Both features, that of the point and those of the places, are interpolated bilinearly from unit vectors and scaled to unit length. An
    interpolated vector is close to the mean of an image, so if only that of the point were interpolated, the best patch would often be an average
    one far away, even in the same image.
    """
    at = (2 * points - 1)[None, None].to(first.dtype)
    features = F.grid_sample(
        unit_map(first).permute(2, 0, 1)[None], at.float(), padding_mode="border", align_corners=False
    )
    target = unit_map(second)
    parts = target.permute(2, 0, 1).split(CHANNELS)
    norms = torch.stack([_fine(part).square().sum(dim=0) for part in parts]).sum(dim=0).sqrt().clamp(min=1e-12)
    places, cosines, elsewhere = [], [], []
    for vector in F.normalize(features[0, :, 0].T, dim=-1):
        each = _fine((target @ vector)[None])[0] / norms  # interpolation is linear: products first, then places
        places.append(int(each.argmax()))
        cosines.append(float(each.max()))
        elsewhere.append(_elsewhere(each, places[-1], NEAR * FINE))
    return Matches(
        first=points,
        second=_centres(torch.tensor(places), norms.shape),
        cosine=torch.tensor(cosines),
        elsewhere=torch.tensor(elsewhere),
    )


def _fine(maps: Float[Tensor, "c h v"]) -> Float[Tensor, "c y x"]:
    """Enlarge maps bilinearly, as `grid_sample` reads them."""
    return F.interpolate(maps[None], scale_factor=FINE, mode="bilinear", align_corners=False)[0]


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
