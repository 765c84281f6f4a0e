"""Patches of a drawn picture: which of its things covers each of them.

Ids of pixels are 0 where no thing shows, 1, 2, … for the things in the order of the scene, and `PRINT` for printed words.
"""

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from percept.world.render import Picture

PRINT = 255
MOST_THINGS = 6
COVERED, FREE = 0.4, 0.1
"""Least share of a patch that a thing covers to be its label, and largest share of all things for it to be background."""
BACKGROUND, UNSURE = -1, -2
"""In place of a thing's number."""


def ids_of(picture: Picture) -> UInt8[np.ndarray, "y x"]:
    """Return the id of every pixel of a picture drawn with truth."""
    assert picture.masks is not None
    height, width = picture.image.shape[:2]
    ids = np.zeros((height, width), np.uint8)
    for number, mask in enumerate(picture.masks, 1):
        ids[mask] = number
    for left, top, right, bottom in picture.word_boxes:
        ids[round(top * height) : round(bottom * height), round(left * width) : round(right * width)] = PRINT
    return ids


def cover_of(ids: UInt8[Tensor, "b y x"], patch: int) -> Int[Tensor, "b n"]:
    """Return the number from 0 of the thing that covers each patch, row by row, BACKGROUND, or UNSURE at contours.

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
