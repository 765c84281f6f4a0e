"""Groups of equal or similar items among many: pairs that share a band, and which of them to remove."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from jaxtyping import Bool, Int, UInt64

WINDOW = 64
"""Items of a bucket are compared with this many that follow, and with the first of the bucket."""

Pairs = Int[np.ndarray, "_ 2"]


def surplus(keys: UInt64[np.ndarray, " n"] | UInt64[np.ndarray, "n 2"], copies: int = 1) -> Bool[np.ndarray, " n"]:
    """True for each item whose key occurred at least `copies` times before it; a key of 0 is never counted.

    >>> surplus(np.array([7, 8, 7, 0, 0, 7], dtype=np.uint64), copies=2).tolist()
    [False, False, False, False, False, True]
    """
    table = keys if keys.ndim == 2 else keys[:, None]
    order = np.lexsort((np.arange(len(table)), *table.T))
    ordered = table[order]
    fresh = np.ones(len(table), dtype=bool)
    fresh[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    begins = np.maximum.accumulate(np.where(fresh, np.arange(len(table)), 0))
    repeated = np.zeros(len(table), dtype=bool)
    repeated[order] = np.arange(len(table)) - begins >= copies
    return repeated & table.any(axis=1)


def candidates(bands: Iterable[UInt64[np.ndarray, " n"]]) -> Iterator[Pairs]:
    """Yield pairs of items, the earlier first, that are equal in a band; a band of 0 means that an item takes no part.

    Within a bucket, items are paired with the first one and with the `WINDOW` that follow.
    """
    for band in bands:
        order = np.argsort(band, kind="stable")
        order = order[band[order] != 0]
        ordered = band[order]
        fresh = np.ones(len(order), dtype=bool)
        fresh[1:] = ordered[1:] != ordered[:-1]
        first = np.maximum.accumulate(np.where(fresh, np.arange(len(order)), 0))
        yield np.stack([order[first], order], axis=1)[~fresh]
        for step in range(1, WINDOW + 1):
            same = np.flatnonzero(ordered[step:] == ordered[:-step])
            if not len(same):
                break
            yield np.stack([order[same], order[same + step]], axis=1)


def similar(pairs: Iterable[Pairs], close: Callable[[Pairs], Bool[np.ndarray, " _"]], *, block: int = 1 << 18) -> Pairs:
    """Return the pairs that are close, each once, by their second item."""
    kept = [np.zeros((0, 2), dtype=np.int64)]
    for some in pairs:
        for start in range(0, len(some), block):
            part = some[start : start + block]
            kept.append(part[close(part)])
    found = np.unique(np.concatenate(kept), axis=0)
    return found[np.argsort(found[:, 1], kind="stable")]


def removed(pairs: Pairs, count: int) -> Int[np.ndarray, " n"]:
    """Return for each item the kept item that it is removed in favour of; -1 for items that are kept.

    Items are taken in order, and one is removed only if it is close to an earlier one that is kept. So no chain of similar items
    is removed as a whole: everything removed is close to something kept.

    >>> removed(np.array([[0, 1], [1, 2]]), 3).tolist()
    [-1, 0, -1]
    """
    favoured = np.full(count, -1, dtype=np.int64)
    for earlier, later in pairs.tolist():
        if favoured[later] < 0 and favoured[earlier] < 0:
            favoured[later] = earlier
    return favoured
