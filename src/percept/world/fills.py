"""Fill patterns of the coloured part of an object.

A pattern is an 'L' image of *levels* times `STEP`, added to the canvas of roles (see sprite.py). Level 0 is the object's
colour, level 1 the second colour of the pattern; a gradient uses all sixteen levels from light to dark.
"""

import random
from functools import lru_cache
from typing import Final

from PIL import Image, ImageDraw

FILLS: Final = ("plain", "striped", "dotted", "checked", "gradient")
"""Names of the patterns."""

STEP: Final = 16
"""Distance between two levels on the canvas; the numbers of roles are smaller."""

LEVELS: Final = 16
"""Number of levels of a gradient."""


def pattern(fill: str, size: tuple[int, int], rng: random.Random) -> Image.Image | None:
    """Return the pattern of a sprite of `size` pixels, or None for plain."""
    if fill == "plain":
        return None
    if fill == "gradient":
        return _gradient(rng.randrange(3)).resize(size, Image.Resampling.NEAREST)
    longest = max(size)
    period = max(8, 2 * round(longest * rng.uniform(0.13, 0.2) / 2))
    extent = 1 << (longest + period).bit_length()
    tile = _TILES[fill](period, extent, rng.randrange(3))
    left, top = rng.randrange(period), rng.randrange(period)
    return tile.crop((left, top, left + size[0], top + size[1]))


@lru_cache(maxsize=128)
def _stripes(period: int, extent: int, variant: int) -> Image.Image:
    """Draw horizontal, vertical or slanted stripes."""
    tile = Image.new("L", (extent, extent))
    draw = ImageDraw.Draw(tile)
    thick = 0.4 * period
    slant = (0, 0, extent)[variant]
    for start in range(-extent, extent, period):
        if variant == 0:
            draw.rectangle((0, start, extent, start + thick - 1), fill=STEP)
        else:
            stop = start + thick
            draw.polygon((start, 0, stop, 0, stop + slant, extent, start + slant, extent), fill=STEP)
    return tile


@lru_cache(maxsize=128)
def _dots(period: int, extent: int, variant: int) -> Image.Image:
    """Draw dots, every second row shifted by half a period."""
    tile = Image.new("L", (extent, extent))
    draw = ImageDraw.Draw(tile)
    radius = period * (0.24, 0.27, 0.29)[variant]
    rows = range(0, extent + period, period)
    for row, y in enumerate(rows):
        for x in range(0, extent + period, period):
            left = x + (period // 2 if row % 2 else 0)
            draw.ellipse((left - radius, y - radius, left + radius, y + radius), fill=STEP)
    return tile


@lru_cache(maxsize=128)
def _checks(period: int, extent: int, variant: int) -> Image.Image:
    """Draw a checkerboard, upright or turned by 45 degrees."""
    tile = Image.new("L", (extent, extent))
    draw = ImageDraw.Draw(tile)
    half, side = period / 2, (0.43 if variant == 2 else 0.46) * period
    count = int(extent / half) + 2
    for row in range(count):
        for column in range(row % 2, count, 2):
            x, y = column * half, row * half
            if variant < 2:
                draw.rectangle((x, y, x + side - 1, y + side - 1), fill=STEP)
            elif row % 2:
                draw.polygon((x, y - side, x + side, y, x, y + side, x - side, y), fill=STEP)
    return tile


@lru_cache(maxsize=3)
def _gradient(variant: int) -> Image.Image:
    """Draw sixteen levels from top to bottom, left to right, or right to left."""
    ramp = Image.linear_gradient("L").point([value // 16 * STEP for value in range(256)])
    turns = (None, Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_270)
    turn = turns[variant]
    return ramp if turn is None else ramp.transpose(turn)


_TILES: Final = {"striped": _stripes, "dotted": _dots, "checked": _checks}
