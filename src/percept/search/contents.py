"""The images and videos of an index with the vectors of their pieces: what is computed from vectors that exist, without reading files."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int64

from percept.core.report import notice
from percept.search.filters import prefers
from percept.search.scan import LONGEST, rows_of, vectors_of
from percept.search.store import Filter, Piece, Store

VIDEOS = 256
"""Videos whose pieces are read together."""


@dataclass(frozen=True, kw_only=True)
class Content:
    """A distinct image or video."""

    pieces: tuple[Piece, ...]
    """An image alone, or the spans of a video in their order."""
    paths: tuple[Path, ...]
    """Files that hold it and pass the filter."""
    vectors: Float[np.ndarray, "n d"]
    """Unit vectors of the pieces."""

    @property
    def vector(self) -> Float[np.ndarray, " d"]:
        """Unit vector of the whole: of a video the mean of its spans, each weighted by its length."""
        if len(self.vectors) == 1:
            return self.vectors[0]
        lengths = np.array([(piece.stop or 0) - (piece.start or 0) for piece in self.pieces], np.float32)
        mean = np.average(self.vectors, axis=0, weights=lengths if lengths.sum() > 0 else None)
        return (mean / max(float(np.linalg.norm(mean)), 1e-12)).astype(np.float32)


def contents(store: Store, where: Filter | None = None) -> Iterator[list[Content]]:
    """Yield the images and then the videos that pass a filter, in parts; damaged vectors are left out.

    Raises:
        PerceptError: a filter that cannot be used.
    """
    only = None if where is None else store.where(where)
    videos: dict[int, None] = {}
    for ids, vectors in store.vectors():
        if only is not None:
            keep = np.isin(ids, only, assume_unique=True)
            ids, vectors = ids[keep], vectors[keep]
        rows = {id_: row for row, id_ in enumerate(ids.tolist())}
        pieces = store.pieces(ids)
        videos.update(dict.fromkeys(piece.content for piece in pieces if piece.kind == "video"))
        images = [piece for piece in pieces if piece.kind == "image"]
        yield _contents([(piece,) for piece in images], [vectors[rows[piece.id]][None] for piece in images], where)
    numbers = list(videos)
    for first in range(0, len(numbers), VIDEOS):
        yield _videos(store, numbers[first : first + VIDEOS], where)


def name_left_out(store: Store) -> None:
    """Print how many images and videos `contents` leaves out, because they still have vectors of a former model."""
    if left := store.remaining():
        notice(f"{left:,} images and videos are left out until percept index has encoded them again, after the upgrade")


def _videos(store: Store, numbers: Sequence[int], where: Filter | None) -> list[Content]:
    segments, pieces = store.segments(), store.pieces_of(numbers)
    found = rows_of(segments, np.array([piece.id for piece in pieces], np.int64))
    places = {id_: row for row, id_ in enumerate(found.ids.tolist())}
    vectors = vectors_of(segments, found)
    by_content: dict[int, list[Piece]] = {}
    for piece in pieces:
        if piece.id in places:
            by_content.setdefault(piece.content, []).append(piece)
    groups = [tuple(group) for group in by_content.values()]
    return _contents(groups, [vectors[[places[piece.id] for piece in group]] for group in groups], where)


def _contents(
    groups: Sequence[tuple[Piece, ...]], vectors: Sequence[Float[np.ndarray, "n d"]], where: Filter | None
) -> list[Content]:
    result = []
    for pieces, rows in zip(groups, vectors, strict=True):
        sound = _sound(rows)
        paths = tuple(path for path in pieces[0].paths if prefers(where, path))
        if len(sound) and paths:
            kept = tuple(pieces[number] for number in sound.tolist())
            result.append(Content(pieces=kept, paths=paths, vectors=rows[sound]))
    return result


def _sound(vectors: Float[np.ndarray, "n d"]) -> Int64[np.ndarray, " k"]:
    """Return the rows that are unit vectors."""
    with np.errstate(invalid="ignore", over="ignore"):
        squares = np.vecdot(vectors, vectors)
    return np.flatnonzero(np.abs(squares - 1) < LONGEST - 1)
