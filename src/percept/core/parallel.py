"""Work in several processes that start fresh and leave Ctrl-C to the one that started them."""

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")


def map_processes(
    work: Callable[[Given], Made], items: Iterable[Given], *, processes: int | None = None, chunk: int = 1
) -> Iterator[Made]:
    """Yield work(item) in order, computed by several processes.

    They start afresh, since forking a process in which torch has threads can hang; a script that calls this needs the
    usual `if __name__ == "__main__":`. When the caller stops early, work not yet begun is dropped.

    Args:
        processes: how many; None for one per core, 1 for none besides the caller's own.
        chunk: items handed over at once.
    """
    processes = processes or os.cpu_count() or 1
    if processes == 1:
        yield from map(work, items)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        try:
            with _deaf_to_interrupts():
                results = pool.map(work, items, chunksize=chunk)  # starts the processes
            yield from results
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Let processes started in the block ignore Ctrl-C, instead of each printing where it was interrupted."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set signals
        yield
        return
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
