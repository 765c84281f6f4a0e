"""Start and end of moments by a trained localiser, around the spans that an index finds."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from percept.core.errors import PerceptError
from percept.core.report import notice
from percept.infer.localizer import Moment
from percept.search.hits import Hit, Wanted
from percept.search.question import Question
from percept.search.spans import Span

SAME = 0.5
"""Intersection over union from which two spans of a video are the same moment."""


@runtime_checkable
class Finds(Protocol):
    """What `percept.load` returns for a trained localiser: `percept.infer.localizer.Localizer`."""

    def find(self, video: Path, text: str, *, near: float | None = None) -> Moment:
        """Return when something happens, in the part of a video around a second."""
        ...


def check_locating(question: Question, wanted: Wanted) -> None:
    """Refuse what a localiser cannot do.

    Raises:
        PerceptError: no moments are searched for, or something else than one text.
    """
    if not wanted.moments:
        raise PerceptError("a localizer finds moments of videos. Search with moments.")
    if len(question.texts) != 1 or question.images or question.not_texts or question.not_images:
        raise PerceptError("a localizer takes one text. Leave out images, further texts and what is to be avoided.")


def located(hits: Sequence[Hit], text: str, localizer: Finds) -> list[Hit]:
    """Return moments with the start and end that a localiser finds near each; the score stays that of the index.

    A moment found twice in a video is kept once. Where the video is missing or cannot be read, the span of the index stays.
    """
    kept: list[Hit] = []
    for hit in hits:
        hit = _at_found(hit, text, localizer)
        if not any(_same(hit, other) for other in kept):
            kept.append(hit)
    return kept


def _at_found(hit: Hit, text: str, localizer: Finds) -> Hit:
    if hit.span is None or hit.missing:
        return hit
    try:
        found = localizer.find(hit.path, text, near=(hit.span.start + hit.span.stop) / 2)
    except PerceptError as error:
        notice(f"the moments of {hit.path.name} keep the spans of the index: {error}")
        return hit
    span = Span(start=found.start, stop=found.stop, score=hit.span.score)
    return replace(hit, span=span, spans=(span,))


def _same(one: Hit, other: Hit) -> bool:
    """True if two hits show the same moment of the same video."""
    a, b = one.span, other.span
    if one.content != other.content or a is None or b is None:
        return False
    shared = min(a.stop, b.stop) - max(a.start, b.start)
    return shared > 0 and shared >= SAME * (max(a.stop, b.stop) - min(a.start, b.start))
