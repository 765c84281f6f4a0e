"""Compare reading and preprocessing of JPEG files with the speed of the smallest released model, in images per second.

    python benchmarks/reading.py                     # prints a table and writes reading.json

Reads 1600 x 1200 JPEG files generated here. Goal: reading alone is at least 1.2 times as fast as PE-Core-T16-384.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from harness import Rate, Turns, facts, save, take_turns, timed
from PIL import Image

import percept
from percept.core.errors import PerceptError
from percept.core.machine import pick_device
from percept.core.report import out, table
from percept.data.files import in_order
from percept.infer.images import to_tensor
from percept.models.clip import CLIP
from percept.models.config import ClipConfig
from percept.models.zoo import find

RESULTS = Path(__file__).with_suffix(".json")
GOAL = 1.2


def photographs(folder: Path, count: int) -> list[Path]:
    """Write JPEG files of 1600 x 1200 pixels that compress about as well as photographs."""
    generator = np.random.default_rng(0)
    for number in range(count):
        coarse = Image.fromarray(generator.integers(0, 256, (75, 100, 3), dtype=np.uint8)).resize((1600, 1200))
        noise = generator.integers(-6, 7, (1200, 1600, 1))
        pixels = np.clip(np.asarray(coarse, np.int16) + noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.jpg", quality=90)
    return sorted(folder.iterdir())


def encoder_of(name: str, folder: Path, device: str) -> percept.Encoder:
    """Return the encoder of a released model with random weights."""
    config = find(name).config
    if config is None:
        raise PerceptError(f"{name} is a packaged model. Give a released model.")
    torch.manual_seed(0)
    file = folder / f"{name}.pt"
    from percept.weights.layouts.official import to_official

    model = CLIP(ClipConfig(vision=config.vision))
    names = to_official(model, has_text=False)
    torch.save({names[key]: value for key, value in model.state_dict().items()}, file)
    return percept.load(name, weights=file, device=device, dtype="auto", batch=8)


def main(
    model: str = "PE-Core-T16-384",
    files: int = 48,
    repeats: int = 3,
    device: str = "cpu",
    json_file: Path | None = RESULTS,
) -> None:
    """Measure reading, the model, and both together.

    Args:
        model: A released model.
        files: JPEG files.
        repeats: Turns.
        device: auto, cpu, cuda or mps.
        json_file: Result file.
    """
    if files < 1 or repeats < 1:
        raise PerceptError(f"files and repeats must be at least 1, got {files} and {repeats}.")
    start, place = time.perf_counter(), pick_device(device)
    with tempfile.TemporaryDirectory() as folder:
        encoder = encoder_of(model, Path(folder), device)
        images = Path(folder, "images")
        images.mkdir()
        paths, preprocess = photographs(images, files), encoder.preprocess
        pixels = preprocess.normalise(torch.stack([to_tensor(path, preprocess) for path in paths]))
        jobs = {
            "reading": lambda: list(in_order(lambda path: to_tensor(path, preprocess), paths)),
            "model": lambda: encoder.image(pixels),
            "together": lambda: encoder.files(paths),
        }

        def job(name: str) -> Any:
            def run(_: int) -> Rate:
                return timed(jobs[name], place)

            return run

        times = take_turns({name: job(name) for name in jobs}, Turns(repeats))
    rates = {name: files / timing.summary()["clock s"] for name, timing in times.items()}
    processor = {name: 1000 * timing.summary()["processor s"] / files for name, timing in times.items()}
    rows = [(name, rates[name], processor[name]) for name in jobs]
    table(f"1600 x 1200 JPEG files into {model}", ("", "images/s", "processor ms per image"), rows)
    ratio = times["reading"].speedup_over(times["model"])
    out.print(
        f"goal: reading at least {GOAL} times as fast as {model}; {ratio}: {'met' if ratio >= GOAL else 'MISSED'}"
    )
    result = [{"job": name, "images/s": round(rate, 2), "processor ms": round(ms, 3)} for name, rate, ms in rows]
    save(json_file, facts(place, start) | {"model": model, "files": files, "ratio": ratio, "results": result})


if __name__ == "__main__":
    tyro.cli(main)
