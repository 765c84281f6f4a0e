"""Measure how many images of the labelled world, each with a caption, one core generates per second. Target: 300 at 96 pixels.

    python benchmarks/world_speed.py                 # prints a table and writes world_speed.json next to this file

One process with one thread. "per core second" is relative to the processor time of this process, so that other work on the
machine changes it little; "per second" is relative to wall-clock time.
"""

import os
import platform
import random
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
import tyro

from percept.core.io import write_json
from percept.core.machine import device_name
from percept.core.report import out, table, track
from percept.core.seed import derive
from percept.world import generate, short_caption

TARGET = 300
"""Images per core second at 96 pixels, without ground truth."""
RESULTS = Path(__file__).with_suffix(".json")
CASES = tuple((style, truth) for style in ("plain", "mixed") for truth in (False, True))


def draw(first: int, count: int, *, style: str, truth: bool, size: int) -> tuple[float, float]:
    """Generate images with one caption each; return processor seconds and wall-clock seconds."""
    processor, clock = time.process_time(), time.perf_counter()
    for seed in range(first, first + count):
        rendering = generate(seed, style=style, truth=truth, size=size)
        short_caption(rendering.scene, random.Random(derive(seed, "caption")))
    return time.process_time() - processor, time.perf_counter() - clock


def main(
    images: int = 300,
    repeats: int = 5,
    size: int = 96,
    json_file: Path = RESULTS,
) -> None:
    """Measure all styles, with and without ground truth.

    Args:
        images: Images per case and repeat.
        repeats: Number of rounds through all cases.
        size: Side of the images in pixels.
        json_file: Result file.
    """
    start = time.perf_counter()
    draw(0, 30, style="mixed", truth=True, size=size)  # imports, fonts and tables
    rounds = [(turn, case) for turn in range(repeats) for case in CASES]
    taken: dict[tuple[str, bool], list[tuple[float, float]]] = {case: [] for case in CASES}
    for turn, case in track(rounds, "drawing", len(rounds)):
        style, truth = case
        taken[case].append(draw(1000 + turn * images, images, style=style, truth=truth, size=size))
    results = [figures(case, taken[case], images) for case in CASES]
    columns = ("style", "truth", "images", "per core second", "lowest", "highest", "per second")
    shown = [[round(cell) if isinstance(cell, float) else cell for cell in map(row.get, columns)] for row in results]
    table(f"Images of {size} pixels with one caption", columns, shown)
    best = next(row for row in results if row["style"] == "plain" and not row["truth"])["per core second"]
    out.print(f"target {TARGET} per core second: {'reached' if best >= TARGET else 'missed'} ({best:.0f})")
    about = {
        "command": " ".join(["python", "benchmarks/world_speed.py", *sys.argv[1:]]),
        "python": platform.python_version(),
        "machine": device_name(torch.device("cpu")),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "seeds": [1000, 1000 + repeats * images - 1],
        "repeats": repeats,
        "size": size,
        "seconds": round(time.perf_counter() - start, 1),
    }
    write_json(json_file, about | {"results": results})
    out.print(f"written: {json_file}", soft_wrap=True)


def figures(case: tuple[str, bool], taken: list[tuple[float, float]], images: int) -> dict[str, Any]:
    """Summarise the repeats of one case: medians, and the range."""
    speeds = [images / processor for processor, _ in taken]
    return {
        "style": case[0],
        "truth": case[1],
        "images": images * len(taken),
        "per core second": round(statistics.median(speeds), 1),
        "lowest": round(min(speeds), 1),
        "highest": round(max(speeds), 1),
        "per second": round(statistics.median(images / clock for _, clock in taken), 1),
    }


if __name__ == "__main__":
    tyro.cli(main)
