"""Labels for the images and videos of an index, from the vectors that exist: no file is read."""

import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from percept.core.errors import PerceptError
from percept.infer.classifying import Results, Span, ranked_in_parts
from percept.infer.labeller import Labeller, NoneBelow, labeller, taught_labeller
from percept.infer.labels import Guess, Templates
from percept.infer.taught import Taught
from percept.search.contents import Content, contents, name_left_out
from percept.search.store import Filter, Store


@dataclass(frozen=True, kw_only=True)
class LabelledFile:
    """A file of an index with its ranked labels."""

    path: Path
    content: int
    """Number of its image or video in the index."""
    guesses: list[Guess]
    """Of a video, by the mean of its spans."""
    spans: tuple[Span, ...] = ()
    """The spans of a video, each with its labels."""


def labeller_for(
    store: Store,
    load: Callable[[], Any],
    labels: Any,
    templates: Templates = None,
    none_below: NoneBelow = None,
) -> Labeller:
    """Return what ranks the vectors of an index by labels. A model is loaded for labels that are texts only.

    Args:
        store: the index.
        load: returns the model of the index.
        labels: texts, or taught labels.
        templates: as for `percept.infer.labeller.labeller`.
        none_below: as for `percept.infer.labeller.labeller`.

    Raises:
        PerceptError: the labels were taught on a different model, or the model is not the index's own.
    """
    if isinstance(labels, Taught):
        return taught_labeller(labels.check_vectors(store.stamp.image, store.stamp), templates, none_below)
    encoder = load()
    store.check(encoder)
    return labeller(encoder, labels, templates, none_below)


def labelled(
    store: Store,
    labels: Labeller,
    *,
    top: int | None = None,
    where: Filter | None = None,
    seen: Callable[[Float[Tensor, "n d"]], None] | None = None,
) -> Iterator[LabelledFile]:
    """Yield the files that pass a filter with their ranked labels: images, then videos. Only a part is in memory at a time.

    Args:
        store: the index.
        labels: what ranks its vectors.
        top: labels of each file and span; all if None.
        where: condition on the files.
        seen: called with the vectors of each part.

    Raises:
        PerceptError: a filter that cannot be used.
    """
    name_left_out(store)
    for part in contents(store, where):
        if not part:
            continue
        vectors = torch.from_numpy(np.stack([content.vector for content in part]))
        if seen is not None:
            seen(vectors)
        for content, guesses in zip(part, ranked_in_parts(labels, vectors, top), strict=True):
            spans = _spans(content, labels, top)
            for path in content.paths:
                yield LabelledFile(path=path, content=content.pieces[0].content, guesses=guesses, spans=spans)


def _spans(content: Content, labels: Labeller, top: int | None) -> tuple[Span, ...]:
    if content.pieces[0].kind != "video":
        return ()
    ranked = ranked_in_parts(labels, torch.from_numpy(content.vectors), top)
    return tuple(
        Span(start=piece.start or 0.0, stop=piece.stop or 0.0, guesses=tuple(guesses))
        for piece, guesses in zip(content.pieces, ranked, strict=True)
    )


def classify(store: Store, labels: Labeller, *, top: int | None = None, where: Filter | None = None) -> Results:
    """Return the ranked labels of all files that pass a filter.

    Raises:
        PerceptError: no file of the index passes, or the filter cannot be used.
    """
    files = list(labelled(store, labels, top=top, where=where))
    if not files:
        raise nothing_passes(store, where)
    return Results(
        [file.guesses for file in files],
        paths=[file.path for file in files],
        spans={file.path: file.spans for file in files if file.spans},
    )


def nothing_passes(store: Store, where: Filter | None) -> PerceptError:
    """Return the error for an index without any file to use."""
    if store.remaining() and not any(segment.rows for segment in store.segments()):
        return PerceptError(
            f"nothing in the index {store.folder} is encoded by its new model yet. Run: percept index --index "
            f"{shlex.quote(str(store.folder))}"
        )
    if where is None:
        return PerceptError(
            f"the index {store.folder} holds nothing that can be used. Add files with: percept index PATHS"
        )
    return PerceptError(f"no file of the index {store.folder} passes these conditions. Leave some of them out.")
