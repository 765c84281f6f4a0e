"""Answers of the search API: what a request asks for, as json."""

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from percept.core.errors import PerceptError
from percept.infer.labels import class_vectors, rank
from percept.search.contracts import ImageEncoder
from percept.search.hits import Answer, Hit, Wanted
from percept.search.query import ask
from percept.search.question import question
from percept.search.scan import rows_of, vectors_of
from percept.search.spans import Span
from percept.search.store import Piece, Store
from percept.serve.errors import ApiError
from percept.serve.search.links import Links
from percept.serve.search.media import Media
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
    """

    def __init__(self, store: Store, encoder: ImageEncoder, links: Links) -> None:
        store.check(encoder)
        self._store, self._links = store, links
        self._vectors = Vectors(encoder)
        self.media = Media(store)

    def close(self) -> None:
        """End the thread of the model."""
        self._vectors.close()

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
            PerceptError: the index was made with a different model meanwhile, or is damaged.
        """
        like = self._stored(request.like)
        asked = _refused(
            question, list(request.texts), image=[*request.images, *map(Stored, like)], not_=list(request.not_texts),
            not_image=list(request.not_images), weight=request.weight, not_weight=request.not_weight,
        )  # fmt: skip
        alone = bool(request.like) and not (request.texts or request.images or request.not_texts or request.not_images)
        own = {piece.content for piece in self._store.pieces(request.like)} if alone else set()
        wanted = _refused(_wanted, request, more=len(own) + 1)
        if not any(segment.rows for segment in self._store.segments()):
            answer = Answer(question=asked, hits=(), searched=0, seconds=0.0)
        else:
            answer = _refused(ask, self._store, self._vectors, asked, wanted)
        hits = [hit for hit in answer.hits if hit.content not in own or hit.others]  # a group is shown whole
        end = request.skip + request.top
        return {
            "hits": self._hits([replace(hit, rank=rank) for rank, hit in enumerate(hits[:end], 1)][request.skip :]),
            "more": len(hits) > end and end < MOST_HITS, "searched": answer.searched, "exact": answer.exact,
            "milliseconds": round(answer.seconds * 1000, 2), "version": self._store.version(),
            "unknown_words": self._vectors.unknown([*request.texts, *request.not_texts]),
            "like": [self._item(piece, piece.paths[0]) for piece in self._store.pieces(request.like) if piece.paths],
        }  # fmt: skip

    def encode(self, request: EncodeRequest) -> dict[str, Any]:
        """Return unit vectors of texts and images; raises as `search`."""
        texts = _refused(self._vectors.text, list(request.texts))
        images = _refused(self._vectors.image, list(request.images))
        return {
            "model": str(self._store.stamp), "dim": self._vectors.identity.dim, "text": texts.tolist(),
            "image": images.tolist(),
        }  # fmt: skip

    def classify(self, request: ClassifyRequest) -> dict[str, Any]:
        """Return the most probable labels of images; raises as `search`."""
        labels = list(request.labels)
        classes = _refused(class_vectors, self._vectors, labels, request.templates)
        images = [*request.images, *map(Stored, self._stored(request.pieces))]
        scores = _refused(self._vectors.image, images) @ classes.T
        guesses = [rank(labels, row, self._vectors.scale, top=request.top) for row in scores]
        return {
            "labels": [[vars(guess) for guess in row] for row in guesses],
            "unknown_words": self._vectors.unknown(labels),
        }

    # Own

    def _stored(self, pieces: Sequence[int]) -> list[Tensor]:
        """Return the vectors of pieces, in their order."""
        if not pieces:
            return []
        segments = self._store.segments()
        found = rows_of(segments, np.array(pieces, np.int64))
        rows = dict(zip(found.ids.tolist(), torch.from_numpy(vectors_of(segments, found)), strict=True))
        known = {piece.id for piece in self._store.pieces(pieces)}
        for piece in pieces:
            if piece not in rows or piece not in known:
                raise ApiError(404, f"The index has no piece {piece}. Search again.", code="not_in_index")
        return [rows[piece] for piece in pieces]

    def _sample(self) -> list[Piece]:
        """Return pieces from the whole index, evenly spaced; of a video one."""
        ids = [segment.ids for segment in self._store.segments() if segment.rows]
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
