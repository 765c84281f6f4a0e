"""Measure the training speed of nano as a share of this machine's matrix-product peak, and compare it with two plain ways.

    python benchmarks/train_speed.py                 # prints a table and writes train_speed.json next to this file

A step consists of both towers, losses, backward pass, clipping, Muon and AdamW, on random batches of the sizes of the recipe.
Three ways take turns, so that other work on the machine affects all of them:
    percept    bfloat16, if the machine computes it fast, with the faster layers of `percept.fast`
    float32    the same layers with float32 weights
    fused      bfloat16 with the plain layers, which use scaled_dot_product_attention as the public code does
The share of the peak counts the operations of the model only: its matrix products in the forward pass, and twice as many in
the backward pass. The peak is that of a product of large matrices in the same number type, measured between the turns.
"""

import os
import statistics
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import tyro

from percept.core.io import write_json
from percept.core.machine import device_name, fast_dtype, keep_freed_memory, matmul_peak, pick_device
from percept.core.report import out, table, track
from percept.fast import adopt
from percept.methods.pretraining import nano
from percept.models.clip import CLIP
from percept.optim.build import build_optimisers
from percept.optim.master import MasterWeights
from percept.optim.rules import parameter_groups
from percept.recipes import pe_nano
from percept.train import meters
from percept.train.parallel import placed
from percept.world.batch import WorldBatch

RESULTS = Path(__file__).with_suffix(".json")
RATE = 1e-4


@dataclass
class Way:
    """One way to compute a training step."""

    dtype: torch.dtype
    model: nano.Pretraining
    optimiser: MasterWeights

    def step(self, batch: WorldBatch) -> None:
        """Take one whole step."""
        self.model(batch)["loss"].backward()
        self.optimiser.step(1.0, norm=self.optimiser.collect(), clip=1.0)

    def seconds(self, batch: WorldBatch, steps: int, device: torch.device) -> float:
        """Return the seconds of some steps, including the queued work of the device."""
        start = time.perf_counter()
        for _ in range(steps):
            self.step(batch)
        if device.type != "cpu":
            torch.get_device_module(device).synchronize(device)
        return time.perf_counter() - start


def way(config: pe_nano.Config, device: torch.device, dtype: torch.dtype, *, fast: bool) -> Way:
    torch.manual_seed(0)
    clip = CLIP(pe_nano.clip_config(config, config.vocabulary))
    method = nano.Config(contrary_weight=1.0, micro_tokens=pe_nano.CPU_TOKENS)
    model = nano.Pretraining(method, clip, torch.ones(config.vocabulary))
    placed(model, device, dtype, shard=False)
    if fast:
        adopt(model, pack=False)
    groups = parameter_groups(model, rate=RATE, weight_decay=config.settings.weight_decay)
    build = partial(build_optimisers, name=config.settings.optimiser, betas=config.settings.betas)
    return Way(dtype, model, MasterWeights(groups, build))


def made_up(config: pe_nano.Config, size: int, batch: int) -> WorldBatch:
    """Return random images and random texts, of the lengths of captions of the world."""
    ids = torch.zeros(batch, config.context, dtype=torch.int64)
    for row in range(batch):
        end = 6 + (row * 7) % (config.context * 2 // 3)
        ids[row, :end] = torch.randint(1, config.vocabulary - 2, (end,))
        ids[row, end] = config.vocabulary - 1
    return WorldBatch(image=torch.randn(batch, 3, size, size), tokens=ids, words=ids)


def operations(config: pe_nano.Config, batch: WorldBatch, device: torch.device) -> float:
    """Return the operations of the model per sample, averaged over some texts, counted with the plain layers."""
    plain = way(config, device, torch.float32, fast=False)
    counts = []
    for row in range(0, len(batch), max(1, len(batch) // 8)):
        with torch.no_grad():
            forward = meters.operations(partial(plain.model, batch.rows(slice(row, row + 1))))
        counts.append(3 * forward)
    return statistics.mean(counts)


def main(
    batch: int = 128,
    repeats: int = 5,
    steps: int = 2,
    sizes: tuple[int, ...] = (48, 64, 96),
    device: str = "auto",
    json_file: Path = RESULTS,
) -> None:
    """Measure all ways at all sizes.

    Args:
        batch: Samples per step.
        repeats: Number of turns at every size.
        steps: Steps per turn.
        sizes: Sides of the images in pixels. Default: the stages of the recipe.
        device: auto, cpu, cuda or mps.
        json_file: Result file.
    """
    keep_freed_memory()
    start = time.perf_counter()
    place, config = pick_device(device), pe_nano.Config()
    dtype, reason = fast_dtype(place)
    ways = {
        "percept": way(config, place, dtype, fast=True),
        "float32": way(config, place, torch.float32, fast=True),
        "fused": way(config, place, torch.bfloat16, fast=False),
    }
    results = []
    for size in sizes:
        results += measured(ways, config, size, batch=batch, repeats=repeats, steps=steps, device=place)
    show(f"Training nano: batch {batch}, {place}, {torch.get_num_threads()} threads", results)
    about = {
        "command": " ".join(["python", "benchmarks/train_speed.py", *sys.argv[1:]]),
        "torch": torch.__version__,
        "machine": device_name(place),
        "device": str(place),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2),
        "number type of percept": f"{dtype}: {reason}",
        "seed": 0,
        "batch": batch,
        "repeats": repeats,
        "steps": steps,
        "seconds": round(time.perf_counter() - start, 1),
    }
    write_json(json_file, about | {"results": results})
    out.print(f"written: {json_file}", soft_wrap=True)


def show(title: str, results: list[dict[str, Any]]) -> None:
    """Print one row per size and way."""
    columns = ("pixels", "way", "samples/s", "range", "share of peak", "percept is faster by")
    rows = [
        (
            row["pixels"], row["way"], f"{row['samples/s']:.3g}", f"{row['lowest']:.3g} to {row['highest']:.3g}",
            f"{row['share of peak']:.1%}", f"{row['percept is faster by']:.2f} x",
        )
        for row in results
    ]  # fmt: skip
    table(title, columns, rows)


def significant(value: float) -> float:
    """Round to four significant digits."""
    return float(f"{value:.4g}")


def measured(
    ways: dict[str, Way],
    config: pe_nano.Config,
    size: int,
    *,
    batch: int,
    repeats: int,
    steps: int,
    device: torch.device,
) -> list[dict[str, Any]]:
    """Measure all ways at one size, taking turns."""
    samples = made_up(config, size, batch)
    work = operations(config, samples.to(device).first(64), device)
    inputs = {name: samples.to(device, way.dtype) for name, way in ways.items()}
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    peaks: dict[torch.dtype, list[float]] = {way.dtype: [] for way in ways.values()}
    for turn in track(range(repeats + 1), f"{size} pixels", repeats + 1):
        for dtype, rates in peaks.items():
            rates.append(matmul_peak.__wrapped__(device, dtype, seconds=0.2))
        for name in sorted(ways, key=lambda name: (list(ways).index(name) + turn) % len(ways)):
            taken = ways[name].seconds(inputs[name], steps, device)
            if turn:  # the first turn warms up
                speeds[name].append(steps * batch / taken)
    rows = []
    for name, measured_speeds in speeds.items():
        ratios = [ours / theirs for ours, theirs in zip(speeds["percept"], measured_speeds, strict=True)]
        speed = statistics.median(measured_speeds)
        rows.append(
            {
                "pixels": size,
                "way": name,
                "samples/s": significant(speed),
                "lowest": significant(min(measured_speeds)),
                "highest": significant(max(measured_speeds)),
                "share of peak": significant(speed * work / max(peaks[ways[name].dtype])),
                "percept is faster by": significant(statistics.median(ratios)),
                "peak": max(peaks[ways[name].dtype]),
            }
        )
    return rows


if __name__ == "__main__":
    tyro.cli(main)
