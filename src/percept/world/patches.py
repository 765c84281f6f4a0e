"""Patch labels: the thing that covers each patch of a rendered image.

Pixel ids are 0 for background, 1, 2, … for the things in the order of the scene, and `PRINT` for printed words.
"""

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from percept.world.elements import MOST_THINGS
from percept.world.render import Rendering

PRINT = 255
COVERED, FREE = 0.4, 0.1
"""Least share of a patch that a thing must cover to be its label; largest share of all things in a background patch."""
BACKGROUND, UNSURE = -1, -2
"""Values that replace the number of a thing."""


def ids_of(rendering: Rendering) -> UInt8[np.ndarray, "y x"]:
    """Return the id of every pixel of an image rendered with truth."""
    assert rendering.masks is not None
    height, width = rendering.image.shape[:2]
    ids = np.zeros((height, width), np.uint8)
    for number, mask in enumerate(rendering.masks, 1):
        ids[mask] = number
    for left, top, right, bottom in rendering.word_boxes:
        ids[round(top * height) : round(bottom * height), round(left * width) : round(right * width)] = PRINT
    return ids


def cover_of(ids: UInt8[Tensor, "b y x"], patch: int) -> Int[Tensor, "b n"]:
    """Return the index of the thing that covers each patch, row by row, or BACKGROUND, or UNSURE at contours.

    >>> ids = torch.zeros(1, 4, 4, dtype=torch.uint8)
    >>> ids[0, :2, :2], ids[0, 2, 2] = 3, 1
    >>> cover_of(ids, 2).tolist()
    [[2, -1, -1, -2]]
    """
    rows, columns = ids.shape[1] // patch, ids.shape[2] // patch
    cells = ids[:, : rows * patch, : columns * patch].unflatten(2, (columns, patch)).unflatten(1, (rows, patch))
    cells = cells.permute(0, 1, 3, 2, 4).flatten(3).flatten(1, 2)  # (b, n, patch patch)
    shares = torch.stack([(cells == number).sum(-1) for number in range(1, MOST_THINGS + 1)], dim=-1) / patch**2
    share, thing = shares.max(dim=-1)
    free = (cells != 0).sum(-1) <= FREE * patch**2
    cover = torch.where(free, BACKGROUND, UNSURE)
    return torch.where(share >= COVERED, thing, cover)
