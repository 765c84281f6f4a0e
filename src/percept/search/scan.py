"""Exact search: the nearest rows of memory-mapped segments, read in parallel and in parts that leave memory again.

In a large index every part is given back to the system after its product (`madvise`), so that a search holds a few megabytes of
vectors at a time; `benchmarks/search.py` compares its speed with the bandwidth of memory.
"""

import mmap
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, Float, Int64

from percept.core.machine import usable_cores
from percept.search.store import Segment

S = TypeVar("S")
T = TypeVar("T")

PART_BYTES, READ_BYTES = 16 << 20, 4 << 20
"""Vectors that are one job of a thread, and those of them that are in memory at a time, in bytes. Jobs cost Python; reading more at
a time costs memory; reading less costs calls (1 MB: 1.1 to 1.4 times the time)."""
KEPT_BYTES = 256 << 20
"""Vectors of an index that may stay in memory between searches, in bytes; those of a larger one are given back as they are read."""
MOST_THREADS = 16
GATHERED = 4
"""Rows are read one by one where less than one row in this many is allowed, else as a whole part."""
LONGEST = 1.01
"""Largest product of two unit vectors that rounding explains; rows beyond it, or not a number, are damaged and left out."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """Rows with their scores, best first; rows of equal score in the order of their ids."""

    ids: Int64[np.ndarray, " k"]
    scores: Float[np.ndarray, " k"]
    """Cosines."""
    segments: Int64[np.ndarray, " k"]
    """Position of the segment in the list that was searched."""
    rows: Int64[np.ndarray, " k"]
    """Row in the segment."""

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, places: np.ndarray) -> "Found":
        """Return the rows at some places."""
        return Found(
            ids=self.ids[places], scores=self.scores[places], segments=self.segments[places], rows=self.rows[places]
        )

    def best(self, top: int) -> "Found":
        """Return the `top` best rows in order."""
        return self.take(np.lexsort((self.ids, -self.scores))[:top])


def nothing() -> Found:
    """Return no rows."""
    none = np.zeros(0, np.int64)
    return Found(ids=none, scores=np.zeros(0, np.float32), segments=none, rows=none)


def joined(parts: Iterable[Found]) -> Found:
    """Return the rows of several results, in no order."""
    parts = [*parts] or [nothing()]
    return Found(
        ids=np.concatenate([part.ids for part in parts]),
        scores=np.concatenate([part.scores for part in parts]),
        segments=np.concatenate([part.segments for part in parts]),
        rows=np.concatenate([part.rows for part in parts]),
    )


@dataclass(frozen=True, kw_only=True)
class Allowed:
    """Which pieces may be found."""

    table: Bool[np.ndarray, " ids"]
    """By piece id."""
    beyond: bool
    """Whether pieces with larger ids may be found: those added since the table was made."""

    def of(self, ids: Int64[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        """Return which of the ids may be found."""
        known = (ids >= 0) & (ids < len(self.table))
        return np.where(known, self.table[np.where(known, ids, 0)], self.beyond)


def allowing(dead: Int64[np.ndarray, " m"], only: Int64[np.ndarray, " n"] | None = None) -> Allowed | None:
    """Return which pieces may be found; None if all.

    Args:
        dead: ids of pieces that were removed.
        only: ids that pass a filter; None without a filter.
    """
    if only is None and not len(dead):
        return None
    largest = max((int(ids.max()) for ids in (dead, only) if ids is not None and len(ids)), default=0)
    table = np.full(1 + largest, only is None)
    if only is not None:
        table[only] = True
    table[dead] = False
    return Allowed(table=table, beyond=only is None)


def scan(
    segments: Sequence[Segment],
    query: Float[np.ndarray, " d"],
    top: int,
    *,
    allowed: Allowed | None = None,
    begin: Mapping[int, int] | None = None,
) -> Found:
    """Return the `top` rows nearest to a unit vector, exactly.

    Args:
        segments: where to search.
        query: unit vector, float32.
        top: rows wanted; fewer if there are fewer.
        allowed: pieces that may be found; all if None.
        begin: segment id → first row to search; 0 for others.
    """
    jobs = [
        (place, start, min(segment.rows, start + part))
        for place, segment in enumerate(segments)
        for part in [max(1, PART_BYTES // (4 * segment.vectors.shape[1]))]
        for start in range((begin or {}).get(segment.id, 0), segment.rows, part)
    ]
    kept = sum(segment.vectors.nbytes for segment in segments) <= KEPT_BYTES
    return joined(in_threads(lambda job: _part(segments, job, query, top, allowed, kept), jobs)).best(top)


def _part(
    segments: Sequence[Segment],
    job: tuple[int, int, int],
    query: Float[np.ndarray, " d"],
    top: int,
    allowed: Allowed | None,
    kept: bool,
) -> Found:
    """Return the nearest rows of one part of a segment, in no order."""
    place, start, stop = job
    segment = segments[place]
    rows = None if allowed is None else start + np.flatnonzero(allowed.of(segment.ids[start:stop]))
    if rows is not None and len(rows) * GATHERED < stop - start:
        scores = products(read_rows(segment.vectors, rows), query)
    else:
        scores = _read_products(segment.vectors, start, stop, query, kept)
        if rows is not None:
            scores = scores[rows - start]
    chosen = _highest(scores, top)
    rows = start + chosen if rows is None else rows[chosen]
    return Found(ids=segment.ids[rows], scores=scores[chosen], segments=np.full(len(rows), place), rows=rows)


def products(vectors: Float[np.ndarray, "n d"], query: Float[np.ndarray, " d"]) -> Float[np.ndarray, " n"]:
    """Return the cosines of unit vectors with a query; of damaged vectors, anything."""
    with np.errstate(invalid="ignore", over="ignore"):
        return np.vecdot(vectors, query)


def _read_products(
    vectors: Float[np.ndarray, "n d"], start: int, stop: int, query: Float[np.ndarray, " d"], kept: bool
) -> Float[np.ndarray, " m"]:
    """Return the cosines of rows of a mapping with a query; the rows stay in memory only if `kept`."""
    scores = np.empty(stop - start, np.float32)
    step = max(1, READ_BYTES // (4 * vectors.shape[1]))
    for first in range(start, stop, step):
        last = min(stop, first + step)
        scores[first - start : last - start] = products(vectors[first:last], query)
        if not kept:
            release(vectors, first, last)
    return scores


def _highest(scores: Float[np.ndarray, " n"], top: int) -> Int64[np.ndarray, " k"]:
    """Return the places of the `top` highest scores and of those that equal the last of them."""
    if not len(scores):
        return np.zeros(0, np.int64)
    if not np.abs(scores).max() <= LONGEST:  # also where it is not a number
        scores = np.where(np.abs(scores) <= LONGEST, scores, -np.inf)
    lowest = np.partition(scores, -top)[-top] if top < len(scores) else -np.inf
    return np.flatnonzero((scores >= lowest) & (scores > -np.inf))


def read_rows(vectors: Float[np.ndarray, "n d"], rows: Int64[np.ndarray, " k"]) -> Float[np.ndarray, "k d"]:
    """Return a copy of some rows, and give the pages around them back to the system."""
    advise(vectors, mmap.MADV_RANDOM)
    copy = np.array(vectors[rows])
    advise(vectors, mmap.MADV_NORMAL)
    if len(rows):
        release(vectors, int(rows.min()), int(rows.max()) + 1)
    return copy


def vectors_of(segments: Sequence[Segment], found: Found) -> Float[np.ndarray, "k d"]:
    """Return the vectors of rows that were found, all of one space."""
    dim = segments[int(found.segments[0])].vectors.shape[1] if len(found) else 0
    vectors = np.zeros((len(found), dim), np.float32)
    for place in np.unique(found.segments):
        here = np.flatnonzero(found.segments == place)
        vectors[here] = read_rows(segments[place].vectors, found.rows[here])
    return vectors


def rows_of(segments: Sequence[Segment], ids: Int64[np.ndarray, " k"]) -> Found:
    """Return the rows of pieces, in order of their ids, with scores of 0; pieces without a vector are left out."""
    ids = np.unique(ids)
    parts = []
    for place, segment in enumerate(segments):
        rows = _rows_in(segment.ids, ids)
        parts.append(
            Found(
                ids=np.asarray(segment.ids[rows]),
                scores=np.zeros(len(rows), np.float32),
                segments=np.full(len(rows), place),
                rows=rows,
            )
        )
    return joined(parts).best(len(ids))


def _rows_in(ids: Int64[np.ndarray, " n"], wanted: Int64[np.ndarray, " k"]) -> Int64[np.ndarray, " m"]:
    """Return the rows whose id is wanted; ids ascend in a segment unless it was filled out of order."""
    if (ids[1:] > ids[:-1]).all():
        wanted = wanted[(wanted >= ids[0]) & (wanted <= ids[-1])] if len(ids) else wanted[:0]
        places = np.searchsorted(ids, wanted)
        return places[ids[places] == wanted]
    return np.flatnonzero(np.isin(ids, wanted))


def in_threads(function: Callable[[S], T], items: Sequence[S]) -> list[T]:
    """Return the results of a function for all items, computed in threads where there are several."""
    return [function(item) for item in items] if len(items) < 2 else list(_threads().map(function, items))


@lru_cache(maxsize=1)
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, min(MOST_THREADS, round(usable_cores()))), "percept-search")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_threads.cache_clear)  # threads do not survive a fork


def advise(vectors: np.ndarray, advice: int) -> None:
    """Tell the system how a mapping will be read; nothing for an array in memory."""
    mapping = vectors.base
    if isinstance(mapping, mmap.mmap):
        mapping.madvise(advice)


def release(vectors: Float[np.ndarray, "n d"], start: int, stop: int) -> None:
    """Take rows of a mapping out of this process's memory; the system may keep them in its cache of files."""
    mapping = vectors.base
    if not isinstance(mapping, mmap.mmap):
        return
    width = vectors.strides[0]
    first = start * width // mmap.PAGESIZE * mmap.PAGESIZE
    mapping.madvise(mmap.MADV_DONTNEED, first, min(stop * width, len(mapping)) - first)
