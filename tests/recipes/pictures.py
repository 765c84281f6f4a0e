"""Small image files for the tests of recipes."""

from pathlib import Path

import numpy as np
from PIL import Image


def picture(number: int, side: int = 128) -> Image.Image:
    """Return an image that no other number has."""
    coarse = np.random.default_rng(number).integers(0, 255, (5, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def captioned(folder: Path, count: int, *, first: int = 0) -> Path:
    """Write images with captions."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        picture(number).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"a picture of number {number}")
    return folder


def classed(folder: Path, count: int, *, classes: tuple[str, ...] = ("cat", "fire_truck"), first: int = 0) -> Path:
    """Write `count` images in each class folder."""
    for place, name in enumerate(classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(first, first + count):
            picture(1000 * place + number).save(folder / name / f"{number}.png")
    return folder
