"""Sprites: a drawn object as pixels with a mask.

The outlines (pen.py) are transformed as points and rasterised once as roles on an 8-bit canvas. The pattern is added to
the canvas as levels, and one palette lookup converts both to colours. Pixels are never resampled.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image, ImageChops, ImageDraw

from percept.core.errors import PerceptError, unknown_name
from percept.world.fills import FILLS, LEVELS, STEP, pattern
from percept.world.objects import CATEGORIES
from percept.world.palette import DARKEST_LIGHTNESS, Rgb, blend, deepen, lightness, second_colour, shade
from percept.world.pen import Number, Pen, Point, Role, Shape

FIXED: dict[int, Rgb] = {
    Role.EMPTY: (0, 0, 0),
    Role.INK: (38, 35, 44),
    Role.WHITE: (244, 244, 240),
    Role.GLASS: (176, 212, 232),
    Role.METAL: (164, 169, 178),
    Role.WOOD: (158, 112, 68),
    Role.CREAM: (244, 222, 184),
    Role.LEAF: (74, 138, 66),
    Role.GOLD: (240, 178, 60),
    Role.ROSE: (226, 118, 122),
}
"""Colours of the roles that do not follow the object's colour."""

_LIGHTS = (0.84, 0.92, 1.0, 1.1, 1.2)
"""Lightness factors of wood, metal and other fixed colours; one is chosen per sprite."""

_MASK_TABLE = [0] + [255] * 255


@dataclass(frozen=True)
class Sprite:
    """Colours and mask (255 inside, 0 outside) of a drawn object, cropped to the mask."""

    rgb: Image.Image
    mask: Image.Image


def draw_sprite(
    category: str,
    *,
    colour: Rgb,
    fill: str,
    size: Number,
    seed: int,
    angle: Number = 0.0,
    flip: bool = False,
    stretch: tuple[Number, Number] = (1, 1),
    shear: Number = 0.0,
) -> Sprite:
    """Draw one object. The same arguments give the same bytes.

    Args:
        category: a name of `CATEGORIES`.
        colour: (red, green, blue) of the object's coloured part.
        fill: a name of `FILLS`.
        size: longest side of the sprite in pixels, after rotation.
        seed: determines pose, proportions and optional parts.
        angle: degrees, counter-clockwise.
        flip: mirror left and right, before the rotation.
        stretch: factors of width and height, before shear and rotation.
        shear: shift of the top to the right, as a share of the height.

    Raises:
        PerceptError: unknown category or fill, or a size below 4 pixels.
    """
    if category not in CATEGORIES:
        raise unknown_name("category", category, CATEGORIES)
    if fill not in FILLS:
        raise unknown_name("fill", fill, FILLS)
    if size < 4:
        raise PerceptError(f"the size of a sprite must be at least 4 pixels, got {size}.")
    rng = random.Random(seed)
    pen = Pen(detail=1 if size <= 160 else 2 if size <= 400 else 3)
    CATEGORIES[category].draw(pen, rng)
    width = stretch[0] * rng.uniform(0.92, 1.08)  # objects of one category differ in proportions
    outlines = _transform(pen.shapes, _matrix(angle, flip, (width, stretch[1]), shear))
    canvas = _rasterise(pen.shapes, outlines, size)
    return _colourise(canvas, colour, fill, size, rng)


def _matrix(
    angle: Number, flip: bool, stretch: tuple[Number, Number], shear: Number
) -> tuple[Number, Number, Number, Number]:
    """Return the 2x2 matrix rotation @ shear @ stretch @ mirror, row by row."""
    cosine, sine = math.cos(math.radians(angle)), -math.sin(math.radians(angle))
    wide = -stretch[0] if flip else stretch[0]
    lean = -shear * stretch[1]
    return (
        cosine * wide,
        cosine * lean - sine * stretch[1],
        sine * wide,
        sine * lean + cosine * stretch[1],
    )


def _transform(shapes: Sequence[Shape], matrix: tuple[Number, Number, Number, Number]) -> list[list[Point]]:
    a, b, c, d = matrix
    return [[(a * x + b * y, c * x + d * y) for x, y in shape.points] for shape in shapes]


def _rasterise(shapes: Sequence[Shape], outlines: list[list[Point]], size: Number) -> Image.Image:
    """Draw the outlines as roles, scaled to a longest side of `size` pixels, and crop to the bounding box."""
    xs = [x for points in outlines for x, _ in points]
    ys = [y for points in outlines for _, y in points]
    left, top = min(xs), min(ys)
    wide, high = max(xs) - left, max(ys) - top
    thick = max(1, round(size / 90))
    scale = (size - thick) / max(wide, high)
    across, down = thick - left * scale, thick - top * scale
    canvas = Image.new("L", (int(wide * scale) + 2 * thick + 2, int(high * scale) + 2 * thick + 2))
    draw = ImageDraw.Draw(canvas)
    for shape, points in zip(shapes, outlines, strict=True):
        flat = [value for x, y in points for value in (x * scale + across, y * scale + down)]
        if not shape.edge:
            draw.polygon(flat, fill=shape.role)
        elif thick == 1:
            draw.polygon(flat, fill=shape.role, outline=Role.EDGE)
        else:
            draw.polygon(flat, fill=shape.role)
            draw.line(flat + flat[:4], fill=Role.EDGE, width=thick, joint="curve" if thick > 2 else None)
    return canvas.crop(canvas.getbbox())


def _colourise(canvas: Image.Image, colour: Rgb, fill: str, size: Number, rng: random.Random) -> Sprite:
    """Convert roles and pattern to colours."""
    mask = canvas.point(_MASK_TABLE)
    levels = pattern(fill, canvas.size, rng)
    if levels is not None:
        canvas = ImageChops.add(canvas, levels)
    edge = min(max(0.95 - 0.004 * size, 0.5), 0.8)
    second = second_colour(colour, rng) if fill not in ("plain", "gradient") else None
    canvas.putpalette(_palette(colour, second, edge, fill == "gradient", rng.randrange(len(_LIGHTS))))
    return Sprite(canvas.convert("RGB"), mask)


def _palette(colour: Rgb, second: Rgb | None, edge: Number, gradient: bool, variant: int) -> bytes:
    """Return the colours of all roles at all levels of the pattern, three bytes each."""
    dark, light = lightness(colour) < DARKEST_LIGHTNESS, lightness(colour) > 225
    glow = 1.12 if dark else 1.24
    tones = _ramp(colour, dark, light) if gradient else [colour]
    rows = [bytes(tone) + bytes(_deeper(tone, dark, light)) + bytes(shade(tone, glow)) for tone in tones]
    if second is not None:  # shaded towards the colour, because a darker white would be grey
        deeper = blend(second, _deeper(colour, dark, light), 0.3)
        rows.append(bytes(second) + bytes(deeper) + bytes(shade(second, 1.12)))
    outline = blend(colour, (255, 255, 255), 0.25) if dark else deepen(colour, edge)
    tail = bytes(outline) + _fixed_tones(dark, light, variant)
    return b"".join(b"\0\0\0" + row + tail for row in rows)


def _ramp(colour: Rgb, dark: bool, light: bool) -> list[Rgb]:
    """Return the shades of a gradient from light to dark, all within the named colour."""
    first, last = (1.2, 1.0) if dark else (1.0, 0.84) if light else (1.38, 0.58)
    factors = [first + (last - first) * level / (LEVELS - 1) for level in range(LEVELS)]
    return [shade(colour, factor) if factor > 1 else deepen(colour, factor) for factor in factors]


def _deeper(tone: Rgb, dark: bool, light: bool) -> Rgb:
    if dark:
        return blend(tone, (255, 255, 255), 0.08)
    return shade(tone, 0.89) if light else deepen(tone, 0.84)


@lru_cache(maxsize=32)
def _fixed_tones(dark: bool, light: bool, variant: int) -> bytes:
    """Return the colours of the roles after EDGE, adapted to a very dark or very light object."""
    steady = (Role.EMPTY, Role.INK, Role.WHITE)
    table = {role: rgb if role in steady else shade(rgb, _LIGHTS[variant]) for role, rgb in FIXED.items()}
    if dark:  # eyes and tyres must be visible on black
        table[Role.INK] = (158, 158, 166)
    if light:  # windows and eyes must be visible on white
        table[Role.WHITE] = (214, 220, 228)
    return b"".join(bytes(table.get(role, (0, 0, 0))) for role in range(Role.EDGE + 1, STEP))
