"""The drawing version: what a seed gives is stored, so that a cache from before a change is never used after it.

After an intended change raise `percept.world.cache.DRAWING` and store the new results: python -m tests.world.test_drawing
"""

import json
from functools import cache
from pathlib import Path

import numpy as np

from percept.core.io import content_hash
from percept.world import CATEGORIES
from percept.world.cache import DRAWING, WorldData, _Drawn, _pair

GOLDEN = Path(__file__).parents[1] / "golden" / "world.npz"
PAIRS = 240
CELL = 12
"""Side in pixels of the squares whose mean colours are stored."""
TOLERANCE = 1
"""Largest difference of a mean colour, 0 to 255: other versions of Pillow round differently."""


@cache
def drawn() -> list[_Drawn]:
    return [image for number in range(PAIRS) for image in _pair(number, WorldData())]


def mean_colours() -> np.ndarray:
    """Return the mean colours of all squares, [images, rows, columns, 3]."""
    images = np.stack([each.image for each in drawn()]).astype(np.float32)
    count, side = len(images), images.shape[1] // CELL
    return images.reshape(count, side, CELL, side, CELL, 3).mean(axis=(2, 4)).round().astype(np.uint8)


def words_hash() -> str:
    """Return a hash of all texts and claims."""
    return content_hash(json.dumps([[each.texts, each.claims, each.contrary] for each in drawn()]).encode())


def store() -> None:
    np.savez_compressed(GOLDEN, version=DRAWING, words=words_hash(), colours=mean_colours())


def test_the_drawing_is_that_of_its_version() -> None:
    stored = np.load(GOLDEN)
    assert int(stored["version"]) == DRAWING, "store the results of the new version"
    largest = np.abs(mean_colours().astype(int) - stored["colours"].astype(int)).max()
    assert largest <= TOLERANCE, "the same seeds give different pixels: raise DRAWING"
    assert words_hash() == str(stored["words"]), "the same seeds give different texts or claims: raise DRAWING"


def test_all_categories_are_among_the_stored_images() -> None:
    shown = {category for each in drawn() for category, _, _ in each.things}
    assert len(shown) == len(CATEGORIES)


if __name__ == "__main__":
    store()
