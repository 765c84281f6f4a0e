"""Sprites: deterministic, cropped, of the requested size and colour, mirrored by flip."""

import hashlib
import random
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageChops, ImageOps

from percept.core.errors import PerceptError
from percept.world.fills import FILLS, pattern
from percept.world.palette import COLOURS, deepen, jitter, nearest, second_colour
from percept.world.sprite import Sprite, draw_sprite

SAMPLE = ("cat", "bicycle", "umbrella", "pair of glasses", "key", "bunch of grapes")


def fingerprint(sprite: Sprite) -> str:
    return hashlib.sha256(sprite.rgb.tobytes() + sprite.mask.tobytes()).hexdigest()


def draw(category: str = "cat", **options: Any) -> Sprite:
    arguments: dict[str, Any] = {"colour": COLOURS["red"], "fill": "plain", "size": 70, "seed": 5}
    return draw_sprite(category, **(arguments | options))


def overlap(first: Image.Image, second: Image.Image) -> float:
    """Intersection over union of two masks laid on each other at the top left corner."""
    size = (max(first.width, second.width), max(first.height, second.height))
    a, b = (np.asarray(_on(mask, size)) > 0 for mask in (first, second))
    return (a & b).sum() / (a | b).sum()


def _on(mask: Image.Image, size: tuple[int, int]) -> Image.Image:
    canvas = Image.new("L", size)
    canvas.paste(mask, (0, 0))
    return canvas


def test_another_process_draws_the_same_bytes() -> None:
    code = (
        "import hashlib; from percept.world.sprite import draw_sprite\n"
        "s = draw_sprite('boat', colour=(36, 84, 208), fill='checked', size=90, seed=11, angle=20, flip=True)\n"
        "print(hashlib.sha256(s.rgb.tobytes() + s.mask.tobytes()).hexdigest())"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    for _ in range(2):  # caches must not change anything
        here = draw("boat", colour=(36, 84, 208), fill="checked", size=90, seed=11, angle=20, flip=True)
        assert fingerprint(here) == there


@pytest.mark.parametrize("fill", FILLS)
def test_the_pattern_never_changes_the_shape(fill: str) -> None:
    plain, patterned = draw("teapot"), draw("teapot", fill=fill)
    assert patterned.mask.tobytes() == plain.mask.tobytes()
    assert (patterned.rgb.tobytes() == plain.rgb.tobytes()) == (fill == "plain")


@pytest.mark.parametrize("size", [24, 40, 70, 151, 500])
@pytest.mark.parametrize("category", SAMPLE)
def test_the_longest_side_is_the_size_asked_for(category: str, size: int) -> None:
    for angle in (0.0, 33.0):
        sprite = draw(category, size=size, angle=angle)
        assert abs(max(sprite.mask.size) - size) <= 2 + size / 90  # lines around the shape
        assert sprite.rgb.size == sprite.mask.size


@pytest.mark.parametrize("category", SAMPLE)
def test_flip_mirrors(category: str) -> None:
    straight, flipped = draw(category, size=200), draw(category, size=200, flip=True)
    assert overlap(ImageOps.mirror(flipped.mask), straight.mask) > 0.85


@pytest.mark.parametrize("category", ["cat", "arrow", "key"])
def test_a_quarter_turn_is_a_rotation(category: str) -> None:
    straight, turned = draw(category, size=120), draw(category, size=120, angle=90)
    assert overlap(turned.mask, straight.mask.transpose(Image.Transpose.ROTATE_90)) > 0.9


def test_stretch_and_shear_change_the_outline() -> None:
    plain, wide, leaning = draw("house"), draw("house", stretch=(1.5, 1)), draw("clock", shear=0.5)
    ratio = plain.mask.width / plain.mask.height
    assert wide.mask.width / wide.mask.height == pytest.approx(1.5 * ratio, rel=0.05)
    top, bottom = (np.asarray(leaning.mask)[rows].nonzero()[1].mean() for rows in (slice(0, 12), slice(-12, None)))
    assert top > bottom + 5


def test_colour_outside_the_mask_is_never_needed() -> None:
    sprite = draw("ladder")
    inside = Image.composite(sprite.rgb, Image.new("RGB", sprite.rgb.size), sprite.mask)
    assert ImageChops.difference(inside, sprite.rgb).getbbox() is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"category": "catt"}, "unknown category 'catt'; did you mean 'cat'"),
        ({"fill": "stripes"}, "unknown fill 'stripes'; did you mean 'striped'"),
        ({"size": 1}, "at least 4"),
    ],
)
def test_mistakes_are_explained(change: dict, message: str) -> None:
    with pytest.raises(PerceptError, match=message):
        draw(**change)


def test_the_twelve_colours_are_far_apart() -> None:
    assert len(COLOURS) == 12
    names = list(COLOURS)
    for k, name in enumerate(names):
        for other in names[:k]:
            distance = np.linalg.norm(np.subtract(COLOURS[name], COLOURS[other]))
            assert distance > 75, (name, other)


@pytest.mark.parametrize("name", COLOURS)
def test_variations_of_a_colour_keep_its_name(name: str) -> None:
    rng = random.Random(0)
    for _ in range(200):
        varied = jitter(COLOURS[name], rng)
        assert nearest(varied) == name
        assert nearest(deepen(varied, 0.9)) == name
        assert nearest(second_colour(varied, rng)) in {name, "white"}


@pytest.mark.parametrize("fill", ["striped", "dotted", "checked"])
def test_a_pattern_covers_less_than_the_colour(fill: str) -> None:
    for seed in range(12):
        tile = pattern(fill, (140, 100), random.Random(seed))
        assert tile is not None
        share = np.count_nonzero(np.asarray(tile)) / (140 * 100)
        assert 0.15 < share < 0.5


def test_a_gradient_runs_from_light_to_dark() -> None:
    sprite = draw("heart", fill="gradient", size=200)
    pixels = np.asarray(sprite.rgb, dtype=float).mean(-1)[np.asarray(sprite.mask) > 0]
    assert np.percentile(pixels, 95) > 1.6 * np.percentile(pixels, 20)
