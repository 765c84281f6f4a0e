"""Approximate search: an inverted file of coarsely rounded vectors (faiss IVF,SQ4), mapped from disk.

It only proposes rows. Their scores are computed again from the exact vectors, rows added since it was built are scanned, and an
index that is damaged or belongs to other segments is ignored. It takes an eighth of the size of the vectors.
"""

import math
import os
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from jaxtyping import Float, Int64

from percept.core.config import from_dict, to_dict
from percept.core.errors import PerceptError, missing_extra
from percept.core.io import locked, read_json, write_json
from percept.core.report import steps
from percept.search.scan import read_rows, scan
from percept.search.store import Segment, Store

FOLDER, PLAN = "ann", "plan.json"
FORMAT = 1
LEAST_ROWS = 100_000
"""Below this number of rows an exact search is as fast; see `benchmarks/search.json`."""
OUTDATED = 0.2
"""Share of rows that may be added or removed before the index is built again."""
LISTS = 4.0
"""Number of lists, as a multiple of the square root of the number of rows."""
TRAINING = 40
"""Rows per list from which the lists are learned."""
AT_ONCE = 16384
"""Rows added at once."""
PROBES = (8, 16, 32, 64, 128)
"""Numbers of lists of which the smallest that finds enough is chosen."""
RECALL, QUERIES = 0.95, 64
"""Share of the exact top 10 that has to be found, on this many rows that were moved by noise as long as they are."""
CANDIDATES = 100
"""Rows whose exact scores are computed, at least."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What an approximate index covers and how it is searched; stored as json with it."""

    format: int = FORMAT
    file: str
    bytes: int
    """Size of the file."""
    head: int
    """Bytes before the lists."""
    checksum: int
    """CRC-32 of the head."""
    dim: int
    segments: dict[str, int]
    """Segment id → rows that are in the lists."""
    lists: int
    probes: int
    """Lists searched per query."""
    recall: float
    """Share of the exact top 10 that was found when it was built."""
    seconds: float
    """Time it took to build."""

    @property
    def rows(self) -> int:
        """Number of rows in the lists."""
        return sum(self.segments.values())

    def covers(self, segments: Sequence[Segment]) -> bool:
        """True if every segment of the plan still exists with its rows."""
        present = {str(segment.id): segment.rows for segment in segments}
        return all(present.get(id_, 0) >= rows for id_, rows in self.segments.items())


class Approximate:
    """An approximate index that was opened; usable from several threads."""

    def __init__(self, plan: Plan, index: Any) -> None:
        self.plan, self._index = plan, index
        self.begin = {int(id_): rows for id_, rows in plan.segments.items()}
        """Segment id → first row that is not in the lists."""

    def propose(self, query: Float[np.ndarray, " d"], count: int, widen: float = 1.0) -> Int64[np.ndarray, "k 2"]:
        """Return (segment id, row) of rows that are probably among the nearest.

        Args:
            query: unit vector.
            count: rows wanted.
            widen: factor on the number of lists searched.
        """
        probes = min(self.plan.lists, math.ceil(self.plan.probes * widen))
        return _proposed(self._index, query, count, probes, self.begin)


def _proposed(
    index: Any, query: Float[np.ndarray, " d"], count: int, probes: int, begin: dict[int, int]
) -> Int64[np.ndarray, "k 2"]:
    faiss = library()
    _, keys = index.search(query[None], count, params=faiss.SearchParametersIVF(nprobe=probes))
    places = np.stack([keys[0] >> 32, keys[0] & 0xFFFFFFFF], 1)[keys[0] >= 0]
    valid = [row < begin.get(segment, 0) for segment, row in places.tolist()]  # a damaged list may hold anything
    return places[np.array(valid, bool)]


def library() -> Any:
    """Return faiss.

    Raises:
        PerceptError: it is not installed.
    """
    try:
        import faiss
    except ImportError:
        raise missing_extra("faiss-cpu", "search", "a fast search of a large index") from None
    return faiss


@lru_cache(maxsize=1)
def is_available() -> bool:
    """True if faiss is installed; does not import it."""
    from importlib.util import find_spec

    return find_spec("faiss") is not None


def open_approximate(folder: Path, segments: Sequence[Segment]) -> Approximate | None:
    """Open the approximate index of an index; None if there is none, it is damaged, or its segments are gone.

    Args:
        folder: folder of the index.
        segments: the present segments of its current space.
    """
    plan = read_plan(folder)
    if plan is None or not is_available() or not plan.covers(segments) or plan.dim != segments[0].vectors.shape[1]:
        return None
    file = folder / FOLDER / plan.file
    try:
        with file.open("rb") as stream:
            if os.fstat(stream.fileno()).st_size != plan.bytes or zlib.crc32(stream.read(plan.head)) != plan.checksum:
                return None
        faiss = library()
        index = faiss.read_index(str(file), faiss.IO_FLAG_MMAP)
    except (OSError, RuntimeError):  # RuntimeError: faiss could not read it
        return None
    return Approximate(plan, index) if index.ntotal == plan.rows else None


def read_plan(folder: Path) -> Plan | None:
    """Return the plan of the approximate index; None if there is none of this format."""
    try:
        plan = from_dict(Plan, read_json(folder / FOLDER / PLAN))
    except (OSError, ValueError, TypeError):  # PerceptError is a ValueError
        return None
    return plan if plan.format == FORMAT and os.path.basename(plan.file) == plan.file else None


def is_outdated(folder: Path, segments: Sequence[Segment]) -> bool:
    """True if an approximate index is worth building: there are many rows, and too few of them are in the lists."""
    rows = sum(segment.rows for segment in segments)
    if rows < LEAST_ROWS:
        return False
    plan = read_plan(folder)
    return plan is None or not plan.covers(segments) or rows - plan.rows > OUTDATED * rows


def refresh_approximate(store: Store, *, always: bool = False) -> Plan | None:
    """Build the approximate index of an index if it is worth it, and replace the former one.

    Args:
        store: the index.
        always: build it also if there are few rows or the former one is up to date.

    Returns:
        The new plan; None if nothing was built, also if faiss is missing or another process builds it.
    """
    segments = [segment for segment in store.segments() if segment.rows]
    if not segments or not is_available() or not (always or is_outdated(store.folder, segments)):
        return None
    folder = store.folder / FOLDER
    folder.mkdir(exist_ok=True)
    try:
        with locked(folder / "lock", "another process builds it"):
            return _build(folder, segments)
    except PerceptError:
        return None


def _build(folder: Path, segments: Sequence[Segment]) -> Plan:
    start, rng = time.perf_counter(), np.random.default_rng(0)
    rows = sum(segment.rows for segment in segments)
    lists = max(1, min(rows // 4, round(LISTS * math.sqrt(rows))))
    with steps(3) as begin:
        begin("learning the lists of the search index")
        index = _trained(segments, lists, rng)
        begin("filling the lists of the search index")
        for keys, vectors in _keyed(segments):
            index.add_with_ids(vectors, keys)
        begin("choosing the number of lists per query")
        probes, recall = _probes(index, segments, rng)
    file = folder / f"{uuid4().hex}.faiss"
    size, head, checksum = _write(index, file)
    plan = Plan(
        file=file.name, bytes=size, head=head, checksum=checksum, dim=index.d,
        segments={str(segment.id): segment.rows for segment in segments}, lists=lists, probes=probes, recall=recall,
        seconds=round(time.perf_counter() - start, 1),
    )  # fmt: skip
    write_json(folder / PLAN, to_dict(plan))
    for old in folder.glob("*.faiss*"):
        if old.name != file.name:
            old.unlink(missing_ok=True)
    return plan


def _trained(segments: Sequence[Segment], lists: int, rng: np.random.Generator) -> Any:
    faiss = library()
    sample = _sample(segments, TRAINING * lists, rng)
    index = faiss.index_factory(sample.shape[1], f"IVF{lists},SQ4", faiss.METRIC_INNER_PRODUCT)
    index.cp.min_points_per_centroid = 1
    index.cp.niter = 8
    index.train(sample)
    return index


def _sample(segments: Sequence[Segment], count: int, rng: np.random.Generator) -> Float[np.ndarray, "n d"]:
    """Return rows drawn from all segments, in proportion to their sizes."""
    rows = sum(segment.rows for segment in segments)
    share = min(1.0, count / rows)
    parts = [
        read_rows(segment.vectors, np.sort(rng.choice(segment.rows, math.ceil(share * segment.rows), replace=False)))
        for segment in segments
    ]
    return np.concatenate(parts)


def _keyed(segments: Sequence[Segment]) -> Iterator[tuple[Int64[np.ndarray, " n"], Float[np.ndarray, "n d"]]]:
    """Yield vectors with keys that hold their segment and row."""
    for segment in segments:
        for first in range(0, segment.rows, AT_ONCE):
            rows = np.arange(first, min(segment.rows, first + AT_ONCE))
            yield (segment.id << 32) + rows, read_rows(segment.vectors, rows)


def _probes(index: Any, segments: Sequence[Segment], rng: np.random.Generator) -> tuple[int, float]:
    """Return the smallest number of lists that finds enough, with the share of the top 10 that it finds."""
    rows = _sample(segments, QUERIES, rng)[:QUERIES]
    noise = rng.standard_normal(rows.shape, np.float32)
    queries = rows + noise / np.linalg.norm(noise, axis=1, keepdims=True)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    begin = {segment.id: segment.rows for segment in segments}
    exact = [scan(segments, query, 10) for query in queries]
    wanted = [
        {(segments[place].id, row) for place, row in zip(found.segments.tolist(), found.rows.tolist(), strict=True)}
        for found in exact
    ]
    recall = 0.0
    for probes in PROBES:
        proposed = [set(map(tuple, _proposed(index, query, CANDIDATES, probes, begin).tolist())) for query in queries]
        recall = sum(len(a & b) for a, b in zip(proposed, wanted, strict=True)) / sum(map(len, wanted))
        if recall >= RECALL:
            return probes, round(recall, 4)
    return PROBES[-1], round(recall, 4)


def _write(index: Any, file: Path) -> tuple[int, int, int]:
    """Write the lists and sync them; return the size of the file, of its head, and the checksum of the head."""
    faiss = library()
    temporary = file.with_suffix(".faiss.part")
    faiss.write_index(index, str(temporary))
    with temporary.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        head = size - index.ntotal * (index.code_size + 8)
        stream.seek(0)
        checksum = zlib.crc32(stream.read(head))
        os.fsync(stream.fileno())
    os.replace(temporary, file)
    return size, head, checksum
