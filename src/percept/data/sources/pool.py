"""Worker processes that read samples for a source."""

import math
import pickle
import threading
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, Protocol, runtime_checkable

from percept.core.errors import PerceptError
from percept.core.parallel import end_with_parent, ignoring_interrupts


@runtime_checkable
class Reads(Protocol):
    """What a worker process does: it reads some slots of a step. It can be copied to other processes."""

    def read(self, step: int, slots: range) -> Any:
        """Return what was read."""
        ...


AHEAD = 1
"""Steps that workers read ahead of the step asked for."""
CHUNKS = 4
"""Parts into which each worker's share of a batch is cut, so that no worker waits long for the others."""
_reader: Reads | None = None
"""The reader of this worker process."""


class Pool:
    """Processes that hold a copy of the reader and read slots of steps. They end with the process that started them."""

    def __init__(self, reader: Reads, workers: int) -> None:
        """Start the processes when the first slots are asked for.

        Raises:
            PerceptError: the reader cannot be copied to another process.
        """
        try:
            data = pickle.dumps(reader)
        except Exception as error:  # pickle raises anything
            raise PerceptError(
                f"the source cannot be copied to worker processes: {error}. Define what it calls at the top level of a module, "
                "or use workers=0."
            ) from None
        self._executor = ProcessPoolExecutor(
            workers, mp_context=get_context("spawn"), initializer=_start, initargs=(data,)
        )

    def submit(self, step: int, slots: range) -> "Future[bytes]":
        """Begin to read some slots of a step."""
        try:
            with ignoring_interrupts():
                return self._executor.submit(_read, step, slots)
        except BrokenProcessPool:
            raise _ended() from None

    def close(self) -> None:
        """End the processes when they have finished what they are reading."""
        self._executor.shutdown(wait=True, cancel_futures=True)


class ReadAhead:
    """Reads slots of steps in worker processes, which begin with the next step before it is asked for."""

    def __init__(self, reader: Reads, workers: int) -> None:
        """Describe the workers; they start when the first slots are asked for."""
        self.reader, self.workers = reader, workers
        self._pool: Pool | None = None
        self._waiting: dict[tuple[int, range], list[Future[bytes]]] = {}
        self._lock = threading.Lock()

    def read(self, step: int, slots: range) -> list[Any]:
        """Return what the reader returns for consecutive parts of the slots.

        Raises:
            PerceptError: see `result`, or the reader cannot be copied to another process.
        """
        with self._lock:
            self._pool = self._pool or Pool(self.reader, self.workers)
            wanted = {(number, slots) for number in range(step, step + AHEAD + 1)}
            for old in self._waiting.keys() - wanted:
                for future in self._waiting.pop(old):
                    future.cancel()
            for number, _ in sorted(wanted - self._waiting.keys(), key=lambda each: each[0]):
                self._waiting[number, slots] = [self._pool.submit(number, part) for part in self._parts(slots)]
            futures = self._waiting.pop((step, slots))
        return [result(future) for future in futures]

    def close(self) -> None:
        """End the worker processes; a later `read` starts new ones."""
        with self._lock:
            self._waiting.clear()
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def _parts(self, slots: range) -> list[range]:
        size = max(1, math.ceil(len(slots) / (CHUNKS * self.workers)))
        return [slots[first : first + size] for first in range(0, len(slots), size)]


def result(future: "Future[bytes]") -> Any:
    """Wait for slots that were submitted.

    Raises:
        PerceptError: a worker process ended, or what the reader raised.
    """
    try:
        return pickle.loads(future.result())
    except BrokenProcessPool:
        raise _ended() from None


def _ended() -> PerceptError:
    return PerceptError(
        "a worker process ended before it had read its samples; perhaps the memory was full. Use fewer workers, or workers=0 "
        "to see where it happens."
    )


def _start(data: bytes) -> None:
    """Prepare a worker process: one thread for arithmetic, and an end when its parent has ended, even by SIGKILL."""
    import torch

    global _reader
    torch.set_num_threads(1)
    end_with_parent()
    _reader = pickle.loads(data)


def _read(step: int, slots: range) -> bytes:
    """Return what was read as plain bytes: tensors would travel through shared memory, of which systems have little."""
    assert _reader is not None
    return pickle.dumps(_reader.read(step, slots), protocol=pickle.HIGHEST_PROTOCOL)
