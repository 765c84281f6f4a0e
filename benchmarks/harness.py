"""Helpers of the benchmarks: timed turns, the matrix-product peak measured with them, and the result file.

Absolute times are not comparable on a shared machine: the same bfloat16 product of 2048 x 2048 took 2.5 times as long in one second as
in the next (docs/notes.md). The cases of a benchmark therefore take turns, and each turn is compared with a matrix product that
was timed immediately before it.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from percept.core.io import write_json
from percept.core.machine import device_name, peak_side, wait
from percept.core.report import out

BURST_SECONDS, MAX_PASSES = 0.4, 1000
"""Duration of a burst of passes in seconds, and the largest number of passes in a burst."""
MAX_TURNS = 100


@dataclass(frozen=True)
class Rate:
    """Seconds of one pass, or operations per second, in wall-clock and in processor time."""

    clock: float
    processor: float


def timed(job: Callable[[], Any], device: torch.device, passes: int = 1) -> Rate:
    """Run `job` `passes` times and return the mean seconds of one pass."""
    wait(device)
    clock, processor = time.perf_counter(), time.process_time()
    for _ in range(passes):
        job()
    wait(device)
    return Rate((time.perf_counter() - clock) / passes, (time.process_time() - processor) / passes)


def burst(seconds: float) -> int:
    """Return how many passes of `seconds` each fill one burst."""
    return max(1, min(MAX_PASSES, round(BURST_SECONDS / seconds)))


@dataclass
class Times:
    """Seconds per pass of one case, one entry per turn, and the peaks measured immediately before."""

    passes: list[Rate] = field(default_factory=list)
    peaks: list[Rate] = field(default_factory=list)

    @property
    def clock(self) -> list[float]:
        """Wall-clock seconds."""
        return [rate.clock for rate in self.passes]

    def summary(self) -> dict[str, Any]:
        """Return medians, and the range of wall-clock time."""
        return {
            "clock s": round(statistics.median(self.clock), 6),
            "lowest s": round(min(self.clock), 6),
            "highest s": round(max(self.clock), 6),
            "processor s": round(statistics.median(rate.processor for rate in self.passes), 6),
            "turns": len(self.passes),
        }

    def share_of_peak(self, work: float) -> float:
        """Return the median over the turns of work / seconds / peak, for `work` floating-point operations per pass."""
        pairs = zip(self.passes, self.peaks, strict=True)
        return round(statistics.median(work / rate.clock / peak.clock for rate, peak in pairs), 4)

    def speedup_over(self, baseline: "Times") -> float:
        """Return the median over the turns of baseline seconds / own seconds."""
        return round(statistics.median(a / b for a, b in zip(baseline.clock, self.clock, strict=True)), 3)


class Peaks:
    """The matrix-product peak of each number type; `best` is the best rate of the run in operations per second."""

    def __init__(
        self, device: torch.device, layers: Callable[[torch.nn.Linear], torch.nn.Module] | None = None
    ) -> None:
        """Prepare the products. `layers` returns a faster form of a linear layer, which is measured for the peak too."""
        self.device, self.size, self._faster = device, peak_side(device), layers
        self.best: dict[torch.dtype, float] = {}
        self._jobs: dict[torch.dtype, list[Callable[[], Any]]] = {}

    @torch.no_grad()
    def measure(self, dtype: torch.dtype) -> Rate:
        """Multiply large matrices a few times; return the rate of the fastest product in operations per second."""
        rates = []
        for job in self._prepared(dtype):
            first = timed(job, self.device)  # warms up
            passes = 1 if self.device.type == "cpu" else burst(first.clock)
            rates += [timed(job, self.device, passes) for _ in range(3)]
        work = 2 * self.size**3
        peak = Rate(work / min(rate.clock for rate in rates), work / max(min(rate.processor for rate in rates), 1e-9))
        self.best[dtype] = max(self.best.get(dtype, 0.0), peak.clock)
        return peak

    def _prepared(self, dtype: torch.dtype) -> list[Callable[[], Any]]:
        if dtype not in self._jobs:
            matrix = torch.randn(self.size, self.size, device=self.device).to(dtype)
            self._jobs[dtype] = [lambda: matrix @ matrix]
            if self._faster is not None:
                layer = self._faster(torch.nn.Linear(self.size, self.size, dtype=dtype, device=self.device))
                self._jobs[dtype].append(lambda: layer(matrix))
        return self._jobs[dtype]


@dataclass(frozen=True)
class Turns:
    """At least `repeats` turns, and more until `span` seconds have passed, up to `MAX_TURNS`."""

    repeats: int
    span: float = 0.0

    def __iter__(self) -> Iterator[int]:
        """Yield the number of each turn."""
        start, turn = time.perf_counter(), 0
        while turn < self.repeats or (time.perf_counter() - start < self.span and turn < MAX_TURNS):
            yield turn
            turn += 1


def take_turns(
    jobs: dict[str, Callable[[int], Rate]], turns: Turns, peak: Callable[[str], Rate] | None = None
) -> dict[str, Times]:
    """Time every job once per turn, after two passes to warm up.

    Args:
        jobs: name → function of the number of passes that returns the rate of one pass.
        turns: the turns.
        peak: function of a job's name that measures the peak to compare it with; no peak if None.
    """
    passes = {name: burst(min(job(1).clock, job(1).clock)) for name, job in jobs.items()}
    times = {name: Times() for name in jobs}
    for _ in turns:
        for name, job in jobs.items():
            if peak is not None:
                times[name].peaks.append(peak(name))
            times[name].passes.append(job(passes[name]))
    return times


def facts(device: torch.device, start: float) -> dict[str, Any]:
    """Return the description of a run for its result file: command, versions, machine, threads, load, seconds."""
    words = [Path(word).name if os.path.isabs(word) else word for word in sys.argv]
    return {
        "command": " ".join(["python", f"benchmarks/{Path(words[0]).name}", *words[1:]]),
        "torch": torch.__version__,
        "machine": device_name(device),
        "device": str(device),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2),
        "seed": 0,
        "seconds": round(time.perf_counter() - start, 1),
    }


def save(file: Path | None, content: dict[str, Any]) -> None:
    """Write a result file and print its path; None writes nothing."""
    if file is None:
        out.print("nothing written: give --json-file")
        return
    write_json(file, content)
    out.print(f"written: {file}", soft_wrap=True)
