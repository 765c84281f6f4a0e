"""Queries on an index of one space, or of two while its model is being changed: scores of both on one scale."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from threading import Lock
from weakref import WeakKeyDictionary

import numpy as np
from jaxtyping import Float, Int64

from percept.search.bridge import Bridge, Calibration
from percept.search.contracts import ImageEncoder
from percept.search.nearest import Nearest, Pieces, nearest
from percept.search.question import Question, query_vector, query_vectors
from percept.search.scan import joined, products, rows_of, vectors_of
from percept.search.store import Old, Segment, Store


@dataclass(frozen=True, kw_only=True)
class View:
    """A space of an index as one query sees it."""

    space: int
    segments: Sequence[Segment]
    pieces: Pieces
    query: Float[np.ndarray, " d"]
    """Unit vector of the query in this space."""
    calibration: Calibration | None = None
    """To the scale of the current space; None for the current space itself."""

    @property
    def rows(self) -> int:
        """Number of rows."""
        return sum(segment.rows for segment in self.segments)

    def scores(self, ids: Int64[np.ndarray, " k"]) -> dict[int, float]:
        """Return the scores of those pieces that belong to the space."""
        rows = rows_of(self.segments, self.pieces.of(np.unique(ids)))
        scores = products(vectors_of(self.segments, rows), self.query) if len(rows) else np.zeros(0, np.float32)
        return dict(zip(rows.ids.tolist(), self.calibrated(scores).tolist(), strict=True))

    def calibrated(self, scores: np.ndarray) -> np.ndarray:
        """Return scores of this space on the scale of the current one."""
        return scores if self.calibration is None else self.calibration(scores)


def views(store: Store, encoder: ImageEncoder, asked: Question) -> list[View]:
    """Return the spaces of an index with the query in each: the current one first, then an old one if there is one.

    Raises:
        PerceptError: as `percept.search.question.query_vector`, or the index was made with a different model.
    """
    space, segments, old, old_segments = _state(store, encoder)
    if old is None:
        query = query_vector(encoder, asked)
        return [View(space=space, segments=segments, pieces=Pieces(), query=query)]
    bridge = bridge_of(store, old)
    query, mapped = query_vectors(encoder, asked, [lambda vectors: vectors, bridge.mapped])
    line = bridge.calibration(query, mapped)
    before, after = Pieces(0, old.last), Pieces(old.last)
    return [
        View(space=space, segments=segments, pieces=after, query=query),
        View(space=old.space, segments=old_segments, pieces=before, query=mapped, calibration=line),
    ]


def _state(store: Store, encoder: ImageEncoder) -> tuple[int, list[Segment], Old | None, list[Segment]]:
    """Return the current space and its segments, and the old space and its segments, as they were at one moment."""
    while True:
        version = store.version()
        store.check(encoder)
        space, segments, old = store.space.id, store.segments(), store.old()
        old_segments = [] if old is None else store.segments(old.space)
        if store.version() == version:
            return space, segments, old, old_segments


def nearest_in(
    store: Store, spaces: Sequence[View], top: int, *, only: Int64[np.ndarray, " n"] | None = None
) -> Nearest:
    """Return the pieces nearest to a query in one or two spaces, by their scores on the scale of the current space."""
    results = [
        nearest(store, view.query, top, only=only, within=(view.segments, view.pieces)) for view in spaces if view.rows
    ]
    held = [view for view in spaces if view.rows]
    found, first = [], 0
    for view, result in zip(held, results, strict=True):
        scores = view.calibrated(result.found.scores)
        found.append(replace(result.found, scores=scores, segments=result.found.segments + first))
        first += len(view.segments)
    return Nearest(
        found=joined(found).best(top),
        segments=[segment for view in held for segment in view.segments],
        spaces=[view.space for view in held for _ in view.segments],
        searched=sum(result.searched for result in results),
        exact=all(result.exact for result in results),
    )


_LOCK = Lock()
_BRIDGES: "WeakKeyDictionary[Store, tuple[int, Bridge]]" = WeakKeyDictionary()
"""Bridge of each open index, with its old space."""


def bridge_of(store: Store, old: Old) -> Bridge:
    """Return the bridge to an old space.

    Raises:
        PerceptError: it is damaged.
    """
    with _LOCK:
        known = _BRIDGES.get(store)
        if known is None or known[0] != old.space:
            known = _BRIDGES[store] = old.space, Bridge.read(old.data)
        return known[1]
