"""Regions of images: their vectors through the pooling head of a frozen tower, and which labelled thing each of them shows."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from percept.data.batch import Batch
from percept.eval.probes.boxes import iou
from percept.models.clip import unit
from percept.models.vision import VisionTower

BACKGROUND = -1
"""Label of a region that shows no labelled thing."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Regions(Batch):
    """Regions of images with the labelled thing that each overlaps most."""

    vector: Float[Tensor, "n d"]
    """Unit vectors of the frozen image tower."""
    label: Int[Tensor, " n"]
    """Class of the thing; `BACKGROUND` below an overlap of 0.5."""
    overlap: Float[Tensor, " n"]
    """Largest intersection over union with a labelled thing."""


def coverage(boxes: Float[Tensor, "k 4"], grid: tuple[int, int]) -> Float[Tensor, "k n"]:
    """Return how much of each box lies on each patch; a row sums to 1.

    Args:
        boxes: xyxy in [0, 1].
        grid: patches down and across.
    """
    sides = []
    for count, low, high in ((grid[0], 1, 3), (grid[1], 0, 2)):
        edges = torch.arange(count + 1, device=boxes.device, dtype=boxes.dtype) / count
        inside = torch.minimum(boxes[:, high, None], edges[1:]) - torch.maximum(boxes[:, low, None], edges[:-1])
        sides.append(inside.clamp(min=0))
    area = (sides[0][:, :, None] * sides[1][:, None, :]).flatten(1)
    return area / area.sum(dim=1, keepdim=True).clamp(min=1e-9)


@torch.no_grad()
def region_vectors(
    tower: VisionTower, tokens: Float[Tensor, "n w"], grid: tuple[int, int], boxes: Float[Tensor, "k 4"]
) -> Float[Tensor, "k d"]:
    """Return the unit vectors of boxes of one image: the pooling head attends to the patches under each box only.

    Args:
        tower: with a pooling head that attends.
        tokens: after the final norm, prefix first.
        grid: patches down and across.
        boxes: xyxy in [0, 1].

    Raises:
        PerceptError: the tower does not pool by attention.
    """
    weights = F.pad(coverage(boxes, grid), (len(tokens) - grid[0] * grid[1], 0))
    return unit(tower.pool_regions(tokens[None], weights[None].to(tokens.dtype))[0])


def assigned(
    boxes: Float[Tensor, "k 4"], truth: Float[Tensor, "m 4"], labels: Int[Tensor, " m"]
) -> tuple[Int[Tensor, " k"], Float[Tensor, " k"], Int[Tensor, " k"]]:
    """Return the label of each box, its largest overlap, and the thing that it overlaps most (0 without any)."""
    if not len(truth):
        nothing = labels.new_zeros(len(boxes))
        return nothing + BACKGROUND, boxes.new_zeros(len(boxes)), nothing
    best = iou(boxes, truth).max(dim=1)
    return torch.where(best.values >= 0.5, labels[best.indices], BACKGROUND), best.values, best.indices


def jittered(boxes: Float[Tensor, "m 4"], count: int, rng: torch.Generator) -> Float[Tensor, "k 4"]:
    """Return `count` shifted and resized copies of every box, the first of them exact; their overlaps reach from below 0.5 to 1."""
    size = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    amount = torch.linspace(0, 0.3, count)[:, None, None]
    by = amount * (2 * torch.rand(count, *boxes.shape, generator=rng) - 1)
    moved = boxes + by.to(boxes) * size
    return ordered(moved.flatten(0, 1))


def scattered(count: int, rng: torch.Generator) -> Float[Tensor, "k 4"]:
    """Return random boxes with sides from 0.1 to 0.6 of the image."""
    size = 0.1 + 0.5 * torch.rand(count, 2, generator=rng)
    start = torch.rand(count, 2, generator=rng) * (1 - size)
    return torch.cat([start, start + size], dim=1)


def ordered(boxes: Float[Tensor, "k 4"]) -> Float[Tensor, "k 4"]:
    """Return boxes inside the image, the lower corner first."""
    low, high = torch.minimum(boxes[:, :2], boxes[:, 2:]), torch.maximum(boxes[:, :2], boxes[:, 2:])
    return torch.cat([low, high], dim=1).clamp(0, 1)


def crops(
    maps: Float[Tensor, "b w y x"], boxes: Float[Tensor, "k 4"], owner: Int[Tensor, " k"], side: int
) -> Float[Tensor, "k w s s"]:
    """Return `side` × `side` bilinear samples of each box.

    Args:
        maps: of the images.
        boxes: xyxy in [0, 1].
        owner: image of each box.
        side: samples down and across.
    """
    place = (torch.arange(side, device=boxes.device, dtype=boxes.dtype) + 0.5) / side
    x = boxes[:, 0, None] + place * (boxes[:, 2] - boxes[:, 0])[:, None]
    y = boxes[:, 1, None] + place * (boxes[:, 3] - boxes[:, 1])[:, None]
    grid = torch.stack(torch.broadcast_tensors(x[:, None, :], y[:, :, None]), dim=-1)
    return F.grid_sample(maps[owner], 2 * grid - 1, align_corners=False, padding_mode="border")
