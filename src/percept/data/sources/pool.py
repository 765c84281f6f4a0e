"""Worker processes that read samples for a source."""

import pickle
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
