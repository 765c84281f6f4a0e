"""Answers of the search API: what a request asks for, as json."""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from percept.core.errors import PerceptError
from percept.infer.labels import class_vectors, rank
from percept.search.contracts import ImageEncoder
from percept.search.hits import Answer, Hit, Wanted
from percept.search.query import ask
from percept.search.question import question
from percept.search.reload import load_stamped
from percept.search.scan import rows_of, vectors_of
from percept.search.spans import Span
from percept.search.store import Piece, Segment, Store
from percept.serve.errors import ApiError
from percept.serve.search.links import Links
from percept.serve.search.media import Media
from percept.serve.search.models import Load, Models
from percept.serve.search.request import MOST_HITS, ClassifyRequest, EncodeRequest, SearchRequest
from percept.serve.search.vectors import Stored, Vectors

OPTION = re.compile(r"--([a-z][a-z-]*[a-z])")
"""An option of the command in a message; the field is called the same."""
SAMPLE = 24
"""Items of the index that are shown before a search."""


class SearchService:
    """Searches one index for the threads of a server.

    Args:
        store: the index.
        encoder: the model it was made with.
        links: makes the addresses of thumbnails and files.
        load: loads the model again after another process has changed it.
    """

    def __init__(self, store: Store, encoder: ImageEncoder, links: Links, load: Load = load_stamped) -> None:
        self._store, self._links = store, links
        self._models = Models(store, encoder, load)
        self.media = Media(store)

    def close(self) -> None:
        """End the thread of the model."""
        self._models.close()

    def about(self) -> dict[str, Any]:
        """Return what the index holds, and a few of its items."""
        kinds, stamp = self._store.kinds(), self._store.stamp
        return {
            "name": self._store.folder.resolve().name, "model": str(stamp), "dim": stamp.dim,
            "version": self._store.version(), "files": len(self._store), "images": kinds.get("image", 0),
            "videos": kinds.get("video", 0), "folders": [shown(root.path) for root in self._store.roots()],
            "sample": [self._item(piece, piece.paths[0]) for piece in self._sample() if piece.paths],
        }  # fmt: skip

    def search(self, request: SearchRequest) -> dict[str, Any]:
        """Return the hits of a search.

        Raises:
            ApiError: an impossible value, an image that cannot be read, or a piece that the index does not have.
            PerceptError: the index belongs to a different model now that cannot be loaded, or is damaged.
        """
        return self._with_model(lambda vectors: self._search(request, vectors))

    def encode(self, request: EncodeRequest) -> dict[str, Any]:
        """Return unit vectors of texts and images; raises as `search`."""
        return self._with_model(lambda vectors: self._encode(request, vectors))

    def classify(self, request: ClassifyRequest) -> dict[str, Any]:
        """Return the most probable labels of images; raises as `search`."""
        return self._with_model(lambda vectors: self._classify(request, vectors))

    # Own

    def _with_model(self, work: Callable[[Vectors], dict[str, Any]]) -> dict[str, Any]:
        """Return what a function returns for the model of the index; once more if the model is changed meanwhile."""
        while True:
            with self._models.current() as (stamp, vectors):
                try:
                    return work(vectors)
                except PerceptError:
                    if self._store.stamp.agrees(stamp):
                        raise

    def _search(self, request: SearchRequest, vectors: Vectors) -> dict[str, Any]:
        like = self._stored(request.like)
        asked = _refused(
            question, list(request.texts), image=[*request.images, *like], not_=list(request.not_texts),
            not_image=list(request.not_images), weight=request.weight, not_weight=request.not_weight,
        )  # fmt: skip
        alone = bool(request.like) and not (request.texts or request.images or request.not_texts or request.not_images)
        own = {piece.content for piece in self._store.pieces(request.like)} if alone else set()
        wanted = _refused(_wanted, request, more=len(own) + 1)
        if not self._segments():
            answer = Answer(question=asked, hits=(), searched=0, seconds=0.0)
        else:
            answer = _refused(ask, self._store, vectors, asked, wanted)
        hits = [hit for hit in answer.hits if hit.content not in own or hit.others]  # a group is shown whole
        end = request.skip + request.top
        return {
            "hits": self._hits([replace(hit, rank=rank) for rank, hit in enumerate(hits[:end], 1)][request.skip :]),
            "more": len(hits) > end and end < MOST_HITS, "searched": answer.searched, "exact": answer.exact,
            "milliseconds": round(answer.seconds * 1000, 2), "version": self._store.version(),
            "unknown_words": vectors.unknown([*request.texts, *request.not_texts]),
            "like": [self._item(piece, piece.paths[0]) for piece in self._store.pieces(request.like) if piece.paths],
        }  # fmt: skip

    def _encode(self, request: EncodeRequest, vectors: Vectors) -> dict[str, Any]:
        texts = _refused(vectors.text, list(request.texts))
        images = _refused(vectors.image, list(request.images))
        return {
            "model": str(self._store.stamp), "dim": vectors.identity.dim, "text": texts.tolist(),
            "image": images.tolist(),
        }  # fmt: skip

    def _classify(self, request: ClassifyRequest, vectors: Vectors) -> dict[str, Any]:
        labels = list(request.labels)
        classes = _refused(class_vectors, vectors, labels, request.templates)
        images = [*request.images, *self._stored(request.pieces)]
        scores = _refused(vectors.image, images) @ classes.T
        guesses = [rank(labels, row, vectors.scale, top=request.top) for row in scores]
        return {
            "labels": [[vars(guess) for guess in row] for row in guesses],
            "unknown_words": vectors.unknown(labels),
        }

    def _stored(self, pieces: Sequence[int]) -> list[Stored | bytes]:
        """Return the vectors of pieces, in their order; of a piece that the model has not encoded yet, its thumbnail."""
        if not pieces:
            return []
        segments = self._store.segments()
        found = rows_of(segments, np.array(pieces, np.int64))
        rows = dict(zip(found.ids.tolist(), torch.from_numpy(vectors_of(segments, found)), strict=True))
        known, old = {piece.id: piece for piece in self._store.pieces(pieces)}, self._store.old()
        for piece in pieces:
            if piece not in known or (piece not in rows and (old is None or piece > old.last)):
                raise ApiError(404, f"The index has no piece {piece}. Search again.", code="not_in_index")
        return [Stored(rows[piece]) if piece in rows else self.media.thumbnail(known[piece]) for piece in pieces]

    def _segments(self) -> list[Segment]:
        """Return the segments of all spaces: an index whose model is being changed has two."""
        return [segment for space in self._store.spaces() for segment in self._store.segments(space.id) if segment.rows]

    def _sample(self) -> list[Piece]:
        """Return pieces from the whole index, evenly spaced; of a video one."""
        ids = [segment.ids for segment in self._segments()]
        total = sum(map(len, ids))
        ends = np.cumsum([len(each) for each in ids])
        chosen = []
        for place in np.unique(np.linspace(0, total - 1, min(total, 3 * SAMPLE)).astype(np.int64)).tolist():
            segment = int(np.searchsorted(ends, place, side="right"))
            chosen.append(int(ids[segment][place - (int(ends[segment - 1]) if segment else 0)]))
        pieces = {piece.content: piece for piece in self._store.pieces(chosen)}
        several = list(pieces.values())
        return (
            [several[place] for place in np.unique(np.linspace(0, len(several) - 1, SAMPLE).astype(int))]
            if several
            else []
        )

    def _hits(self, hits: Sequence[Hit]) -> list[dict[str, Any]]:
        contents = [content for hit in hits for content in (hit.content, *hit.other_contents)]
        pieces: dict[int, list[Piece]] = {}
        for piece in self._store.pieces_of(list(dict.fromkeys(contents))):
            pieces.setdefault(piece.content, []).append(piece)
        return [self._hit(hit, pieces) for hit in hits if hit.content in pieces]

    def _hit(self, hit: Hit, pieces: dict[int, list[Piece]]) -> dict[str, Any]:
        own = pieces[hit.content]
        others = [
            self._item(pieces[content][0], path)
            for content, path in zip(hit.other_contents, hit.others, strict=True)
            if content in pieces
        ]
        return self._item(_at(own, hit.span), hit.path) | {
            "rank": hit.rank, "score": hit.score, "missing": hit.missing, "start": hit.span and hit.span.start,
            "stop": hit.span and hit.span.stop, "spans": [self._span(own, span) for span in hit.spans],
            "copies": list(map(shown, hit.copies)), "group": hit.group or None, "others": others,
        }  # fmt: skip

    def _span(self, pieces: Sequence[Piece], span: Span) -> dict[str, Any]:
        piece = _at(pieces, span)
        return {
            "piece": piece.id, "start": span.start, "stop": span.stop, "score": span.score,
            "thumbnail": self._links.thumbnail(piece),
        }  # fmt: skip

    def _item(self, piece: Piece, path: Path) -> dict[str, Any]:
        return {
            "piece": piece.id, "kind": piece.kind, "name": shown(path.name), "path": shown(path), "width": piece.width,
            "height": piece.height, "seconds": piece.seconds,
            "taken": None if piece.taken is None else datetime.fromtimestamp(piece.taken).isoformat(),
            "thumbnail": self._links.thumbnail(piece), "file": self._links.file(piece),
        }  # fmt: skip


def shown(path: Path | str) -> str:
    """Return a path as text; bytes that are not UTF-8 become �."""
    return os.fsencode(path).decode("utf-8", "replace")


def _wanted(request: SearchRequest, more: int) -> Wanted:
    """Return what is wanted, with further hits that show whether there are any."""
    return Wanted(
        top=request.skip + request.top + more, where=request.where, min_score=request.min_score, group=request.group,
        above=request.above, moments=request.moments, level=request.level,
    ).check()  # fmt: skip


def _at(pieces: Sequence[Piece], span: Span | None) -> Piece:
    """Return the piece in the middle of a span; the first one without a span."""
    if span is None:
        return pieces[0]
    middle = (span.start + span.stop) / 2
    return min(pieces, key=lambda piece: abs(((piece.start or 0) + (piece.stop or 0)) / 2 - middle))


def _refused(work: Any, *args: Any, **options: Any) -> Any:
    """Return what a function returns; its refusal of a value is the client's mistake."""
    try:
        return work(*args, **options)
    except PerceptError as error:
        message = str(error).removeprefix("the image given as bytes ")
        if message.startswith("the index "):
            raise
        message = OPTION.sub(lambda option: option[1].replace("-", "_"), message)
        raise ApiError(422, message[0].upper() + message[1:], code="invalid_value") from None
