"""Cutouts: the sprite of an object, drawn once per clip, and resized and rotated as the frames need it."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image, ImageChops, ImageDraw

from percept.world.clips.elements import LEAST_OPACITY, Track
from percept.world.palette import COLOURS, Rgb, jitter, lightness
from percept.world.sprite import draw_sprite

ALIKE = 70
"""A thing whose colour differs less than this from its background gets a contour, as in images."""
LEVELS = 16
"""Steps of opacity."""


@dataclass(frozen=True)
class Pasted:
    """Pixels of an object in one pose."""

    image: Image.Image
    """RGBA."""
    mask: Image.Image
    """255 where the object counts as visible."""
    area: int
    """Pixels of the mask."""
    height: int
    """Height before the rotation."""


class Cutout:
    """The pixels of one object in any size, rotation and opacity; poses are kept."""

    def __init__(self, track: Track, unit: float, behind: Rgb) -> None:
        """Draw the object at its largest size. `unit` is canvas pixels per image side, `behind` the colour of the background."""
        thing, largest = track.thing, float(track.path.scale.max())
        colour = jitter(COLOURS[thing.colour], random.Random(thing.seed))
        sprite = draw_sprite(
            thing.category, colour=colour, fill=thing.fill, size=max(4.0, largest * unit), seed=thing.seed,
            angle=thing.angle, flip=thing.flip, stretch=thing.stretch, shear=thing.shear,
        )  # fmt: skip
        self.unit, self.longest = unit, max(sprite.mask.size)
        self._image = sprite.rgb.copy()
        self._image.putalpha(sprite.mask)
        if sum((a - b) ** 2 for a, b in zip(behind, colour, strict=True)) < ALIKE**2:
            self._image = _contoured(self._image, colour, max(1, round(0.01 * unit)))
        self._poses: dict[tuple[int, int, int], Pasted] = {}

    def posed(self, scale: float, angle: float, opacity: float) -> Pasted:
        """Return the object with a longest side of `scale` image sides, rotated by `angle` degrees counter-clockwise."""
        key = max(4, round(scale * self.unit)), round(angle) % 360, round(opacity * LEVELS)
        if key not in self._poses:
            self._poses[key] = self._pose(*key)
        return self._poses[key]

    def _pose(self, longest: int, angle: int, level: int) -> Pasted:
        image = self._image
        if longest != self.longest:
            share = longest / self.longest
            size = max(1, round(image.width * share)), max(1, round(image.height * share))
            image = image.resize(size, Image.Resampling.BILINEAR)
        height = image.height
        if angle:
            image = image.rotate(angle, Image.Resampling.BILINEAR, expand=True)
        alpha = image.getchannel("A")
        solid = alpha.point(_AT_LEAST_HALF)
        area = solid.histogram()[255]
        if level < LEVELS:
            image = image.copy()
            image.putalpha(alpha.point([value * level // LEVELS for value in range(256)]))
            solid = solid if level >= LEAST_OPACITY * LEVELS else Image.new("L", solid.size)
        return Pasted(image, solid, area, height)


_AT_LEAST_HALF = [0] * 128 + [255] * 128


def _contoured(image: Image.Image, colour: Rgb, reach: int) -> Image.Image:
    """Put a thin contour around an object, which stays the same size, by darkening or lightening its rim."""
    alpha, inner = image.getchannel("A"), image.getchannel("A")
    for x, y in ((-reach, 0), (reach, 0), (0, -reach), (0, reach)):
        moved = Image.new("L", alpha.size)
        moved.paste(alpha, (x, y))
        inner = ImageChops.darker(inner, moved)
    contour = (250, 250, 250) if lightness(colour) < 150 else (60, 58, 66)
    framed = Image.new("RGB", image.size, contour)
    framed.paste(image.convert("RGB"), (0, 0), inner)
    framed.putalpha(alpha)
    return framed


@lru_cache(maxsize=64)
def shadow(width: int, height: int) -> Image.Image:
    """Return the soft shadow of an object on the ground as a mask, strongest in the centre."""
    strength: Callable[[float], int] = lambda level: max(0, round(110 * (1 - level / 180)))  # noqa: E731
    disc = Image.radial_gradient("L").resize((64, 64), Image.Resampling.BILINEAR)
    return disc.point([strength(level) for level in range(256)]).resize((width, height))


@lru_cache(maxsize=8)
def hand(unit: int) -> Image.Image:
    """Return an arm that comes from above, with a hand whose fingers are at the bottom edge, as RGBA."""
    wide, high = round(0.2 * unit), round(1.3 * unit)
    image = Image.new("RGBA", (wide, high))
    draw = ImageDraw.Draw(image)
    skin, ink, sleeve = (232, 178, 140, 255), (96, 60, 44, 255), (70, 96, 150, 255)
    line, middle = max(1, unit // 90), wide / 2
    palm = high - 0.19 * unit
    draw.rectangle((middle - 0.05 * unit, 0, middle + 0.05 * unit, palm - 0.03 * unit), sleeve, ink, line)
    draw.rectangle((middle - 0.04 * unit, palm - 0.05 * unit, middle + 0.04 * unit, palm), skin, ink, line)
    for place in (-0.075, -0.025, 0.025, 0.075):
        left = middle + (place - 0.02) * unit
        box = (left, palm + 0.03 * unit, left + 0.04 * unit, high - 1 - 0.4 * abs(place) * unit)
        draw.rounded_rectangle(box, round(0.02 * unit), skin, ink, line)
    box = (middle - 0.09 * unit, palm - 0.03 * unit, middle + 0.09 * unit, palm + 0.09 * unit)
    draw.rounded_rectangle(box, round(0.03 * unit), skin, ink, line)
    return image
