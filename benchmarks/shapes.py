"""Compare how fast a tower learns categories with Muon and with AdamW, with an equal budget and several seeds.

    python benchmarks/shapes.py                 # prints a table and writes shapes.json next to this file

Every run trains the image tower of `pe/nano` from scratch on windows around single things. The labels are the words of their
names, and the category and colour of every patch; only optimiser, learning rate and seed differ. Measured on windows of the
validation split: the cross-entropy of the words of the category, and the share of windows whose category has the most
probable words.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import tyro
from torch import Tensor, nn

from percept.core.io import write_json
from percept.core.machine import device_name, pick_device
from percept.core.report import out, table
from percept.data.source import Source
from percept.data.tokenizers import Tokenizer
from percept.losses.words import word_loss, word_targets
from percept.methods.pretraining import nano
from percept.recipes import pe_nano
from percept.train import Experiment, Placement, fit
from percept.world import CATEGORIES, generate, regions
from percept.world.language import article
from percept.world.patches import ids_of

RESULTS = Path(__file__).with_suffix(".json")
WAYS = (("adamw", 3e-4), ("adamw", 1e-3), ("adamw", 3e-3), ("muon", 1e-3))
"""Optimiser and learning rate."""


def validation(windows: int) -> tuple[Tensor, list[str]]:
    """Return windows [n, 3, 48, 48] in [-1, 1] and the names of their categories."""
    images, ids, boxes, names, seed = [], [], [], [], 0
    while len(names) < windows:
        rendering = generate(seed, split="validation")
        for box, texts in regions.regions_of(rendering):
            images.append(rendering.image)
            ids.append(ids_of(rendering))
            boxes.append(box)
            names.append(texts[0])
        seed += 1
    where = regions.windows(np.array(boxes[:windows], np.float32), 0.5, np.random.default_rng(0))
    image, numbered = (torch.from_numpy(np.stack(arrays[:windows])) for arrays in (images, ids))
    shown, _ = regions.cut(image.permute(0, 3, 1, 2), numbered, where, 48)
    return shown.float() / 127.5 - 1, names[:windows]


def made(optimiser: str, rate: float, seed: int, *, steps: int, batch: int, pairs: int) -> Experiment:
    """Return a run of one stage, windows with words as labels."""
    config = pe_nano.Config()
    settings = replace(
        config.settings, steps=steps, batch=batch, seed=seed, optimiser=optimiser, learning_rate=rate,
        warmup=max(1, steps // 5), hold=0, log_every=max(1, steps // 4),
    )  # fmt: skip
    data = replace(config.data, pairs=pairs, region_weights=(1.0, 0.0, 0.0))
    return pe_nano.recipe(replace(config, settings=settings, data=data, stages=(("words", 48, 1.0, 1.0),)))


def trained(experiment: Experiment) -> tuple[nano.Pretraining, Tokenizer]:
    """Run an experiment and return the task and the tokenizer of its source."""
    results: list[Any] = []

    def source(place: Placement) -> Source:
        made = experiment.source(place)
        results.append(cast(Any, made).tokenizer)
        return made

    def save(folder: Path, task: nn.Module, totals: dict[str, Any]) -> None:
        results.append(task)

    with tempfile.TemporaryDirectory() as folder:
        fit(replace(experiment, source=source, save=save), folder)
    tokenizer, task = results
    return task, tokenizer


@torch.no_grad()
def judged(model: nano.Pretraining, tokenizer: Tokenizer, windows: Tensor, names: Sequence[str]) -> tuple[float, float]:
    """Return the cross-entropy of the words of the categories and the share of correct categories."""
    model.eval()
    kinds = [article(name) for name in CATEGORIES]
    weights = model.weights.cpu().float()
    by_kind = word_targets(tokenizer(kinds), weights)
    first = next(model.head.parameters())
    logits = torch.cat(
        [model.head(model.clip.encode_image(part.to(first.device, first.dtype))) for part in windows.split(128)]
    )
    logits = logits.float().cpu()
    guesses = (logits.log_softmax(dim=-1) @ by_kind.T).argmax(dim=1)
    truth = torch.tensor([kinds.index(name) for name in names])
    loss = float(word_loss(logits, by_kind[truth]))
    return loss, float((guesses == truth).float().mean())


def main(
    steps: int = 200,
    batch: int = 128,
    seeds: int = 3,
    pairs: int = 8_000,
    windows: int = 1_000,
    json_file: Path = RESULTS,
) -> None:
    """Train and measure with all optimisers and seeds.

    Args:
        steps: Steps of every run.
        batch: Samples per step.
        seeds: Runs with every optimiser and learning rate.
        pairs: Pairs of training images to generate.
        windows: Windows of the validation split to measure on.
        json_file: Result file.
    """
    start = time.perf_counter()
    shown, names = validation(windows)
    results: dict[tuple[str, float], list[tuple[float, float]]] = {way: [] for way in WAYS}
    for seed in range(seeds):
        for way in WAYS:
            experiment = made(*way, seed, steps=steps, batch=batch, pairs=pairs)
            results[way].append(judged(*trained(experiment), shown, names))
    rows = [row_of(way, measured) for way, measured in results.items()]
    title = f"{steps} steps of {batch}, {seeds} seeds, {windows} windows of the validation split"
    shown_rows = [
        (row["optimiser"], f"{row['rate']:g}", f"{row['loss']:.3f} ± {row['loss spread']:.3f}", f"{row['right']:.1%}")
        for row in rows
    ]
    table(title, ("optimiser", "learning rate", "cross-entropy of words", "right kind of 100"), shown_rows)
    about = {
        "command": " ".join(["python", "benchmarks/shapes.py", *sys.argv[1:]]),
        "torch": torch.__version__,
        "machine": device_name(pick_device()),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2),
        "steps": steps,
        "batch": batch,
        "seeds": seeds,
        "pairs": pairs,
        "windows": windows,
        "seconds": round(time.perf_counter() - start, 1),
    }
    write_json(json_file, about | {"results": rows})
    out.print(f"written: {json_file}", soft_wrap=True)


def row_of(way: tuple[str, float], results: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Summarise the runs of one way: means over the seeds, and the standard deviation of the loss."""
    losses, right = zip(*results, strict=True)
    return {
        "optimiser": way[0],
        "rate": way[1],
        "loss": round(statistics.mean(losses), 4),
        "loss spread": round(statistics.stdev(losses), 4) if len(losses) > 1 else 0.0,
        "right": round(statistics.mean(right), 4),
        "losses": [round(loss, 4) for loss in losses],
        "rights": [round(share, 4) for share in right],
    }


if __name__ == "__main__":
    tyro.cli(main)
