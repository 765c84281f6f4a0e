"""Sources of training data: the batch of a step is a function of the seed and the step, whatever the number of processes."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

from percept.core.errors import PerceptError
from percept.data.batch import Batch

AHEAD = 2
"""Batches prepared before they are needed."""


@runtime_checkable
class Source(Protocol):
    """Training data with random access by step, so that a resumed run needs no state besides the step.

    Optional attribute: `identity`, a string that changes with the data. A run does not resume if it is not the stored one.
    """

    def batch(self, step: int, *, rank: int = 0, world_size: int = 1) -> Batch:
        """Return this process's share of the batch of a step.

        Concatenating the shares of all ranks gives the same global batch for every `world_size`.
        """
        ...


def share(count: int, rank: int, world_size: int) -> slice:
    """Return the rows of a global batch of `count` samples that belong to a rank: consecutive, sizes differ by at most 1.

    >>> [share(7, rank, 3) for rank in range(3)]
    [slice(0, 2, None), slice(2, 4, None), slice(4, 7, None)]

    Raises:
        PerceptError: there is no such rank.
    """
    if not 0 <= rank < world_size:
        raise PerceptError(f"rank must be from 0 to {world_size - 1}, got {rank}. There are {world_size} ranks.")
    return slice(count * rank // world_size, count * (rank + 1) // world_size)


@contextmanager
def prefetched(
    source: Source, first: int, steps: int, *, rank: int = 0, world_size: int = 1
) -> Iterator[Iterator[Batch]]:
    """Yield an iterator over the batches of steps `first` to `steps` - 1, prepared in a thread a few steps ahead."""
    with ThreadPoolExecutor(1) as pool:

        def batches() -> Iterator[Batch]:
            submit = lambda step: pool.submit(source.batch, step, rank=rank, world_size=world_size)  # noqa: E731
            waiting = [submit(step) for step in range(first, min(first + AHEAD, steps))]
            for step in range(first, steps):
                ready = waiting.pop(0).result()
                if step + AHEAD < steps:
                    waiting.append(submit(step + AHEAD))
                yield ready

        try:
            yield batches()
        finally:
            pool.shutdown(cancel_futures=True)
