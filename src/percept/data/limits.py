"""The budget of one file: pixels, bytes and seconds that reading it may cost, and the pixels that are decoded at one time.

No decoder can be interrupted, so the seconds of an image are bounded from its header: a format that decodes slowly has fewer
pixels. The budgets were chosen for about 10 seconds on one slow core and about 1.5 GB for all reader threads together.
"""

import os
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from percept.core.errors import PerceptError

MAX_PIXELS = 100_000_000
"""Largest width × height of an image unless FORMAT_PIXELS says otherwise; `max_pixels=` of the readers replaces it."""

PIXELS_VARIABLE = "PERCEPT_MAX_PIXELS"
"""Environment variable with the largest width × height of every format, for the command line."""

FORMAT_PIXELS = {
    "JPEG": 200_000_000,  # decoded at a fraction of its size where a model does not need more
    "MPO": 200_000_000,
    "WEBP": 60_000_000,
    "AVIF": 60_000_000,
    "HEIF": 60_000_000,
    "QOI": 60_000_000,
    "TIFF": 60_000_000,
    "TEXT PNM": 10_000_000,
}
"""Largest width × height of the formats that are faster or slower per pixel than PNG."""

MAX_SIDE = 500_000
"""Largest width or height in pixels: the time of resizing grows with the longer side, however narrow an image is."""

MAX_BYTES = 1 << 30
"""Largest image file in bytes, which is read into memory."""

PIXELS_IN_FLIGHT = 100_000_000
"""Pixels decoded at one time in all threads of the process. An image with more than this is decoded alone."""

LOOK = 64 << 10
"""Bytes within which a file has to show that it is what its first bytes announce."""

MAX_FRAME_PIXELS = 70_000_000
"""Largest width × height of the frames of a video (8192 × 8192 is allowed)."""

VIDEO_SECONDS = 600.0
"""Longest time in seconds for listing the frames of one video, which grows with its length."""


def check_pixels(name: str, width: int, height: int, kind: str | None, max_pixels: int | None = None) -> None:
    """Check an image's size, known from its header, against the budget.

    Args:
        name: what the message calls the image.
        width: in pixels.
        height: in pixels.
        kind: a key of FORMAT_PIXELS, or any other format.
        max_pixels: replaces the budget of every format; default: the number in PERCEPT_MAX_PIXELS, if it is set.

    Raises:
        PerceptError: no pixels, a side longer than MAX_SIDE, or more pixels than allowed.
    """
    if width < 1 or height < 1:
        raise PerceptError(f"{name} has no pixels ({width} × {height}). Give a different file.")
    if max(width, height) > MAX_SIDE:
        raise PerceptError(
            f"{name} has {width} × {height} pixels, and its longer side exceeds {MAX_SIDE}. Cut it into parts."
        )
    max_pixels = _from_environment() if max_pixels is None else max_pixels
    allowed = FORMAT_PIXELS.get(kind or "", MAX_PIXELS) if max_pixels is None else max_pixels
    if width * height > allowed:
        form = f" for {kind}" if max_pixels is None and kind in FORMAT_PIXELS else ""
        raise PerceptError(
            f"{name} has {width} × {height} pixels, more than the {allowed} allowed{form}. "
            f"Reduce it, or allow {width * height} pixels in the environment variable {PIXELS_VARIABLE}."
        )


def _from_environment() -> int | None:
    text = os.environ.get(PIXELS_VARIABLE)
    if not text:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise PerceptError(
            f"{PIXELS_VARIABLE} is {text!r}. Set it to a number of pixels such as 300000000, or unset it."
        )
    return int(text)


class PixelBudget:
    """Lets threads decode until `total` pixels are in use; the next one waits, in the order of arrival.

    >>> budget = PixelBudget(100)
    >>> with budget.share(60), budget.share(40):
    ...     budget.used
    100
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.used = 0
        """Pixels in use now."""
        self._queue: deque[object] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def share(self, pixels: int) -> Iterator[None]:
        """Hold `pixels` of the budget, or all of it if it has fewer; do not nest this in one thread."""
        pixels, ticket = min(pixels, self.total), object()
        with self._changed:
            self._queue.append(ticket)
            try:
                self._changed.wait_for(lambda: self._queue[0] is ticket and self.used + pixels <= self.total)
                self.used += pixels
            finally:
                self._queue.remove(ticket)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self.used = max(0, self.used - pixels)  # a fork inside the block has reset it
                self._changed.notify_all()

    def reset(self) -> None:
        """Forget all threads: after a fork the child has only its own."""
        self.__init__(self.total)


in_flight = PixelBudget(PIXELS_IN_FLIGHT)
"""The budget that all readers of the process share."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=in_flight.reset)
