"""Compare the vectors and best labels of nano in bfloat16 with those in float32.

    python benchmarks/precision.py                   # prints a table and writes precision.json next to this file

The images show one object each and are from the evaluation split of the labelled world. For both questions (which of 100
categories, which of 12 colours) the best label is computed with images and texts in bfloat16 and in float32, as `percept.load`
does with dtype="bfloat16" and "float32". The accuracy in both types is reported too, because the order of two equally
likely labels does not matter.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from torch import Tensor

from percept.core.errors import PerceptError
from percept.core.io import write_json
from percept.core.machine import device_name, fast_dtype, pick_device
from percept.core.report import out, table
from percept.eval import world
from percept.eval.statistics import proportion
from percept.eval.zeroshot import CLASS_TEMPLATES, colour_texts, prompts
from percept.infer.encoder import Encoder
from percept.infer.labels import averaged
from percept.infer.load import load
from percept.world.objects import CATEGORIES

RESULTS = Path(__file__).with_suffix(".json")
AGREEMENT, COSINE = 0.995, 0.999
"""Goals: the share of equal best labels, and the mean cosine of the vectors."""


def answers(encoder: Encoder, images: list[np.ndarray]) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the vectors of images, and for every question the index of the best label of each image."""
    vectors, names = encoder.image(images), list(CATEGORIES)
    questions = {"category": prompts(names, CLASS_TEMPLATES), "colour": colour_texts(names)}
    return vectors, {key: (vectors @ averaged(encoder, texts).T).argmax(dim=1) for key, texts in questions.items()}


def compared(question: str, wide: Tensor, narrow: Tensor, truth: Tensor) -> dict[str, Any]:
    """Compare the best labels of one question."""
    agreement = proportion(f"{question} agreement", (wide == narrow).numpy())
    return {
        "question": question,
        "agreement": round(agreement.value, 5),
        "low": round(agreement.low, 5),
        "high": round(agreement.high, 5),
        "n": len(wide),
        "right in float32": round(float((wide == truth).float().mean()), 5),
        "right in bfloat16": round(float((narrow == truth).float().mean()), 5),
    }


def main(images: int = 3000, model: str = "nano", device: str = "auto", json_file: Path = RESULTS) -> None:
    """Measure the agreement of both number types.

    Args:
        images: Number of images.
        model: nano, or a folder with a model trained on the labelled world.
        device: auto, cpu, cuda or mps.
        json_file: Result file.
    """
    if images < 1:
        raise PerceptError(f"images must be at least 1, got {images}.")
    start, place = time.perf_counter(), pick_device(device)
    data = world.singles(images)
    wide, wide_best = answers(load(model, device=device, dtype="float32"), data.images)
    narrow, narrow_best = answers(load(model, device=device, dtype="bfloat16"), data.images)
    truths = {"category": torch.tensor(data.categories), "colour": torch.tensor(data.colours)}
    rows = [compared(key, wide_best[key], narrow_best[key], truths[key]) for key in truths]
    cosines = (wide * narrow).sum(dim=1)
    cosine = {"mean": round(float(cosines.mean()), 6), "least": round(float(cosines.min()), 6)}
    columns = ("question", "n", "agreement", "95 % interval", "right in float32", "right in bfloat16")
    shown = [
        (
            row["question"], row["n"], f"{row['agreement']:.2%}", f"{row['low']:.2%} to {row['high']:.2%}",
            f"{row['right in float32']:.2%}", f"{row['right in bfloat16']:.2%}",
        )
        for row in rows
    ]  # fmt: skip
    table(f"Best labels of {model} in bfloat16 against float32", columns, shown)
    for row in rows:
        verdict = "met" if row["agreement"] >= AGREEMENT else "MISSED"
        out.print(f"goal for {row['question']}: at least {AGREEMENT:.1%} agree; {row['agreement']:.2%}: {verdict}")
    verdict = "met" if cosine["mean"] >= COSINE else "MISSED"
    out.print(f"goal for vectors: mean cosine at least {COSINE}; {cosine['mean']} (least {cosine['least']}): {verdict}")
    about = {
        "command": " ".join(["python", "benchmarks/precision.py", *sys.argv[1:]]),
        "torch": torch.__version__, "machine": device_name(place), "device": str(place),
        "bfloat16": fast_dtype(place)[1], "threads": torch.get_num_threads(), "load": round(os.getloadavg()[0], 2),
        "seed": world.DEFAULT.seed, "split": world.DEFAULT.split, "seconds": round(time.perf_counter() - start, 1),
    }  # fmt: skip
    write_json(json_file, about | {"results": rows, "cosine": cosine})
    out.print(f"written: {json_file}", soft_wrap=True)


if __name__ == "__main__":
    tyro.cli(main)
