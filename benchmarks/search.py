"""Measure search in an index of 10,000, 100,000 and 1,000,000 vectors of 512 numbers, beside what else one could use.

    python benchmarks/search.py                                # 10,000 and 100,000; writes search.json
    python benchmarks/search.py --sizes 1000000                # 2.5 GB of vectors, 8 GB on disk for a while, some 20 minutes

Vectors are clustered, queries are vectors that are not in the index, and the truth is an exact search. Every kind of index is
opened in a process of its own with cold files (`search_workers.py`). Processor time is given too: on a busy machine the clock measures
the others. The command is compared with the same command on an index
of 100 vectors, in turns; the difference is the cost of the size. Goals at 1,000,000 on two cores: the command at most 0.3 s more
with cold files, exact at most 1.5 times the time of reading the vectors from memory, approximate p95 at most 10 ms at a
recall of 0.95, resident memory at most 20 % of the vectors.
"""

import json
import math
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from harness import Rate, facts, save
from search_workers import KINDS, TOP, drop, percentiles

from percept.core.report import out, table
from percept.data.tokenizers import Tokenizer
from percept.data.transforms import Preprocess
from percept.infer.load import load
from percept.models.clip import CLIP
from percept.models.config import ClipConfig, TextConfig, VisionConfig
from percept.search.approximate import library, refresh_approximate
from percept.search.contracts import stamp_of
from percept.search.scan import scan
from percept.search.store import FileState, NewContent, Store
from percept.weights.folder import save_folder

RESULTS = Path(__file__).with_suffix(".json")
DIM, NOISE, QUERIES, BATCH = 512, 0.9, 100, 8192
EXACT_QUERIES = 25
"""Queries of the kinds that read every vector."""
EXHAUSTIVE = ("percept exact", "numpy memmap", "faiss flat in memory")
IVF, LANCE = "faiss IVF,Flat mapped", "lancedb IVF_PQ"
MOST_LANCE = 100_000
"""Largest size at which lancedb is measured; its index takes minutes per 100,000 vectors to build."""


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def clustered(count: int, centres: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw unit vectors around centres, with noise of 0.9 times their length."""
    rows = centres[rng.integers(0, len(centres), count)]
    rows += rng.standard_normal((count, DIM), np.float32) * np.float32(NOISE / math.sqrt(DIM))
    return unit(rows)


def model(folder: Path) -> Path:
    """Write a small model with random weights whose vectors have 512 numbers, so that a command's time is not the model's."""
    tokenizer = Tokenizer.train(["a picture of a red cup", "a dog to the left of a cat"], vocab_size=290, context=16)
    vision = VisionConfig(
        image_size=32, patch_size=8, width=64, layers=2, heads=2, pool_heads=2, pool="attention", norm_post=True,
        output_dim=DIM,
    )  # fmt: skip
    text = TextConfig(context=16, vocabulary=tokenizer.vocab_size, width=64, layers=2, heads=2, output_dim=DIM)
    torch.manual_seed(0)
    clip = CLIP(ClipConfig(vision=vision, text=text)).eval()
    save_folder(folder, clip, name="random", preprocess=Preprocess(size=32), tokenizer=tokenizer)
    return folder


def batches(count: int, centres: np.ndarray, rng: np.random.Generator) -> Iterator[tuple[int, np.ndarray]]:
    for first in range(0, count, BATCH):
        yield first, clustered(min(BATCH, count - first), centres, rng)


def fill(folder: Path, count: int, model_folder: Path) -> dict[str, Any]:
    """Write an index, the same vectors as one plain file, and queries with their true neighbours; return build times."""
    rng = np.random.default_rng(0)
    centres = unit(rng.standard_normal((max(100, min(10_000, count // 100)), DIM), np.float32))
    encoder = load(str(model_folder))
    seconds = 0.0
    with Store.create(folder / "index", encoder, stamp=stamp_of(encoder, str(model_folder))) as store:
        with (folder / "all.vec").open("wb") as plain:
            for first, vectors in batches(count, centres, rng):
                plain.write(vectors.tobytes())
                start = time.perf_counter()
                store.add(*_rows(first, vectors))
                seconds += time.perf_counter() - start
        queries = clustered(QUERIES, centres, rng)
        np.save(folder / "queries.npy", queries)
        np.save(folder / "truth.npy", np.stack([scan(store.segments(), query, TOP).ids - 1 for query in queries]))
        plan = refresh_approximate(store, always=True)
    sizes = {part: _size(folder / "index" / part) for part in ("segments", "ann", "index.sqlite")}
    described = {"lists": plan.lists, "probes": plan.probes, "build s": plan.seconds} if plan else {}
    return {"store.add s": round(seconds, 1), "approximate index": described, "MB on disk": sizes}


def _rows(first: int, vectors: np.ndarray) -> tuple[list[NewContent], list[FileState]]:
    names = [f"{number:09d}" for number in range(first, first + len(vectors))]
    contents = [
        NewContent(hash=name, kind="image", width=640, height=480, vectors=vector[None])
        for name, vector in zip(names, vectors, strict=True)
    ]
    paths = [Path(f"/photographs/{name[:6]}/{name}.jpg") for name in names]
    return contents, [
        FileState(path=path, bytes=1, modified=0, hash=name) for path, name in zip(paths, names, strict=True)
    ]


def _size(place: Path) -> float:
    files = [place] if place.is_file() else [*place.rglob("*")]
    return round(sum(file.stat().st_size for file in files) / 1e6, 1)


def baseline_ivf(folder: Path) -> dict[str, Any]:
    faiss = library()
    vectors = np.memmap(folder / "all.vec", "<f4", mode="r").reshape(-1, DIM)
    start, lists = time.perf_counter(), round(4 * math.sqrt(len(vectors)))
    index = faiss.index_factory(DIM, f"IVF{lists},Flat", faiss.METRIC_INNER_PRODUCT)
    index.cp.niter, index.cp.min_points_per_centroid = 8, 1
    rows = np.sort(np.random.default_rng(0).choice(len(vectors), min(len(vectors), 40 * lists), replace=False))
    index.train(np.array(vectors[rows]))
    for first in range(0, len(vectors), 16384):
        index.add(np.ascontiguousarray(vectors[first : first + 16384]))
    faiss.write_index(index, str(folder / "ivf.faiss"))
    return {"lists": lists, "probes": 32, "build s": round(time.perf_counter() - start, 1)}


LANCE_PROGRAM = """
import sys, time, numpy as np, lancedb, pyarrow as pa
folder, dim = sys.argv[1], int(sys.argv[2])
rows = np.fromfile(folder + "/all.vec", "<f4").reshape(-1, dim)
vectors = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), dim)
start = time.perf_counter()
made = lancedb.connect(folder + "/lance").create_table("rows", pa.table({"id": np.arange(len(rows)), "vector": vectors}))
made.create_index(metric="dot", vector_column_name="vector")
print(round(time.perf_counter() - start, 1))
"""


def worker(kind: str, folder: Path, python: str) -> dict[str, Any]:
    count = EXACT_QUERIES if kind in EXHAUSTIVE else QUERIES
    program = [python, str(Path(__file__).with_name("search_workers.py")), kind, str(folder), str(count)]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1]}
    return json.loads(done.stdout.splitlines()[-1])


def command(index: Path, cold: bool) -> Rate:
    """Return the seconds of `percept search` in a fresh process, with the files of the index out of the cache if `cold`."""
    if cold:
        drop(index)
    program = [sys.executable, "-m", "percept", "search", "a red cup", "--index", str(index), "--out", "-"]
    start, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    seconds, now = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    assert len(done.stdout.splitlines()) == 5
    return Rate(seconds, now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime)


def commands(index: Path, small: Path, turns: int) -> dict[str, Any]:
    """Time the command on an index and on a small one, in turns."""
    rows: dict[str, Any] = {}
    command(small, False)
    for name, cold in (("cold", True), ("warm", False)):
        pairs = [(command(index, cold), command(small, cold)) for _ in range(turns)]
        rows[name] = {
            **percentiles([pair[0].clock for pair in pairs]),
            "small index p50 ms": round(1e3 * statistics.median(pair[1].clock for pair in pairs)),
            "more than the small one, median s": round(statistics.median(a.clock - b.clock for a, b in pairs), 3),
            "more processor s, median": round(statistics.median(a.processor - b.processor for a, b in pairs), 3),
            "turns": turns,
        }
    return rows


def measure(
    size: int, folder: Path, lance_python: str | None, turns: int, libraries: tuple[str, ...]
) -> dict[str, Any]:
    folder.mkdir(parents=True)
    (folder / "small").mkdir()
    place = model(folder / "model")
    out.print(f"{size:,}: writing")
    fill(folder / "small", 100, place)
    built = fill(folder, size, place)
    result: dict[str, Any] = {"vectors": size, "MB": round(4e-6 * DIM * size), "index": built, "libraries": {}}
    result["command"] = commands(folder / "index", folder / "small" / "index", turns)
    pythons = dict.fromkeys(libraries, sys.executable)
    if IVF in pythons:
        result[IVF] = baseline_ivf(folder)
    if LANCE in pythons and (lance_python is None or size > MOST_LANCE):
        del pythons[LANCE]
    elif lance_python is not None and LANCE in pythons:
        program = [lance_python, "-c", LANCE_PROGRAM, str(folder), str(DIM)]
        done = subprocess.run(program, capture_output=True, text=True, check=False)
        result[LANCE] = {"build s": float(done.stdout)} if not done.returncode else {"failed": done.stderr[-300:]}
        pythons[LANCE] = lance_python
    for kind, python in pythons.items():
        result["libraries"][kind] = worker(kind, folder, python)
        out.print(f"{size:,} {kind}: {result['libraries'][kind]}", soft_wrap=True)
    return result


def main(
    sizes: tuple[int, ...] = (10_000, 100_000),
    folder: Path | None = None,
    lance_python: str | None = None,
    turns: int = 7,
    libraries: tuple[str, ...] = tuple(KINDS),
    json_file: Path | None = RESULTS,
) -> None:
    """Measure search.

    Args:
        sizes: Numbers of vectors.
        folder: Folder for the indexes, emptied afterwards; default: a temporary one.
        lance_python: Interpreter of an environment with lancedb and pyarrow; without it lancedb is left out.
        turns: Runs of the command, cold and warm.
        libraries: Kinds of index to measure.
        json_file: Result file; sizes that are measured replace those it holds.
    """
    start = time.perf_counter()
    known = json.loads(json_file.read_text())["sizes"] if json_file is not None and json_file.exists() else {}
    for size in sizes:
        place = Path(tempfile.mkdtemp(prefix="search-", dir=folder))
        try:
            known[str(size)] = measure(size, place / "run", lance_python, turns, libraries)
        finally:
            shutil.rmtree(place)
        known[str(size)]["run"] = {**facts(torch.device("cpu"), start), "cores": os.cpu_count()}
        show(known[str(size)])
        save(json_file, {"sizes": dict(sorted(known.items(), key=lambda item: int(item[0])))})


def show(result: dict[str, Any]) -> None:
    columns = (
        "open s",
        "open and first query s",
        "p50 ms",
        "p95 ms",
        "recall@10",
        "resident MB",
        "private MB",
        "peak MB",
    )
    rows = [(kind, *(str(row.get(name, "")) for name in columns)) for kind, row in result["libraries"].items()]
    table(f"{result['vectors']:,} vectors, {result['MB']:,} MB", ("library", *columns), rows)
    for name, row in result["command"].items():
        out.print(f"percept search, {name} files: {row}", soft_wrap=True)


if __name__ == "__main__":
    tyro.cli(main)
