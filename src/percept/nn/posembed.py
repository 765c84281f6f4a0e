"""Learned absolute positions on a grid."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def resize_positions(
    positions: Float[Tensor, "n w"], old: tuple[int, int], new: tuple[int, int], *, prefix: int
) -> Float[Tensor, "m w"]:
    """Interpolate positions from one grid to another; equal grids return the same tensor."""
    return positions if old == new else interpolate_positions(positions, old, new, prefix=prefix)


def interpolate_positions(
    positions: Float[Tensor, "n w"], old: tuple[int, int], new: tuple[int, int], *, prefix: int
) -> Float[Tensor, "m w"]:
    """Interpolate positions from one grid to another: bilinear, corners not aligned; the prefix rows are unchanged.

    An equal grid returns equal positions, so a graph for images of any size needs no branch.
    """
    front, patches = positions[:prefix], positions[prefix:]
    square = patches.float().unflatten(0, old).permute(2, 0, 1)[None]
    resized = F.interpolate(square, size=new, mode="bilinear", align_corners=False)[0]
    return torch.cat([front, resized.permute(1, 2, 0).flatten(0, 1).to(front.dtype)])
