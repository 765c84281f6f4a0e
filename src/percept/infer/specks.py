"""Parts of a mask that are connected, and the removal of specks far smaller than the largest one."""

import numpy as np
from jaxtyping import Bool, Int

SPECK = 0.02
"""Parts smaller than this share of the largest part are removed."""


def without_specks(mask: Bool[np.ndarray, "y x"]) -> Bool[np.ndarray, "y x"]:
    """Return the mask without parts smaller than `SPECK` times the largest one.

    >>> without_specks(np.array([[1] * 60 + [0, 1]], bool))[0, 58:].tolist()
    [True, True, False, False]
    """
    numbers = parts(mask)
    areas = np.bincount(numbers.ravel())
    areas[0] = 0
    return mask & (areas >= SPECK * areas.max())[numbers]


def parts(mask: Bool[np.ndarray, "y x"]) -> Int[np.ndarray, "y x"]:
    """Return the number of the part of each pixel, from 1; 0 outside the mask. Pixels of a part are connected over edges.

    Runs of pixels in a row are joined with those they touch in the row above (union-find).
    """
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    row = mask.shape[1] + 1  # a run never touches the one of the next row
    starts, stops = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    first, last = np.searchsorted(stops, starts - row, "right"), np.searchsorted(starts, stops - row, "left")
    parents = list(range(len(starts)))

    def root(run: int) -> int:
        while parents[run] != run:
            parents[run] = run = parents[parents[run]]
        return run

    for run, (begin, end) in enumerate(zip(first.tolist(), last.tolist(), strict=True)):
        for above in range(begin, end):
            parents[root(run)] = root(above)
    roots = np.array([root(run) for run in range(len(starts))], np.int64)
    numbers = np.zeros(mask.shape, np.int64)
    numbers[mask] = np.repeat(np.unique(roots, return_inverse=True)[1] + 1, stops - starts)
    return numbers
