"""Processes of `benchmarks/search.py`: each opens one kind of index, answers the same queries, and prints what it measured.

    python benchmarks/search_workers.py KIND FOLDER      # FOLDER holds queries.npy, truth.npy and the index

Workers share no memory. It drops its files from the file cache before it opens them.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

TOP = 10
Search = Callable[[np.ndarray], np.ndarray]
"""Query → ids of the nearest rows, counted from 0."""


def library() -> Any:
    return import_module("faiss")


def drop(folder: Path) -> None:
    """Remove files from the system's cache."""
    for file in folder.rglob("*") if folder.is_dir() else [folder]:
        if file.is_file():
            with file.open("rb") as stream:
                os.fsync(stream.fileno())
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def memory() -> dict[str, float]:
    """Return megabytes of this process: resident now, private now, and the most that was resident."""
    rows = dict(line.split(":") for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:])
    peak = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM")).split()[1]
    private = int(rows["Anonymous"].split()[0])  # what no file backs
    return {"resident": int(rows["Rss"].split()[0]) / 1e3, "private": private / 1e3, "peak": int(peak) / 1e3}


def percentiles(seconds: list[float]) -> dict[str, float]:
    return {f"p{share} ms": round(1e3 * float(np.percentile(seconds, share)), 2) for share in (50, 95)}


def percept_index(folder: Path, exact: bool) -> Search:
    from percept.search import nearest
    from percept.search.store import Store

    nearest.LEAST_ROWS = 10**12 if exact else 0  # type: ignore[misc]
    store = Store(folder / "index")

    def search(query: np.ndarray) -> np.ndarray:
        result = nearest.nearest(store, query, TOP)
        assert result.exact == exact
        store.pieces(result.found.ids[:5].tolist())
        return result.found.ids - 1

    return search


def numpy_memmap(folder: Path) -> Search:
    vectors = mapped(folder)

    def search(query: np.ndarray) -> np.ndarray:
        scores = vectors @ query
        best = np.argpartition(scores, -TOP)[-TOP:]
        return best[np.argsort(-scores[best])]

    return search


def mapped(folder: Path) -> np.ndarray:
    return np.memmap(folder / "all.vec", "<f4", mode="r").reshape(-1, np.load(folder / "queries.npy").shape[1])


def faiss_flat(folder: Path) -> Search:
    faiss = library()
    vectors = mapped(folder)
    index = faiss.IndexFlatIP(vectors.shape[1])
    for first in range(0, len(vectors), 16384):
        index.add(np.ascontiguousarray(vectors[first : first + 16384]))
    return lambda query: index.search(query[None], TOP)[1][0]


def faiss_ivf(folder: Path) -> Search:
    faiss = library()
    index = faiss.read_index(str(folder / "ivf.faiss"), faiss.IO_FLAG_MMAP)
    index.nprobe = 32
    return lambda query: index.search(query[None], TOP)[1][0]


def lance(folder: Path) -> Search:
    rows = import_module("lancedb").connect(folder / "lance").open_table("rows")

    def search(query: np.ndarray) -> np.ndarray:
        found = rows.search(query).metric("dot").nprobes(20).refine_factor(10).limit(TOP).to_arrow()
        return np.array(found["id"].to_pylist())

    return search


KINDS: dict[str, tuple[Callable[[Path], Search], str]] = {
    "percept exact": (lambda folder: percept_index(folder, True), "index"),
    "percept approximate": (lambda folder: percept_index(folder, False), "index"),
    "numpy memmap": (numpy_memmap, "all.vec"),
    "faiss flat in memory": (faiss_flat, "all.vec"),
    "faiss IVF,Flat mapped": (faiss_ivf, "ivf.faiss"),
    "lancedb IVF_PQ": (lance, "lance"),
}
"""Name → (function that opens the index, files that it reads)."""


def imported(kind: str) -> None:
    """Import what a kind needs, so that opening does not count it."""
    if kind.startswith("percept"):
        import percept.search.nearest
        import percept.search.store  # noqa: F401
    if kind.startswith("faiss") or kind == "percept approximate":
        library()
    if kind.startswith("lance"):
        import_module("lancedb")


def bandwidth(seconds: float, size: int) -> Callable[[], float]:
    """Return a function that measures bytes per second that all cores together read from memory."""
    from percept.search.scan import in_threads

    numbers = np.ones(size // 8, np.uint64)
    parts = np.array_split(numbers, 64)

    def measure() -> float:
        start, passes = time.perf_counter(), 0
        while not passes or time.perf_counter() - start < seconds:
            in_threads(lambda part: int(np.add.reduce(part)), parts)
            passes += 1
        return passes * numbers.nbytes / (time.perf_counter() - start)

    return measure


def against_bandwidth(search: Search, queries: np.ndarray, size: int) -> dict[str, float]:
    """Compare an exact search with reading as many bytes from memory, in turns."""
    measure = bandwidth(0.3, min(size, 1 << 29))
    ratios, rates = [], []
    measure()
    for query in queries:
        rate = measure()
        start = time.perf_counter()
        search(query)
        ratios.append((time.perf_counter() - start) * rate / size)
        rates.append(rate)
    return {
        "GB/s of memory": round(float(np.median(rates)) / 1e9, 1),
        "times the time of reading": round(float(np.median(ratios)), 2),
    }


def work(kind: str, folder: Path, count: int) -> dict[str, Any]:
    imported(kind)
    queries, truth = np.load(folder / "queries.npy")[:count], np.load(folder / "truth.npy")[:count]
    opening, files = KINDS[kind]
    drop(folder / files)
    before = memory()
    start = time.perf_counter()
    search = opening(folder)
    opened = time.perf_counter()
    search(queries[0])
    first = time.perf_counter()
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    seconds, processor, hits = [], [], 0
    for query, wanted in zip(queries, truth, strict=True):
        begin, used = time.perf_counter(), time.process_time()
        found = search(query)
        seconds.append(time.perf_counter() - begin)
        processor.append(time.process_time() - used)
        hits += len(set(found.tolist()) & set(wanted.tolist()))
    after = memory()
    row: dict[str, Any] = {
        "open s": round(opened - start, 3), "open and first query s": round(first - start, 3), **percentiles(seconds),
        **{f"processor {name}": value for name, value in percentiles(processor).items()},
        "recall@10": round(hits / TOP / len(queries), 4), "queries": len(queries),
        **{f"{name} MB": round(after[name] - before["resident" if name == "peak" else name]) for name in after},
    }  # fmt: skip
    if kind == "percept exact":
        row |= against_bandwidth(search, queries[:15], (folder / "all.vec").stat().st_size)
    return row


if __name__ == "__main__":
    print(json.dumps(work(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))))
