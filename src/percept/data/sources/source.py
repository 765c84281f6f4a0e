"""Batches from rows of any kind: the batch of a step is a pure function of seed and step, for any number of workers and ranks."""

import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, TypeAlias

from percept.core.errors import PerceptError, unknown_name
from percept.data.batch import Batch
from percept.data.files import PathLike
from percept.data.source import share
from percept.data.sources.bad import BadRows
from percept.data.sources.order import Draws
from percept.data.sources.pool import Pool, result
from percept.data.sources.reader import Part, Prepare, Read, Reader
from percept.data.sources.sample import Rows

Collate: TypeAlias = Callable[[list[Any]], Batch]
"""Makes a batch from items."""
UNITS = ("samples", "epochs")
MAX_BAD = 0.5
"""Share of bad rows above which a run stops, unless max_bad is given."""
AHEAD = 1
"""Steps that workers read ahead of the step asked for."""
CHUNKS = 4
"""Parts into which each worker's share of a batch is cut, so that no worker waits long for the others."""


class RowSource:
    """A `Source` that reads rows in random order.

    Draw number d of the run is slot d mod batch of step d // batch. It is a random row, drawn without replacement within an
    epoch; epochs follow each other without a gap, so a batch may hold the end of one and the beginning of the next.
    """

    def __init__(
        self,
        rows: Rows | Sequence[Part],
        prepare: Prepare | None = None,
        collate: Collate | None = None,
        *,
        batch: int,
        seed: int = 0,
        weights: Sequence[float | int] = (1.0,),
        workers: int = 0,
        max_bad: float | int = MAX_BAD,
        log: PathLike | None = None,
    ) -> None:
        """Describe the source; worker processes start with the first batch.

        Args:
            rows: rows of one kind, or the parts of a mixture, which bring their own `prepare`.
            prepare: makes an item from a sample and the seed of its random choices.
            collate: makes a batch from items.
            batch: samples of a global batch.
            seed: of the order and of all random choices.
            weights: shares of the parts among the samples.
            workers: processes that read and prepare samples; 0 for the calling process alone. The batches are the same.
            max_bad: share (float) or number (int) of bad rows above which a process stops with a summary.
            log: json lines file that gets the key and the reason of every bad row.

        Raises:
            PerceptError: no rows, or a number that is out of range.
        """
        if batch < 1 or workers < 0:
            raise PerceptError(f"batch must be at least 1 and workers at least 0, got {batch} and {workers}.")
        parts = (Part(rows=rows, prepare=_given(prepare)),) if isinstance(rows, Rows) else tuple(rows)
        if empty := [part.rows.name for part in parts if not len(part.rows)]:
            raise PerceptError(f"{empty[0]} holds no rows. Give a different source.")
        self.collate, self.workers = _given(collate), workers
        draws = Draws(counts=tuple(len(part.rows) for part in parts), weights=tuple(map(float, weights)), seed=seed)
        self.reader = Reader(parts=parts, draws=draws, batch=batch)
        self.bad = BadRows(max_bad, len(self), log)
        """Bad rows that this process has met."""
        self.identity = f"{' + '.join(map(str, draws.counts))} rows"
        """Changes with the rows; a resumed run compares it."""
        self._pool: Pool | None = None
        self._waiting: dict[tuple[int, int, int], list[Future[bytes]]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return the number of rows."""
        return sum(self.reader.draws.counts)

    def batch(self, step: int, *, rank: int = 0, world_size: int = 1) -> Batch:
        """Return a rank's share of the batch of a step.

        Raises:
            PerceptError: a step below 0, more bad rows than `max_bad` allows, or a worker process that ended.
        """
        _check_step(step)
        read = self._read_by_workers(step, rank, world_size) if self.workers else None
        reads = read or [self.reader.read(step, self._slots(rank, world_size))]
        for each in reads:
            self.bad.add(each.bad, each.read)
        return self.collate([item for each in reads for item in each.items])

    def keys(self, step: int, rank: int = 0, world_size: int = 1) -> list[str]:
        """Return the keys of the rows drawn for a step, without reading them; a row found to be bad is replaced by another."""
        _check_step(step)
        drawn = self.reader.drawn(step, self._slots(rank, world_size))
        return [
            self.reader.parts[part].key(row) for part, row in zip(drawn.part.tolist(), drawn.row.tolist(), strict=True)
        ]

    def steps(self, *, epochs: float | int = 1.0, samples: int | None = None) -> int:
        """Return the steps after which all rows were drawn `epochs` times, or after which `samples` were drawn."""
        return math.ceil((epochs * len(self) if samples is None else samples) / self.reader.batch)

    def close(self) -> None:
        """End the worker processes; a later batch starts new ones."""
        with self._lock:
            self._waiting.clear()
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def __enter__(self) -> "RowSource":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _slots(self, rank: int, world_size: int) -> range:
        part = share(self.reader.batch, rank, world_size)
        if part.start == part.stop:
            raise PerceptError(
                f"a batch of {self.reader.batch} samples has none for rank {rank} of {world_size}. Use a larger batch."
            )
        return range(part.start, part.stop)

    def _read_by_workers(self, step: int, rank: int, world_size: int) -> list[Read]:
        """Read a share in the worker processes, and let them begin with the next steps."""
        with self._lock:
            self._pool = self._pool or Pool(self.reader, self.workers)
            wanted = {(number, rank, world_size) for number in range(step, step + AHEAD + 1)}
            for old in self._waiting.keys() - wanted:
                for future in self._waiting.pop(old):
                    future.cancel()
            for each in sorted(wanted - self._waiting.keys()):
                self._waiting[each] = [self._pool.submit(each[0], slots) for slots in self._chunks(rank, world_size)]
            futures = self._waiting.pop((step, rank, world_size))
        return [result(future) for future in futures]

    def _chunks(self, rank: int, world_size: int) -> list[range]:
        slots = self._slots(rank, world_size)
        size = max(1, math.ceil(len(slots) / (CHUNKS * self.workers)))
        return [slots[first : first + size] for first in range(0, len(slots), size)]


def mix(
    sources: Sequence[RowSource],
    weights: Sequence[float | int],
    *,
    batch: int,
    seed: int = 0,
    units: str = "samples",
    workers: int = 0,
    max_bad: float | int = MAX_BAD,
    log: PathLike | None = None,
) -> RowSource:
    """Mix sources by weight into one source with batches of its own size.

    Each sample of a batch comes from a random source; which one is a pure function of seed and step, and any block of samples
    (20 to 100,000, as the weights need) has exact shares. Each source keeps its own order, captions and preprocessing.

    Args:
        sources: sources with equal kinds of batches; their batch sizes, seeds and workers do not matter.
        weights: one for each source.
        batch: samples of a global batch.
        seed: of the order and of all random choices.
        units: "samples": weights are shares of the samples. "epochs": weights say how often a source's rows are seen,
            compared with those of others, so that equal weights read all sources equally often.
        workers, max_bad, log: as for `RowSource`.

    Raises:
        PerceptError: unequal numbers of sources and weights, a weight that is not above 0, or sources that make different batches.
    """
    if units not in UNITS:
        raise unknown_name("unit of weights", units, UNITS)
    if len(weights) != len(sources) or not sources:
        raise PerceptError(
            f"{len(sources)} sources do not go with {len(weights)} weights. Give one weight for each source."
        )
    if any(source.collate != sources[0].collate for source in sources):
        raise PerceptError(
            "the sources make different batches. Open them with equal preprocess, tokenizer, frames, target and classes, or give "
            "them the same collate."
        )
    parts, shares = [], []
    for number, (source, weight) in enumerate(zip(sources, weights, strict=True)):
        inner = source.reader
        total, rows = sum(inner.draws.weights), len(source)
        for part, inside in zip(inner.parts, inner.draws.weights, strict=True):
            named = part.rows.key(0).startswith(part.rows.name)  # keys of tables begin with their names
            name = f"{number}:{part.name}" if part.name else f"{number}" if named else f"{number}:{part.rows.name}"
            parts.append(Part(rows=part.rows, prepare=part.prepare, name=name))
            shares.append(weight * inside / total * (rows if units == "epochs" else 1))
    return RowSource(
        parts,
        None,
        sources[0].collate,
        batch=batch,
        seed=seed,
        weights=shares,
        workers=workers,
        max_bad=max_bad,
        log=log,
    )


def _check_step(step: int) -> None:
    if step < 0:
        raise PerceptError(f"steps are numbered from 0, got {step}. Give 0 or more.")


def _given(function: Any) -> Any:
    if function is None:
        raise PerceptError("a source needs prepare and collate. Use open_source, or pass both functions.")
    return function
