"""Ctrl-C while training: the first one asks for a checkpoint, a second one interrupts at once."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from percept.core import dist
from percept.core.report import notice

SAME = 2.0
"""Seconds within which a process of several takes a second signal for the same Ctrl-C, which the launcher passes on."""


@contextmanager
def stopping() -> Iterator[Callable[[], bool]]:
    """Yield a function that returns True once Ctrl-C was pressed. The previous handler is restored afterwards."""
    first: float | None = None

    def ask(number: int, frame: Any) -> None:
        nonlocal first
        if first is not None and (dist.world_size() == 1 or time.monotonic() - first > SAME):
            raise KeyboardInterrupt
        if first is None and dist.rank() == 0:
            notice("stopping after this step with a checkpoint; press Ctrl-C again to stop at once")
        first = time.monotonic() if first is None else first

    try:
        previous = signal.signal(signal.SIGINT, ask)
    except ValueError:  # not in the main thread
        yield lambda: False
        return
    try:
        yield lambda: first is not None
    finally:
        signal.signal(signal.SIGINT, previous)
