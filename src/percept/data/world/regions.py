"""Regions: windows around single things of a drawn picture, each with what the thing is called.

Region-text pairs as in Zhong et al. 2022, arXiv:2112.09106, here from the truth of the world instead of a detector.
"""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from percept.data.world.language import article, noun
from percept.data.world.render import Picture
from percept.data.world.splits import held_out
from percept.data.world.variants import shows_colour

NAMES = ("kind", "colour", "pattern")
"""What the three texts of a region tell, each more than the one before."""
LEAST_VISIBLE = 0.6
LEAST_SIDE = 0.08
MARGINS = (1.05, 1.35, 2.0)
"""Side of a window as a multiple of the longer side of the thing's box: least, largest while tight, largest while loose."""
Region: TypeAlias = tuple[list[float], list[str]]
"""Box, xyxy in [0, 1], and one text per entry of `NAMES`."""


def regions_of(picture: Picture) -> list[Region]:
    """Return the things that show well enough to be named by themselves.

    A window shows its thing alone or nearly so; combinations that are held out for single things are left out, wherever
    they stand.
    """
    coloured = shows_colour(picture.scene)
    found = []
    for thing, box, visible in zip(picture.scene.things, picture.boxes.tolist(), picture.visible, strict=True):
        if held_out(thing.category, thing.colour, "alone"):
            continue
        if visible < LEAST_VISIBLE or box[2] - box[0] < LEAST_SIDE or box[3] - box[1] < LEAST_SIDE:
            continue
        words = (noun(thing, False), noun(thing, coloured), noun(thing, coloured, fill=True))
        found.append(([round(side, 4) for side in box], [article(word) for word in words]))
    return found


def window(box: Sequence[float], loose: float, rng: np.random.Generator) -> tuple[float, float, float]:
    """Return left, top and side of a random square in [0, 1] around a box; whole inside the picture.

    Args:
        loose: 0 puts the thing in the middle, where the picture's border allows it, and close; 1 anywhere.
    """
    longer = max(box[2] - box[0], box[3] - box[1])
    side = min(1.0, longer * float(rng.uniform(MARGINS[0], MARGINS[1] + loose * (MARGINS[2] - MARGINS[1]))))
    left, top = (_place(box[axis], box[axis + 2], side, loose, rng) for axis in (0, 1))
    return left, top, side


def _place(low: float, high: float, side: float, loose: float, rng: np.random.Generator) -> float:
    """Return where a stretch of length `side` begins that covers low..high and lies in 0..1."""
    first, last = max(0.0, high - side), max(0.0, min(low, 1.0 - side))
    middle = min(max((low + high - side) / 2, first), last)
    return middle + loose * (float(rng.uniform(first, max(first, last))) - middle)


def cut(
    images: Sequence[UInt8[np.ndarray, "y x 3"]],
    ids: Sequence[UInt8[np.ndarray, "y x"]],
    boxes: Float[np.ndarray, "b 4"],
    size: int,
    loose: float,
    rng: np.random.Generator,
) -> tuple[UInt8[Tensor, "b 3 s s"], UInt8[Tensor, "b s s"]]:
    """Cut a random window around each box and scale it, and the ids of its pixels, to `size` a side; `loose` as in `window`."""
    pictures, numbers = [], []
    for image, numbered, box in zip(images, ids, boxes.tolist(), strict=True):
        left, top, side = window(box, loose, rng)
        height, width = image.shape[:2]
        area = (left * width, top * height, (left + side) * width, (top + side) * height)
        pictures.append(np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR, box=area)))
        numbers.append(np.asarray(Image.fromarray(numbered).resize((size, size), Image.Resampling.NEAREST, box=area)))
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2), torch.from_numpy(np.stack(numbers))
