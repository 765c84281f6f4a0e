"""Where and when: spans of frames or seconds (RTLoc, Charades-STA) and boxes (RefCOCO)."""

import re
from collections.abc import Sequence
from typing import TypeAlias

from percept.data.chat.conversation import Box, Number
from percept.eval.vlm.item import Version

Span: TypeAlias = tuple[Number, Number]
"""First and last frame, or seconds of the begin and the end."""
RECALLS = (0.3, 0.5, 0.7, 0.9)
"""IoU thresholds of RTLoc; a span has to exceed them."""
SAMPLED = 32
"""Frames that PLM samples from a video."""
_SPAN = re.compile(r"\[\s*(-?\d+(?:\.\d+)?)\s*,\s*(-?\d+(?:\.\d+)?)\s*\]")


def parse_span(text: str) -> Span | None:
    """Return the first [start, end] of a text, or None if there is none.

    >>> parse_span("It happens in [4, 15.5]."), parse_span("at the end") is None
    ((4.0, 15.5), True)
    """
    match = _SPAN.search(text)
    return None if match is None else (float(match[1]), float(match[2]))


def overlap(one: Span, other: Span, version: Version = "fixed") -> float:
    """Return the intersection over union of two spans of frames.

    `published`, as the code of PLM-VideoBench: frames are points, so a span of one frame overlaps nothing, and the union is the
    smaller of the hull and the sum of the lengths. `fixed`: frames have a width, so [a, b] is b - a + 1 long and equal spans give 1.
    Either way the two numbers of a span may be exchanged.

    >>> round(overlap((5, 12), (4, 15), "published"), 5), round(overlap((5, 12), (4, 15)), 5)
    (0.63636, 0.66667)
    >>> overlap((3, 3), (3, 3), "published"), overlap((3, 3), (3, 3))
    (0.0, 1.0)
    """
    width = 1.0 if version == "fixed" else 0.0
    starts, ends = (min(one), min(other)), (max(one), max(other))
    lengths = [end - start + width for start, end in zip(starts, ends, strict=True)]
    shared = max(0.0, min(ends) + width - max(starts))
    if version == "fixed":
        return shared / (sum(lengths) - shared)
    hull = max(ends) - min(starts)
    return shared / (min(hull, sum(lengths)) + 1e-8)


def seconds_overlap(one: Span, other: Span) -> float:
    """Return the intersection over union of two spans of seconds.

    >>> seconds_overlap((0.0, 4.0), (2.0, 6.0))
    0.3333333333333333
    """
    shared = max(0.0, min(one[1], other[1]) - max(one[0], other[0]))
    union = (one[1] - one[0]) + (other[1] - other[0]) - shared
    return shared / union if shared > 0 else 0.0


def mean_recall(iou: float) -> float:
    """Return the share of the thresholds of RTLoc that an IoU exceeds.

    >>> mean_recall(0.63636), mean_recall(0.3)
    (0.5, 0.0)
    """
    return sum(iou > threshold for threshold in RECALLS) / len(RECALLS)


def frame_to_seconds(span: Span, duration: Number, frames: int = SAMPLED) -> Span:
    """Return the seconds of a span of sampled frames, counted from 1, of a video: linspace(0, duration, frames).

    Numbers beyond the first and last frame count as these.

    >>> frame_to_seconds((1, 32), 31.0), frame_to_seconds((2, 3), 31.0)
    ((0.0, 31.0), (1.0, 2.0))
    """
    start, end = (min(max(number, 1), frames) for number in span)
    step = duration / max(1, frames - 1)
    return (start - 1) * step, (end - 1) * step


def sampled(frame: int, total: int, frames: int = SAMPLED) -> int:
    """Return the number among `frames` sampled frames of a frame of a video of `total`, by the rule of PLM.

    >>> sampled(20, 80), sampled(79, 80)
    (8, 31)
    """
    return int(frame / (total / frames))


def box_iou(one: Box, other: Box) -> float:
    """Return the intersection over union of two boxes, xyxy in the same unit.

    >>> box_iou((0, 0, 2, 2), (1, 0, 3, 2))
    0.3333333333333333
    """
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(0.0, width) * max(0.0, height)
    union = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)) - shared
    return shared / union if shared > 0 else 0.0


def share_box(box: Sequence[Number], width: Number, height: Number) -> Box:
    """Return a box in pixels as shares of the image.

    >>> share_box((10, 20, 30, 40), 100, 80)
    (0.1, 0.25, 0.3, 0.5)
    """
    x0, y0, x1, y1 = box
    return x0 / width, y0 / height, x1 / width, y1 / height
