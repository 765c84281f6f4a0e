"""The nearest pieces of an index: exact or approximate, whichever is faster for its size, the filter and the number wanted."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from weakref import WeakKeyDictionary

import numpy as np
from jaxtyping import Float, Int64

from percept.core.report import notice
from percept.search.approximate import (
    CANDIDATES,
    FOLDER,
    LEAST_ROWS,
    PLAN,
    Approximate,
    is_available,
    open_approximate,
)
from percept.search.scan import LONGEST, Allowed, Found, allowing, joined, products, scan, vectors_of
from percept.search.store import Segment, Store

PER_HIT = 4
"""Candidates per row wanted, where that is more than CANDIDATES."""
FEW = 0.1
"""Share of the pieces that pass a filter below which they are all compared."""
MOST_WANTED = 0.01
"""Share of the rows above which the wanted ones are found exactly."""


@dataclass(frozen=True, kw_only=True)
class Nearest:
    """Rows found, and how."""

    found: Found
    segments: Sequence[Segment]
    """The list that `found.segments` counts in."""
    searched: int
    """Pieces that could be found."""
    exact: bool


def nearest(
    store: Store, query: Float[np.ndarray, " d"], top: int, *, only: Int64[np.ndarray, " n"] | None = None
) -> Nearest:
    """Return the pieces nearest to a unit vector.

    Args:
        store: the index.
        query: unit vector, float32.
        top: pieces wanted.
        only: pieces that pass a filter; None without a filter. The result equals that of an exact search with this filter, except
            for neighbours that an approximate search misses.
    """
    segments, dead = store.segments(), store.dead()
    rows = sum(segment.rows for segment in segments)
    allowed = allowing(dead, only)
    searched = rows - len(dead) if only is None else len(np.setdiff1d(only, dead, assume_unique=True))
    share = searched / max(1, rows)
    found = None
    if rows >= LEAST_ROWS and share > FEW and top <= MOST_WANTED * rows:
        approximate = _opened(store, segments)
        if approximate is not None:
            found = _approximate(approximate, segments, query, top, allowed, share)
    exact = found is None
    found = scan(segments, query, top, allowed=allowed) if found is None else found
    return Nearest(found=found, segments=segments, searched=searched, exact=exact)


def _approximate(
    approximate: Approximate,
    segments: Sequence[Segment],
    query: Float[np.ndarray, " d"],
    top: int,
    allowed: Allowed | None,
    share: float,
) -> Found | None:
    """Return the nearest of the proposed rows and of those that are not in the lists; None if too few were proposed."""
    count = int(max(CANDIDATES, PER_HIT * top) / share)
    proposed = _rows(segments, approximate.propose(query, count, 1 / share))
    if allowed is not None:
        proposed = proposed.take(np.flatnonzero(allowed.of(proposed.ids)))
    if len(proposed) < top:
        return None
    scores = products(vectors_of(segments, proposed), query)
    kept = np.flatnonzero(np.abs(scores) <= LONGEST)
    proposed = Found(
        ids=proposed.ids[kept], scores=scores[kept], segments=proposed.segments[kept], rows=proposed.rows[kept]
    )
    return joined([proposed, scan(segments, query, top, allowed=allowed, begin=approximate.begin)]).best(top)


def _rows(segments: Sequence[Segment], places: Int64[np.ndarray, "k 2"]) -> Found:
    """Return the rows at (segment id, row), with scores of 0."""
    position = {segment.id: place for place, segment in enumerate(segments)}
    at = np.array([position[id_] for id_ in places[:, 0].tolist()], np.int64)
    ids = np.zeros(len(places), np.int64)
    for place in np.unique(at):
        here = at == place
        ids[here] = segments[place].ids[places[here, 1]]
    return Found(ids=ids, scores=np.zeros(len(places), np.float32), segments=at, rows=places[:, 1])


_LOCK = Lock()
_OPENED: "WeakKeyDictionary[Store, tuple[object, Approximate | None]]" = WeakKeyDictionary()
"""Approximate index of each open index, with what it was opened for."""
_TOLD: set[str] = set()


def _opened(store: Store, segments: Sequence[Segment]) -> Approximate | None:
    """Return the approximate index; it is opened again when it was replaced."""
    try:
        state = os.stat(store.folder / FOLDER / PLAN)
    except OSError:
        return None
    if not is_available():
        _tell(
            f"the index {store.folder} is searched exactly, because faiss is missing; a faster search needs: "
            "pip install 'percept-models[search]'"
        )
        return None
    key = state.st_mtime_ns, state.st_ino
    with _LOCK:
        known = _OPENED.get(store)
        if known is None or known[0] != key:
            known = _OPENED[store] = key, open_approximate(store.folder, segments)
    usable = known[1] is not None and known[1].plan.covers(segments)
    return known[1] if usable else None


def _tell(message: str) -> None:
    """Print a notice once."""
    if message not in _TOLD:
        _TOLD.add(message)
        notice(message)
