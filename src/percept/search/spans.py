"""Moments of a video: neighbouring spans that match a query, joined."""

from collections.abc import Sequence
from dataclasses import dataclass

LEVEL = 0.5
"""Where a moment ends, as a share of the way from a video's mean score to its best."""
GAP = 0.25
"""Seconds between two spans that still count as neighbours."""


@dataclass(frozen=True, kw_only=True)
class Span:
    """A part of a video."""

    start: float
    """Seconds."""
    stop: float
    """Seconds."""
    score: float
    """Best cosine inside."""

    def __str__(self) -> str:
        return f"{clock(self.start)}–{clock(self.stop)}"


def clock(seconds: float) -> str:
    """Return a time as a player shows it.

    >>> clock(7.25), clock(83.0), clock(3725.5)
    ('0:07.2', '1:23', '1:02:05.5')
    """
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    fraction = f".{rest % 10}" if rest % 10 else ""
    return (f"{hours}:{minutes:02d}" if hours else f"{minutes}") + f":{rest // 10:02d}{fraction}"


def moments(spans: Sequence[Span], *, level: float = LEVEL) -> list[Span]:
    """Join neighbouring spans of one video whose scores are high enough; return the results, best first.

    The least score lies between the mean score of the video and its best, so that it does not depend on how far cosines of texts and
    images are from 1 in the model's space.

    >>> scores = [0.1, 0.3, 0.32, 0.1, 0.3]
    >>> [str(span) for span in moments([Span(start=i * 1.0, stop=i + 1.0, score=s) for i, s in enumerate(scores)])]
    ['0:01–0:03', '0:04–0:05']

    Args:
        spans: all spans of one video with their scores.
        level: 0 joins everything above the mean, 1 returns the best spans alone.
    """
    if not spans:
        return []
    mean, peak = sum(span.score for span in spans) / len(spans), max(span.score for span in spans)
    least = min(peak, mean + level * (peak - mean))
    found: list[Span] = []
    for span in sorted((span for span in spans if span.score >= least), key=lambda span: span.start):
        if found and span.start - found[-1].stop <= GAP:
            last = found.pop()
            span = Span(start=last.start, stop=max(last.stop, span.stop), score=max(last.score, span.score))
        found.append(span)
    return sorted(found, key=lambda span: (-span.score, span.start))
