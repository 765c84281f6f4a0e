"""Parts shared by many objects: eyes, legs, wheels, windows."""

import math
import random
from collections.abc import Sequence

from percept.world.pen import Number, Pen, Point, Role


def eye(pen: Pen, x: Number, y: Number, radius: Number, *, look: Number = 0.3) -> None:
    """Draw a white eye whose pupil looks right (`look` > 0) or left."""
    pen.ellipse(Role.WHITE, x, y, radius)
    pen.ellipse(Role.INK, x + look * radius, y + 0.05 * radius, 0.58 * radius)


def dot_eye(pen: Pen, x: Number, y: Number, radius: Number) -> None:
    """Draw an eye as a dark dot."""
    pen.ellipse(Role.INK, x, y, radius)


def legs(
    pen: Pen,
    rng: random.Random,
    places: Sequence[Number],
    top: Number,
    bottom: Number,
    width: Number,
    *,
    far: bool,
    swing: Number = 0.12,
    hoof: int | None = None,
) -> None:
    """Draw legs at the given x positions, with random feet; `far` legs are darker."""
    for x in places:
        foot = x + rng.uniform(-swing, swing)
        role = Role.DARK if far else Role.MAIN
        pen.line(role, [(x, top), (x + 0.2 * (foot - x), (top + bottom) / 2), (foot, bottom)], width, 0.8 * width)
        if hoof is not None:
            pen.rect(hoof, foot - 0.45 * width, bottom - 0.3 * width, foot + 0.5 * width, bottom + 0.45 * width)


def wheel(pen: Pen, x: Number, y: Number, radius: Number, *, hub: int = Role.METAL) -> None:
    """Draw a wheel with tyre and hub."""
    pen.ellipse(Role.INK, x, y, radius)
    pen.ellipse(hub, x, y, (0.5 if hub == Role.METAL else 0.64) * radius)


def windows(
    pen: Pen,
    xs: Sequence[Number],
    ys: Sequence[Number],
    wide: Number,
    high: Number,
    *,
    role: int = Role.GLASS,
    radius: Number = 0.0,
) -> None:
    """Draw a grid of windows with these centres."""
    for y in ys:
        for x in xs:
            pen.rect(role, x - wide / 2, y - high / 2, x + wide / 2, y + high / 2, radius=radius)


def spread(first: Number, last: Number, count: int) -> list[Number]:
    """Return `count` evenly spaced numbers from first to last.

    >>> spread(0.0, 1.0, 3)
    [0.0, 0.5, 1.0]
    """
    if count == 1:
        return [(first + last) / 2]
    return [first + (last - first) * k / (count - 1) for k in range(count)]


def polygon(x: Number, y: Number, radius: Number, count: int, *, turn: Number = 0.0) -> list[Point]:
    """Return the corners of a regular polygon; `turn` is a fraction of a full rotation."""
    angles = [2 * math.pi * (k / count + turn) for k in range(count)]
    return [(x + radius * math.cos(angle), y + radius * math.sin(angle)) for angle in angles]
