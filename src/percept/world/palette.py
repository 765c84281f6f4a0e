"""The twelve named colours of the labelled world, and the shades that objects are drawn with."""

import random
from typing import Final

Rgb = tuple[int, int, int]

COLOURS: Final[dict[str, Rgb]] = {
    "red": (214, 30, 36),
    "orange": (248, 128, 16),
    "yellow": (250, 216, 44),
    "green": (44, 158, 58),
    "blue": (36, 84, 208),
    "purple": (128, 52, 172),
    "pink": (250, 150, 194),
    "brown": (122, 70, 34),
    "black": (34, 34, 40),
    "white": (246, 246, 246),
    "grey": (140, 141, 146),
    "cyan": (52, 204, 222),
}
"""Name → (red, green, blue) from 0 to 255."""

DARKEST_LIGHTNESS: Final = 60
"""Colours darker than this are shaded by lightening them."""


def lightness(rgb: Rgb) -> float:
    """Return the perceived lightness of a colour, 0 (black) to 255 (white).

    >>> lightness((255, 255, 255))
    255.0
    """
    red, green, blue = rgb
    return (299 * red + 587 * green + 114 * blue) / 1000


def blend(start: Rgb, end: Rgb, share: float | int) -> Rgb:
    """Mix two colours; `share` 0 gives `start`, 1 gives `end`.

    >>> blend((0, 0, 0), (200, 100, 50), 0.5)
    (100, 50, 25)
    """
    rest = 1 - share
    return (
        int(start[0] * rest + end[0] * share + 0.5),
        int(start[1] * rest + end[1] * share + 0.5),
        int(start[2] * rest + end[2] * share + 0.5),
    )


def shade(rgb: Rgb, factor: float | int) -> Rgb:
    """Darken (`factor` < 1) or lighten (`factor` > 1, towards white at 2) a colour.

    >>> shade((100, 200, 50), 0.5), shade((100, 200, 50), 2.0)
    ((50, 100, 25), (255, 255, 255))
    """
    if factor <= 1:
        return blend((0, 0, 0), rgb, max(factor, 0.0))
    return blend(rgb, (255, 255, 255), min(factor - 1, 1.0))


def jitter(rgb: Rgb, rng: random.Random) -> Rgb:
    """Vary a colour slightly, so that its name stays unambiguous."""
    gain = rng.uniform(0.93, 1.06)
    spread = 3 if max(rgb) - min(rgb) < 20 else 7  # grey must not gain a hue
    red, green, blue = (min(255, max(0, round(value * gain + rng.uniform(-spread, spread)))) for value in rgb)
    return red, green, blue


def deepen(rgb: Rgb, factor: float | int) -> Rgb:
    """Darken a colour and increase its saturation, so that dark pink stays pink and dark yellow does not become olive.

    >>> deepen((250, 150, 200), 0.8)
    (200, 104, 152)
    """
    top = max(rgb)
    return (
        int(factor * max(rgb[0] - 0.2 * (top - rgb[0]), 0) + 0.5),
        int(factor * max(rgb[1] - 0.2 * (top - rgb[1]), 0) + 0.5),
        int(factor * max(rgb[2] - 0.2 * (top - rgb[2]), 0) + 0.5),
    )


def nearest(rgb: Rgb) -> str:
    """Return the name of the nearest of the twelve colours; hue weighs more than lightness.

    >>> nearest((200, 40, 30)), nearest((210, 110, 150))
    ('red', 'pink')
    """
    target = _opponent(rgb)
    return min(
        COLOURS, key=lambda name: sum((a - b) ** 2 for a, b in zip(_opponent(COLOURS[name]), target, strict=True))
    )


def _opponent(rgb: Rgb) -> tuple[float, float, float]:
    """Return opponent-colour axes: half the lightness, red - green, and blue - mean of red and green."""
    red, green, blue = rgb
    return 0.5 * lightness(rgb), float(red - green), blue - (red + green) / 2


def second_colour(rgb: Rgb, rng: random.Random) -> Rgb:
    """Return the second colour of a pattern: near white or a shade of the same colour, never a different named colour."""
    light, purity = lightness(rgb), max(rgb) - min(rgb)
    if light > 225:  # white: only a pale grey-blue is neither white nor grey
        return (202, 207, 217)
    if light < DARKEST_LIGHTNESS and purity < 40:  # a black and white pattern could be called either
        return (78, 79, 88)
    if purity < 25:
        return shade(rgb, 1.45)
    if light > 160 and rgb[0] > rgb[2] and min(rgb) < 100:  # yellow: white has no contrast on it
        return deepen(rgb, 0.78)
    deep = purity > 90 and light < 110 and rgb[0] < 170  # dark red and orange would be brown, dark pink purple
    return deepen(rgb, 0.6) if deep and rng.random() < 0.3 else shade(rgb, 1.84)
