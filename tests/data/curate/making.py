"""Small sources and chunks for the tests of curation."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from percept.data.curate.step import Place, Step, Tools
from percept.data.curate.store import Arrays, Chunk, Decision, Parts, save_arrays
from percept.data.curate.tables import as_table


def chunk(
    texts: Sequence[Sequence[str]], number: int = 0, first: int = 0, images: Sequence[Any] | None = None
) -> Chunk:
    """Return a chunk of rows with these captions, with keys `first`, `first` + 1, …"""
    images = images or [None] * len(texts)
    rows = [
        {"key": str(first + row), "captions": list(some), "image": image}
        for row, (some, image) in enumerate(zip(texts, images, strict=True))
    ]
    return Chunk(number, np.arange(len(texts)), as_table(rows))


def place(folder: Path, tools: Tools | None = None) -> Place:
    return Place(root=folder, vectors=folder / "vectors", step=folder, tools=tools or Tools())


def run(step: Step, chunks: Sequence[Chunk], folder: Path, tools: Tools | None = None) -> tuple[list[Decision], Arrays]:
    """Run a step alone; return its decisions and its last state."""
    state: Arrays = {}
    files: list[Path] = []
    for turn, one in enumerate(step.passes()):
        files = [folder / f"measured-{turn}" / f"{part.number:06d}.npz" for part in chunks]
        for file, part in zip(files, chunks, strict=True):
            save_arrays(file, one.measure(part, state, place(folder, tools)))
        state = one.combine(Parts(files), state)
    measured = list(Parts(files)) if files else [{} for _ in chunks]
    return [step.decide(part, arrays, state) for part, arrays in zip(chunks, measured, strict=True)], state


def kept(decisions: Iterable[Decision]) -> list[bool]:
    return [reason is None for decision in decisions for reason in decision.reasons]


def write_lines(file: Path, rows: Iterable[Any]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def picture(seed: int, size: int = 48) -> Image.Image:
    """Return a smooth random image, different for every seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC)


WORDS = [f"{first}{last}" for first in ("ka", "lo", "mi", "nu", "pe") for last in ("ra", "sto", "ti", "vun", "x")]


def captions(count: int, seed: int = 0) -> list[str]:
    """Return random captions whose words have very different frequencies; every tenth says nothing."""
    rng = np.random.default_rng(seed)
    chances = 1 / (1 + np.arange(len(WORDS))) ** 1.5
    rows = rng.choice(len(WORDS), (count, 5), p=chances / chances.sum())
    return [
        "untitled" if number % 10 == 9 else " ".join(WORDS[word] for word in row) for number, row in enumerate(rows)
    ]
