"""Measure how many images per second one core generates with questions, as documents and as views of rooms. Target: 60.

    python benchmarks/world_parts.py                 # prints a table and writes world_parts.json next to this file

One process with one thread, 96 pixels. Documents are also measured at their usual width, at which the text is legible. All
times are processor times of this process, so that other work on the machine changes them little.
"""

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import tyro

from percept.core.io import write_json
from percept.core.machine import device_name
from percept.core.report import out, table, track
from percept.world.documents import DOCUMENTS, generate_document
from percept.world.qa import KINDS, example
from percept.world.rooms import generate_room

TARGET = 60
"""Images per core second."""
SIZE = 96
RESULTS = Path(__file__).with_suffix(".json")


def with_questions(seed: int, *, kind: str, split: str) -> int:
    return len(example(seed, kind=kind, split=split, size=SIZE).images)


def as_document(seed: int, *, kind: str, width: int | None) -> int:
    generate_document(seed, kind=kind, width=width)
    return 1


def of_room(seed: int) -> int:
    return len(generate_room(seed, size=SIZE).views)


CASES: dict[str, Callable[[int], int]] = {
    **{
        f"question, {kind}, {split}": partial(with_questions, kind=kind, split=split)
        for kind in KINDS
        for split in ("train", "evaluation")
    },
    **{f"document, {kind}, 96 pixels": partial(as_document, kind=kind, width=SIZE) for kind in DOCUMENTS},
    **{f"document, {kind}, usual width": partial(as_document, kind=kind, width=None) for kind in DOCUMENTS},
    "room, view": of_room,
}


def measure(generate: Callable[[int], int], first: int, count: int) -> float:
    """Return images per processor second."""
    start = time.process_time()
    images = sum(generate(seed) for seed in range(first, first + count))
    return images / (time.process_time() - start)


def main(samples: int = 40, repeats: int = 3, json_file: Path = RESULTS) -> None:
    """Measure all cases.

    Args:
        samples: Samples per case and repeat.
        repeats: Number of rounds through all cases.
        json_file: Result file.
    """
    start = time.perf_counter()
    for generate in CASES.values():
        generate(0)  # imports, fonts and tables
    speeds: dict[str, list[float]] = {name: [] for name in CASES}
    rounds = [(turn, name) for turn in range(repeats) for name in CASES]
    for turn, name in track(rounds, "drawing", len(rounds)):
        speeds[name].append(measure(CASES[name], 1000 + turn * samples, samples))
    results: list[dict[str, Any]] = [
        {
            "case": name,
            "per core second": round(statistics.median(taken), 1),
            "lowest": round(min(taken), 1),
            "highest": round(max(taken), 1),
        }
        for name, taken in speeds.items()
    ]
    columns = tuple(results[0])
    table("Images", columns, [[row[column] for column in columns] for row in results])
    missed = [row["case"] for row in results if row["per core second"] < TARGET]
    out.print(
        f"target {TARGET} per core second: {'missed by ' + ', '.join(missed) if missed else 'reached by all cases'}"
    )
    about = {
        "command": " ".join(["python", "benchmarks/world_parts.py", *sys.argv[1:]]),
        "python": platform.python_version(),
        "machine": device_name(torch.device("cpu")),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "samples": samples,
        "repeats": repeats,
        "seconds": round(time.perf_counter() - start, 1),
    }
    write_json(json_file, about | {"results": results})
    out.print(f"written: {json_file}", soft_wrap=True)


if __name__ == "__main__":
    tyro.cli(main)
