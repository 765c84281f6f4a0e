"""Colour and paint helpers for backgrounds and styles. Slow results are cached."""

import random
from colorsys import hls_to_rgb
from functools import lru_cache

from PIL import Image

from percept.world.palette import Rgb

_GRAIN = 256


def vary(colour: Rgb, rng: random.Random, amount: int) -> Rgb:
    """Make a colour lighter or darker by at most `amount`, and shift its hue by a third of that."""
    lift, hue = rng.randint(-amount, amount), amount // 3
    red, green, blue = (min(255, max(0, channel + lift + rng.randint(-hue, hue))) for channel in colour)
    return red, green, blue


def pastel(rng: random.Random) -> Rgb:
    """Return a random pale colour, too weak to be called by a colour name."""
    red, green, blue = hls_to_rgb(rng.random(), rng.uniform(0.72, 0.88), rng.uniform(0.12, 0.38))
    return round(255 * red), round(255 * green), round(255 * blue)


def gradient(top: Rgb, bottom: Rgb, width: int, height: int) -> Image.Image:
    """Return a vertical gradient."""
    column = Image.new("RGB", (1, 2), top)
    column.putpixel((0, 1), bottom)
    return column.resize((max(1, width), max(1, height)), Image.Resampling.BILINEAR, box=(0.0, 0.5, 1.0, 1.5))


@lru_cache(maxsize=8)
def noise_tile(low: int, high: int) -> Image.Image:
    """Return a fixed 256 × 256 tile of white noise between two levels."""
    table = [low + (high - low) * level // 255 for level in range(256)]
    return Image.frombytes("L", (_GRAIN, _GRAIN), random.Random(7).randbytes(_GRAIN * _GRAIN)).point(table)


def noise(rng: random.Random, width: int, height: int, *, low: int, high: int) -> Image.Image:
    """Return a random crop of noise; a size above that of the tile is enlarged from the whole tile."""
    tile = noise_tile(low, high)
    if max(width, height) >= _GRAIN:
        return tile.resize((width, height), Image.Resampling.BILINEAR)
    x, y = rng.randrange(_GRAIN - width), rng.randrange(_GRAIN - height)
    return tile.crop((x, y, x + width, y + height))


def grain(image: Image.Image, rng: random.Random) -> None:
    """Add slight grain to an image, in-place."""
    image.paste(rng.choice(((0, 0, 0), (255, 255, 255))), (0, 0), noise(rng, *image.size, low=0, high=28))
