"""Regions: windows around single things of an image, with their names.

Region-text pairs as in Zhong et al. 2022, arXiv:2112.09106, here from the ground truth of the world, not from a detector.
"""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from percept.world.language import article, noun
from percept.world.render import Rendering
from percept.world.splits import held_out
from percept.world.variants import shows_colour

NAMES = ("kind", "colour", "pattern")
"""Most specific attribute of each of the three texts of a region."""
LEAST_VISIBLE = 0.6
"""Least visible share of a thing."""
LEAST_SIDE = 0.08
"""Least width and height of its box, as a share of the image."""
MARGINS = (1.05, 1.35, 2.0)
"""Side of a window as a multiple of the longer side of the box: least, largest if tight, largest if loose."""
Region: TypeAlias = tuple[list[float], list[str]]
"""Box, xyxy in [0, 1], and one text per entry of `NAMES`."""


def regions_of(rendering: Rendering) -> list[Region]:
    """Return a region for each thing that is large and visible enough.

    A window shows little but its thing, so compositions that are held out for single things are always omitted.
    """
    coloured = shows_colour(rendering.scene)
    regions = []
    for thing, box, visible in zip(rendering.scene.things, rendering.boxes.tolist(), rendering.visible, strict=True):
        if held_out(thing.category, thing.colour, "alone"):
            continue
        if visible < LEAST_VISIBLE or box[2] - box[0] < LEAST_SIDE or box[3] - box[1] < LEAST_SIDE:
            continue
        words = (noun(thing, False), noun(thing, coloured), noun(thing, coloured, fill=True))
        regions.append(([round(side, 4) for side in box], [article(word) for word in words]))
    return regions


def window(box: Sequence[float], loose: float, rng: np.random.Generator) -> tuple[float, float, float]:
    """Return the left, top and side of a random square around a box, inside the image; all in [0, 1].

    Args:
        box: xyxy in [0, 1].
        loose: 0 for a tight window with the thing in its centre, if the image border allows it; 1 for any position.
        rng: source of random numbers.
    """
    longer = max(box[2] - box[0], box[3] - box[1])
    side = min(1.0, longer * float(rng.uniform(MARGINS[0], MARGINS[1] + loose * (MARGINS[2] - MARGINS[1]))))
    left, top = (_place(box[axis], box[axis + 2], side, loose, rng) for axis in (0, 1))
    return left, top, side


def _place(low: float, high: float, side: float, loose: float, rng: np.random.Generator) -> float:
    """Return a random start of an interval of length `side` that contains low..high and lies in 0..1."""
    first, last = max(0.0, high - side), max(0.0, min(low, 1.0 - side))
    middle = min(max((low + high - side) / 2, first), last)
    return middle + loose * (float(rng.uniform(first, max(first, last))) - middle)


def windows(boxes: Float[np.ndarray, "b 4"], loose: float, rng: np.random.Generator) -> Float[np.ndarray, "b 3"]:
    """Return a random window for each box, as `window` does."""
    return np.array([window(box, loose, rng) for box in boxes.tolist()], dtype=np.float32).reshape(-1, 3)


def cut(
    image: UInt8[Tensor, "b 3 y x"], ids: UInt8[Tensor, "b y x"], where: Float[np.ndarray, "b 3"], size: int
) -> tuple[UInt8[Tensor, "b 3 s s"], UInt8[Tensor, "b s s"]]:
    """Crop windows, each (left, top, side) in [0, 1], and resize them and their pixel ids to `size` x `size`."""
    place = torch.from_numpy(where).to(image.device)
    middle, side = 2 * (place[:, :2] + place[:, 2:] / 2) - 1, place[:, 2]
    moves = torch.zeros(len(image), 2, 3, device=image.device)
    moves[:, 0, 0] = moves[:, 1, 1] = side
    moves[:, :, 2] = middle
    # sampled at twice the size and averaged, so that large windows keep thin lines
    fine = F.affine_grid(moves, [len(image), 3, 2 * size, 2 * size], align_corners=False)
    pixels = F.grid_sample(image.float(), fine, padding_mode="border", align_corners=False)
    pixels = F.avg_pool2d(pixels, 2).round_().clamp_(0, 255)
    coarse = F.affine_grid(moves, [len(image), 1, size, size], align_corners=False)
    numbers = F.grid_sample(ids[:, None].float(), coarse, mode="nearest", padding_mode="border", align_corners=False)
    return pixels.to(torch.uint8), numbers[:, 0].to(torch.uint8)
