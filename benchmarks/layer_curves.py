"""Score every layer of nano, and of a deeper sibling, on the world: the layer curves of the Perception Encoder in miniature.

    python benchmarks/layer_curves.py                                    # nano: layer_curves.json, and a plot per task, next to this file
    python benchmarks/layer_curves.py --train-into runs/deep             # trains the sibling; the same command resumes
    python benchmarks/layer_curves.py --deep runs/deep                   # adds the sibling to the results

The sibling has 16 blocks of 128 channels and is trained as nano is, by the recipe pe/nano. A task that is finished is stored at once, and
is not measured again with the same settings.
"""

import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import tyro

import percept
from percept.core.io import read_object, replacing, write_json
from percept.core.machine import device_name
from percept.core.report import out, table
from percept.eval.curve import svg
from percept.eval.layers import layers
from percept.eval.world_labels import world_labels

RESULTS = Path(__file__).with_suffix(".json")
SAMPLES = {
    "classes": 1000,
    "captions": 800,
    "masks": 300,
    "depth": 300,
    "boxes": 240,
    "tracks": 60,
    "points": 150,
    "words": 600,
}
"""Samples of each task; 60 % train, 20 % choose the layer, 20 % are reported."""
DEEP_LAYERS, DEEP_WIDTH, DEEP_STEPS = 16, 128, 2_400


def train(folder: Path, steps: int, minutes: float | None) -> None:
    """Train the sibling; a run that was stopped continues."""
    from percept.recipes.pe_nano import Config, recipe
    from percept.train.loop import fit

    usual = Config()
    config = replace(
        usual,
        vision=replace(usual.vision, layers=DEEP_LAYERS, width=DEEP_WIDTH, heads=2),
        text_width=128,
        data=replace(usual.data, pairs=6_000),
        settings=replace(usual.settings, steps=steps, hold=steps // 2),
    )
    command = f"python benchmarks/layer_curves.py --train-into {folder} --steps {steps}"
    progress = fit(recipe(config, command=command), folder, minutes=minutes)
    out.print(f"{folder}: {progress.step} of {steps} steps, {progress.seconds:.0f} s")


def measure(models: dict[str, str], tasks: list[str], seed: int, json_file: Path) -> list[dict[str, Any]]:
    """Return the curves of all models and tasks as plain data; those already in the file are kept."""
    stored = [row for row in read_object(json_file).get("curves", []) if row["seed"] == seed]
    done = {(row["model"]["image"], row["task"], sum(row["samples"].values())) for row in stored}
    for name, where in models.items():
        encoder = percept.load(where, device="cpu", dtype="float32")
        for task in tasks:
            if (encoder.identity.image, task, SAMPLES[task]) in done:
                continue
            curve = layers(encoder, world_labels(task, count=SAMPLES[task], seed=seed), task, seed=seed)
            out.print(f"{name}: {curve.statement()}", soft_wrap=True)
            plot = json_file.with_name(f"{json_file.stem}_{name}_{task}.svg")
            with replacing(plot) as temporary:
                temporary.write_text(svg([curve]), encoding="utf-8")
            stored = [row for row in stored if (row["name"], row["task"]) != (name, task)]
            stored.append({"name": name, **curve.to_dict()})
            write_json(json_file, {**about(), "curves": stored})
    return stored


def about() -> dict[str, Any]:
    return {
        "command": " ".join(["python", "benchmarks/layer_curves.py", *sys.argv[1:]]),
        "machine": device_name(torch.device("cpu")),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2),
    }


def main(
    deep: Path | None = None,
    train_into: Path | None = None,
    tasks: tuple[str, ...] = tuple(SAMPLES),
    seed: int = 0,
    steps: int = DEEP_STEPS,
    minutes: float | None = None,
    json_file: Path = RESULTS,
) -> None:
    """Measure nano, and the sibling if its folder is given; or train the sibling.

    Args:
        deep: Folder of the trained sibling.
        train_into: Folder to train the sibling into, instead of measuring.
        tasks: Tasks to measure.
        seed: Seed of the samples and of their division.
        steps: Training steps of the sibling.
        minutes: Stop training after this time; the same command resumes.
        json_file: Result file.
    """
    if train_into is not None:
        train(train_into, steps, minutes)
        return
    start = time.perf_counter()
    models = {"nano": "nano"} | ({"deep": str(deep)} if deep else {})
    curves = measure(models, list(tasks), seed, json_file)
    rows = [
        (row["name"], row["task"], row["measure"], row["best"], len(row["layers"]) - 1, f"{row['share of FLOPs saved']:.0%}", row["peaks before the last layer"])
        for row in curves
    ]  # fmt: skip
    table("Best layers", ("model", "task", "measure", "best", "last", "FLOPs saved", "clearly before the last"), rows)
    out.print(f"{time.perf_counter() - start:.0f} s; results in {json_file}", soft_wrap=True)


if __name__ == "__main__":
    tyro.cli(main)
