"""Work in several processes; Ctrl-C is handled by the process that started them."""

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_processes(
    work: Callable[[Item], Result], items: Iterable[Item], *, processes: int | None = None, chunk: int = 1
) -> Iterator[Result]:
    """Yield work(item) in order, computed by several processes.

    The processes are spawned, because forking a process in which torch has threads can hang; a script that calls this
    needs the usual `if __name__ == "__main__":`. When the caller stops early, work that has not begun is dropped.

    Args:
        work: function of one item; it and the items must be picklable.
        items: items to work on.
        processes: number of processes; None for one per core, 1 for the calling process alone.
        chunk: items sent to a process at once. A list of at most so many is worked on in the calling process.
    """
    processes = processes or os.cpu_count() or 1
    if processes == 1 or (isinstance(items, Sized) and len(items) <= chunk):  # one process would do it all
        yield from map(work, items)
        return
    with process_pool(processes) as pool:
        yield from pool(work, items, chunk)


@contextmanager
def process_pool(processes: int) -> Iterator[Callable[..., Iterator]]:
    """Yield a function as `map_processes`, with the arguments work, items and chunk; its processes serve several calls.

    They end with the process that started them.
    """
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=end_with_parent) as pool:

        def run(work: Callable[[Item], Result], items: Iterable[Item], chunk: int = 1) -> Iterator[Result]:
            with ignoring_interrupts():
                results = pool.map(work, items, chunksize=chunk)  # starts the processes
            yield from results

        try:
            yield run
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def end_with_parent() -> None:
    """End this process when the one that started it has ended, even by SIGKILL; otherwise it would wait for work forever."""
    parent = parent_process()
    assert parent is not None
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


@contextmanager
def ignoring_interrupts() -> Iterator[None]:
    """Let processes started in the block ignore Ctrl-C, so that they do not print tracebacks."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread can set signal handlers
        yield
        return
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
