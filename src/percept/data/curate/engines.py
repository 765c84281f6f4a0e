"""Where the chunks of a step are computed: in this process, in several processes, or by Ray Data on a cluster."""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from percept.core.errors import PerceptError, missing_extra, unknown_name
from percept.core.parallel import process_pool

ENGINES = ("local", "ray")
BLOCKS = 1000
"""Most blocks of a Ray dataset; each holds the numbers of some chunks."""
FEW = 4
"""Fewest chunks for which processes are started by default."""


Run = Callable[[Callable[[int], int], Sequence[int]], Iterator[int]]
"""Yields job(number) for chunks; the job writes files in a folder that all workers share."""


@contextmanager
def open_engine(engine: str, workers: int | None, chunks: int) -> Iterator[Run]:
    """Yield a function that runs picklable jobs over chunks.

    Args:
        engine: "local" or "ray".
        workers: number of processes; None for one per core if there are several chunks.
        chunks: number of chunks.

    Raises:
        PerceptError: unknown engine, or Ray is not installed.
    """
    check(engine, workers)
    if engine == "ray":
        yield partial(_on_ray, workers)
        return
    default = (os.cpu_count() or 1) if chunks >= FEW else 1
    processes = min(workers or default, chunks)
    if processes == 1:
        yield map
        return
    with process_pool(processes) as pool:
        yield pool


def check(engine: str, workers: int | None) -> None:
    """Raise a PerceptError for an engine that does not exist or a number of workers below 1."""
    if engine not in ENGINES:
        raise unknown_name("engine", engine, ENGINES)
    if workers is not None and workers < 1:
        raise PerceptError(f"workers must be at least 1, got {workers}.")


def _on_ray(workers: int | None, job: Callable[[int], int], numbers: Sequence[int]) -> Iterator[int]:
    """Map the job over the chunks as a Ray dataset; a cluster that is running is used, else one is started here."""
    ray = _ray()
    if not numbers:
        return
    if not ray.is_initialized():
        cpus = max(4, workers or os.cpu_count() or 1)  # Ray Data reads on one more processor than it maps on
        ray.init(num_cpus=cpus, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    rows = ray.data.from_items(
        [{"number": number} for number in numbers], override_num_blocks=min(len(numbers), BLOCKS)
    )
    size = min(len(numbers), workers or os.cpu_count() or 1)
    tasks = ray.data.TaskPoolStrategy(size=size)
    try:
        for row in rows.map(_row_job(job), num_cpus=0.5, compute=tasks).iter_rows():
            yield row["done"]
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, PerceptError):
            raise error.cause from None
        raise


def _row_job(job: Callable[[int], int]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda row: {"done": job(int(row["number"]))}


def _ray() -> Any:
    try:
        import ray
        import ray.data
    except ImportError:
        raise missing_extra("ray", "ray", "--engine ray") from None
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler):  # its file of logs keeps all messages
            handler.setLevel(logging.ERROR)
    return ray
