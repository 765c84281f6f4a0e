"""Measure the start-up time of a command as a multiple of `import torch`.

    python benchmarks/startup.py                     # prints a table and writes startup.json

Each row is a fresh process; the rows take turns and the medians are compared. Goals: importing everything that `percept
classify` needs costs at most 0.5 x `import torch` on top of it, and loading nano and encoding a first image at most 0.5 x more.
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
import tyro
from harness import facts, save

from percept.core.report import out, table

RESULTS = Path(__file__).with_suffix(".json")
GOAL = 0.5
PROGRAM = """
import time
start = time.perf_counter()
import torch
torch.empty(1)
after_torch = time.perf_counter()
import tyro
import percept.cli.classify, percept.data.files, percept.infer.clips, percept.infer.labels, percept.infer.load
after_import = time.perf_counter()
import numpy
percept.infer.load.load("nano").image([numpy.zeros((64, 64, 3), "uint8")])
after_image = time.perf_counter()
print(after_torch - start, after_import - after_torch, after_image - after_import)
"""
ROWS = ("import torch", "import everything classify needs", "load nano and encode an image")


def run() -> list[float]:
    """Return the seconds of each row in a fresh process."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    return [float(word) for word in done.stdout.split()]


def main(repeats: int = 7, json_file: Path | None = RESULTS) -> None:
    """Measure start-up.

    Args:
        repeats: Number of measured processes, after one that warms up the file cache.
        json_file: Result file.
    """
    start = time.perf_counter()
    run()
    runs = [run() for _ in range(repeats)]
    medians = [statistics.median(row) for row in zip(*runs, strict=True)]
    ratios = [statistics.median(seconds[place] / seconds[0] for seconds in runs) for place in range(3)]
    rows = [(name, seconds, ratio) for name, seconds, ratio in zip(ROWS, medians, ratios, strict=True)]
    table("Start-up", ("step", "seconds", "x import torch"), rows)
    for name, ratio in zip(ROWS[1:], ratios[1:], strict=True):
        out.print(f"goal: {name} at most {GOAL} x import torch; {ratio:.2f}: {'met' if ratio <= GOAL else 'MISSED'}")
    result = [{"step": name, "seconds": round(seconds, 3), "ratio": round(ratio, 3)} for name, seconds, ratio in rows]
    save(json_file, facts(torch.device("cpu"), start) | {"repeats": repeats, "results": result})


if __name__ == "__main__":
    tyro.cli(main)
