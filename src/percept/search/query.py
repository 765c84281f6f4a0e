"""Searching an index: nearest pieces, one hit per image or video, spans of videos, groups."""

import os
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int64

from percept.core.errors import PerceptError
from percept.search.contracts import ImageEncoder
from percept.search.filters import prefers
from percept.search.hits import Answer, Hit, Wanted
from percept.search.locate import Finds, check_locating, located
from percept.search.mixed import View, nearest_in, views
from percept.search.nearest import Nearest
from percept.search.question import Question
from percept.search.scan import vectors_of
from percept.search.spans import Span, moments
from percept.search.store import Filter, Piece, Store

MORE = 4
"""Factor on the pieces compared where there are too few hits among them."""
TRIES = 3
"""Most searches for one query while the model of the index is being changed by another process."""
SPANS = 5
"""Spans listed with a video."""


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """An image or video with the score of its best piece."""

    piece: Piece
    score: float
    place: int
    """Among the rows that were found."""
    others: tuple[Piece, ...] = ()


def ask(
    store: Store,
    encoder: ImageEncoder,
    question: Question,
    wanted: Wanted | None = None,
    *,
    localizer: Finds | None = None,
) -> Answer:
    """Search an index and return the query with its hits, best first. Several threads may search one index.

    Args:
        store: the index.
        encoder: the model it was made with.
        question: what to search for; `percept.search.question.question` makes it.
        wanted: number and form of the hits.
        localizer: finds where moments start and end; without it they are joined pieces of the index.

    Raises:
        PerceptError: an empty index, a different model, an image that cannot be read, or an impossible value.
    """
    start, wanted = time.perf_counter(), (wanted or Wanted()).check()
    if localizer is not None:
        check_locating(question, wanted)
    spaces, entries, result = _searched(store, encoder, question, wanted)
    spans = _spans(store, spaces, entries, wanted.level)
    hits = [_hit(entry, spans.get(entry.piece.content, []), wanted) for entry in entries]
    if wanted.moments:
        hits = [_at(hit, span) for hit in hits for span in hit.spans]
        hits.sort(key=lambda hit: -hit.score)
    if wanted.min_score is not None:
        hits = [hit for hit in hits if hit.score >= wanted.min_score]
    if localizer is not None:
        hits = located(hits[: wanted.top], question.texts[0], localizer)
    return Answer(
        question=question,
        hits=tuple(replace(hit, rank=rank) for rank, hit in enumerate(hits[: wanted.top], start=1)),
        searched=result.searched,
        seconds=time.perf_counter() - start,
        exact=result.exact,
    )


def _searched(
    store: Store, encoder: ImageEncoder, question: Question, wanted: Wanted
) -> tuple[list[View], list[_Entry], Nearest]:
    """Search all spaces; again if another process has moved contents from one space to the other in the meantime."""
    tries = 0
    while True:
        version, tries = store.version(), tries + 1
        spaces = views(store, encoder, question)
        if not any(view.rows for view in spaces):
            raise PerceptError(
                f"the index {store.folder} holds no images; add some with: "
                f"percept index IMAGES --index {shlex.quote(str(store.folder))}"
            )
        entries, result = _entries(store, spaces, wanted)
        if len(spaces) < 2 or tries == TRIES or store.version() == version:
            return spaces, entries, result


def _entries(store: Store, spaces: Sequence[View], wanted: Wanted) -> tuple[list[_Entry], Nearest]:
    """Return the nearest images and videos, one per group if wanted."""
    only = None if wanted.condition is None else store.where(wanted.condition)
    count = wanted.top if wanted.group is None else MORE * wanted.top
    while True:
        result = nearest_in(store, spaces, count, only=only)
        entries = _grouped(_distinct(store, result), result, wanted)
        ended = len(result.found) < count
        low = wanted.min_score is not None and not ended and result.found.scores[-1] < wanted.min_score
        if ended or low or len(entries) >= wanted.top:
            return entries[: wanted.top], result
        count *= MORE


def _distinct(store: Store, result: Nearest) -> list[_Entry]:
    """Return one entry per image or video, with its best piece; pieces removed in the meantime are left out."""
    entries: dict[int, _Entry] = {}
    pieces = {piece.id: piece for piece in store.pieces(result.found.ids.tolist())}
    for place, (id_, score) in enumerate(zip(result.found.ids.tolist(), result.found.scores.tolist(), strict=True)):
        piece = pieces.get(id_)
        if piece is not None and piece.paths and piece.content not in entries:
            entries[piece.content] = _Entry(piece=piece, score=score, place=place)
    return list(entries.values())


def _grouped(entries: list[_Entry], result: Nearest, wanted: Wanted) -> list[_Entry]:
    """Keep the best entry of every group, with the others of its group."""
    if wanted.group is None or not entries:
        return entries
    if wanted.group == "folder":
        keys = [_folder(entry.piece, wanted.where) for entry in entries]
    else:
        keys = _near_groups(result, np.array([entry.place for entry in entries]), wanted.above)
    groups: dict[object, list[_Entry]] = {}
    for key, entry in zip(keys, entries, strict=True):
        groups.setdefault(key, []).append(entry)
    return [replace(first, others=tuple(entry.piece for entry in rest)) for first, *rest in groups.values()]


def _near_groups(result: Nearest, places: Int64[np.ndarray, " n"], above: float) -> list[object]:
    """Return a key per entry, equal for near-duplicates; vectors of different spaces are not compared."""
    found = result.found.take(places)
    dims = np.array([result.spaces[segment] for segment in found.segments.tolist()])
    keys: list[object] = [None] * len(places)
    for space in np.unique(dims).tolist():
        here = np.flatnonzero(dims == space)
        for entry, key in zip(here.tolist(), _near(vectors_of(result.segments, found.take(here)), above), strict=True):
            keys[entry] = space, key
    return keys


def _near(vectors: Float[np.ndarray, "n d"], above: float) -> list[int]:
    """Return for each vector the first one before it, or itself, that begins a group and is near enough."""
    firsts: list[int] = []
    keys = []
    for row, vector in enumerate(vectors):
        cosines = vectors[firsts] @ vector
        key = firsts[int(cosines.argmax())] if len(firsts) and cosines.max() >= above else row
        if key == row:
            firsts.append(row)
        keys.append(key)
    return keys


def _folder(piece: Piece, where: Filter | None) -> str:
    return os.fspath(_shown(piece.paths, where)[0].parent)


def _spans(store: Store, spaces: Sequence[View], entries: Sequence[_Entry], level: float) -> dict[int, list[Span]]:
    """Return the moments of every video among the entries, by content."""
    contents = [entry.piece.content for entry in entries if entry.piece.kind == "video"]
    if not contents:
        return {}
    pieces = store.pieces_of(contents)
    ids = np.array([piece.id for piece in pieces], np.int64)
    score = {id_: value for view in spaces for id_, value in view.scores(ids).items()}
    parts: dict[int, list[Span]] = {}
    for piece in pieces:
        if piece.id in score and piece.start is not None and piece.stop is not None:
            span = Span(start=piece.start, stop=piece.stop, score=score[piece.id])
            parts.setdefault(piece.content, []).append(span)
    return {content: moments(spans, level=level) for content, spans in parts.items()}


def _hit(entry: _Entry, spans: Sequence[Span], wanted: Wanted) -> Hit:
    piece = entry.piece
    path, missing = _shown(piece.paths, wanted.where)
    return Hit(
        rank=0, path=path, score=entry.score, width=piece.width, height=piece.height, kind=piece.kind,
        span=spans[0] if spans else None, spans=tuple(spans[: None if wanted.moments else SPANS]),
        seconds=piece.seconds, taken=piece.taken, missing=missing,
        copies=tuple(each for each in piece.paths if each != path),
        group=_folder(piece, wanted.where) if wanted.group == "folder" else "",
        others=tuple(_shown(other.paths, wanted.where)[0] for other in entry.others), content=piece.content,
        other_contents=tuple(other.content for other in entry.others),
    )  # fmt: skip


def _shown(paths: Sequence[Path], where: Filter | None) -> tuple[Path, bool]:
    """Return the first path that passes the filter and exists, and whether it is missing."""
    preferred = [path for path in paths if prefers(where, path)] or list(paths)
    first = next((path for path in [*preferred, *paths] if os.path.isfile(path)), None)
    return first or preferred[0], first is None


def _at(hit: Hit, span: Span) -> Hit:
    return replace(hit, span=span, spans=(span,), score=span.score)
