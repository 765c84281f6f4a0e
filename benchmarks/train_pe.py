"""Measure how much of the matrix-product peak the training of a Perception Encoder uses, and its memory.

    python benchmarks/train_pe.py                    # B and L; prints a table and writes train_pe.json next to this file
    python benchmarks/train_pe.py --compile --batch 512

A step is that of `percept train pe/pretrain` at the last point of the ablation and the full image size: both towers, the contrastive
loss, mask regularisation, backward pass, clipping and LAMB, on random images and texts, so that reading data takes no time. Operations are
those of the model; the second pass of mask regularisation counts, recomputed activations do not. The peak is that of a large matrix
product in the same number type, measured on the same device. Made for a GPU; a CPU takes minutes per step.
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import tyro
from harness import facts, save

from percept.core.errors import PerceptError
from percept.core.machine import matmul_peak, pick_device
from percept.core.report import table
from percept.data.batch import ImageText
from percept.data.source import share
from percept.methods.pretraining.pe import Pretraining
from percept.models.clip import CLIP
from percept.recipes import pe
from percept.recipes.pe_sizes import SIZES
from percept.train.check import rehearse
from percept.train.experiment import Settings
from percept.train.parallel import training_dtype

RESULTS = Path(__file__).with_suffix(".json")
VOCABULARY = 49_408
GOAL = 0.4
"""Share of the peak."""


@dataclass(frozen=True, kw_only=True)
class Noise:
    """A source of random images and texts; every step has the same ones."""

    size: int
    context: int
    vocabulary: int
    batch_size: int
    device: torch.device

    def batch(self, step: int, *, rank: int = 0, world_size: int = 1) -> ImageText:
        """Return the batch of any step."""
        generator = torch.Generator().manual_seed(0)
        image = torch.randn(self.batch_size, 3, self.size, self.size, generator=generator)
        tokens = torch.randint(1, self.vocabulary, (self.batch_size, self.context), generator=generator)
        return ImageText(image=image, tokens=tokens).rows(share(self.batch_size, rank, world_size)).to(self.device)


def measured(size: str, settings: Settings, steps: int) -> dict[str, Any]:
    """Return speed and memory of the training of one size."""
    device = pick_device(settings.device)
    config = pe.Config(size=size, progressive=False, double_batch=False, settings=settings)  # type: ignore[arg-type]
    text = SIZES[size].model.text
    assert text is not None
    vocabulary = VOCABULARY if not SIZES[size].own_vocabulary else text.vocabulary
    noise = Noise(
        size=config.sides()[-1], context=text.context, vocabulary=vocabulary, batch_size=settings.batch, device=device
    )  # fmt: skip
    run = replace(
        pe.recipe(config, name=f"pe/pretrain {size}"),
        source=lambda place: noise,
        task=lambda place: Pretraining(config.training(place), CLIP(config.model(vocabulary))),
        stages={},
    )
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    found = rehearse(run, steps=steps)
    dtype, _ = training_dtype(settings.dtype, device, torch.nn.Linear(1, 1))
    return {
        "size": size,
        "pixels": noise.size,
        "batch": settings.batch,
        "number type": str(dtype).removeprefix("torch."),
        "samples/s": float(f"{found.samples_per_second:.4g}"),
        "TFLOP/s": float(f"{found.share_of_peak * matmul_peak(device, dtype) / 1e12:.3g}"),
        "share of peak": round(found.share_of_peak, 4),
        "memory GiB": round(found.memory / 2**30, 3),
        "steps left out": found.skipped,
    }


def main(
    sizes: tuple[str, ...] = ("B", "L"),
    batch: int = 256,
    steps: int = 20,
    compile: bool = False,
    checkpointing: bool = False,
    dtype: str = "auto",
    device: str = "auto",
    json_file: Path = RESULTS,
) -> None:
    """Measure the training of some sizes.

    Args:
        sizes: Sizes of pe/pretrain: pico, nano, T, S, B, L or G.
        batch: Samples per step.
        steps: Steps of each size; the first one is not measured.
        compile: Compile the blocks with torch.compile.
        checkpointing: Recompute the activations of blocks in the backward pass.
        dtype: auto, float32 or bfloat16.
        device: auto, cpu, cuda or mps.
        json_file: Result file, written anew after each size.
    """
    if unknown := set(sizes) - SIZES.keys():
        raise PerceptError(f"unknown sizes: {', '.join(sorted(unknown))}. Use {', '.join(SIZES)}.")
    if steps < 2:
        raise PerceptError(f"steps must be at least 2, got {steps}. The first step is not measured.")
    start = time.perf_counter()
    settings = Settings(
        steps=1_000, batch=batch, learning_rate=5e-4, warmup=100, compile=compile, checkpointing=checkpointing,
        dtype=dtype, device=device,
    )  # fmt: skip
    rows: list[dict[str, Any]] = []
    for size in sizes:
        rows.append(measured(size, settings, steps))
        save(json_file, facts(pick_device(device), start) | {"goal": GOAL, "steps": steps, "results": rows})
    cells = [tuple(str(value) for value in row.values()) for row in rows]
    table(f"Training of a Perception Encoder, goal {GOAL:.0%} of the peak", tuple(rows[0]), cells)


if __name__ == "__main__":
    tyro.cli(main)
