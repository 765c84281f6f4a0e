"""Ctrl-C and SIGTERM while training: the first one asks for a checkpoint, a second one interrupts at once."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from percept.core import dist
from percept.core.report import notice

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Ctrl-C, and what schedulers and launchers send before they kill a process."""
SAME = 2.0
"""Seconds within which a process of several takes a second signal for the same request, which the launcher passes on."""


@contextmanager
def stopping() -> Iterator[Callable[[], int]]:
    """Yield a function that returns the number of the signal received, 0 if none. Previous handlers are restored afterwards."""
    first: float | None = None
    received = 0

    def ask(number: int, frame: Any) -> None:
        nonlocal first, received
        if first is not None and (dist.world_size() == 1 or time.monotonic() - first > SAME):
            raise KeyboardInterrupt
        if first is None and dist.rank() == 0:
            again = "press Ctrl-C again to stop at once" if number == signal.SIGINT else "a second signal stops at once"
            notice(f"stopping after this step with a checkpoint; {again}")
        first = time.monotonic() if first is None else first
        received = received or number

    previous = {}
    try:
        for number in SIGNALS:
            previous[number] = signal.signal(number, ask)
    except ValueError:  # not in the main thread
        yield lambda: 0
        return
    try:
        yield lambda: received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
