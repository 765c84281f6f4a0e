"""Tools."""

import math
import random

from percept.world.objects.parts import spread
from percept.world.pen import Pen, Role


def hammer(pen: Pen, rng: random.Random) -> None:
    """A coloured handle and a broad head with a claw."""
    u = rng.uniform
    thick = u(0.3, 0.4)
    pen.line(Role.MAIN, [(0, -0.4), (0, 0.8)], thick, thick + 0.08)
    for y in (0.5, 0.64, 0.78):
        pen.line(Role.DARK, [(-thick * 0.3, y), (thick * 0.3, y)], 0.06)
    pen.blob(Role.METAL, [(-0.2, -0.84), (-0.54, -0.84), (-0.86, -0.5), (-0.5, -0.6), (-0.2, -0.54)])
    pen.rect(Role.MAIN, -0.28, -0.9, 0.36, -0.46, radius=0.06)
    pen.rect(Role.METAL, 0.34, -0.92, u(0.56, 0.66), -0.44, radius=0.06)


def saw(pen: Pen, rng: random.Random) -> None:
    """A toothed blade and a big handle with a grip hole."""
    u = rng.uniform
    high, count = u(0.1, 0.2), rng.randrange(6, 10)
    teeth = []
    for k in range(count):
        x = 0.95 - 1.3 * k / count
        teeth += [(x, 0.14), (x - 1.3 / count * 0.6, 0.28)]
    pen.poly(Role.METAL, [(-0.4, -0.24), (0.96, 0.06 - high), *teeth, (-0.4, 0.18)])
    grip = [(-0.26, -0.5), (-0.06, -0.1), (-0.18, 0.4), (-0.56, 0.6), (-0.97, 0.5), (-1.0, 0.0), (-0.86, -0.46)]
    pen.blob(Role.MAIN, [*grip, (-0.56, -0.58)])
    pen.ellipse(Role.DARK, -0.62, 0.02, 0.12, 0.22, angle=-14)
    pen.line(Role.LIGHT, [(-0.26, -0.2), (-0.26, 0.16)], 0.08)


def scissors(pen: Pen, rng: random.Random) -> None:
    """Two crossed blades and two loops."""
    u = rng.uniform
    gap, bow = u(0.16, 0.46), u(0.34, 0.42)
    for side in (-1, 1):
        blade = [(side * gap, -0.9), (side * (gap - 0.15), -0.84), (-side * 0.12, 0.1), (side * 0.08, 0.14)]
        pen.poly(Role.METAL, blade)
    for side in (-1, 1):
        x = side * (0.36 + gap * 0.3)
        pen.line(Role.MAIN, [(-side * 0.06, -0.04), (side * 0.22, 0.4)], 0.3)
        pen.ring(Role.MAIN, x, 0.58, bow, bow * 0.62)
    pen.ellipse(Role.METAL, 0, 0.04, 0.08)


def key(pen: Pen, rng: random.Random) -> None:
    """A round or three-lobed bow with a hole, a shaft and two or three teeth."""
    u = rng.uniform
    bow, teeth = u(0.38, 0.46), rng.randrange(2, 4)
    pen.rect(Role.MAIN, -0.12, -0.1, 0.12, 0.96, radius=0.04)
    for y in spread(0.86, 0.46, teeth):
        pen.rect(Role.MAIN, 0.06, y - 0.08, u(0.34, 0.48), y + 0.08)
    if rng.random() < 0.4:
        for x, y in ((-0.32, -0.36), (0.32, -0.36), (0.0, -0.74)):
            pen.ring(Role.MAIN, x, y, 0.28, 0.17)
        pen.ellipse(Role.MAIN, 0, -0.46, 0.16)
    else:
        pen.ring(Role.MAIN, 0, -0.52, bow, bow * 0.6)
    pen.rect(Role.DARK, -0.2, -0.16, 0.2, -0.02, radius=0.04)


def wrench(pen: Pen, rng: random.Random) -> None:
    """A straight shaft with an open jaw above and a ring below."""
    u = rng.uniform
    jaw, thick = u(0.34, 0.42), u(0.22, 0.3)
    pen.line(Role.MAIN, [(0, -0.5), (0, 0.6)], thick)
    pen.line(Role.DARK, [(0, -0.2), (0, 0.36)], thick * 0.4)
    head = [(jaw * math.cos(math.radians(a)), -0.6 + jaw * math.sin(math.radians(a))) for a in range(-58, 240, 18)]
    pen.poly(Role.MAIN, [*head, (-jaw * 0.5, -0.62), (0, -0.48), (jaw * 0.5, -0.62)])
    pen.ellipse(Role.MAIN, 0, 0.68, 0.3)
    pen.poly(Role.INK, [(0.15 * math.cos(k * math.pi / 3), 0.68 + 0.15 * math.sin(k * math.pi / 3)) for k in range(6)])


def ladder(pen: Pen, rng: random.Random) -> None:
    """Two rails and rungs, a little narrower at the top."""
    u = rng.uniform
    top, low, rungs = u(0.26, 0.34), u(0.36, 0.46), rng.randrange(4, 7)
    for y in spread(-0.7, 0.74, rungs):
        pen.line(Role.DARK, [(-low, y), (low, y)], 0.13)
    for side in (-1, 1):
        pen.line(Role.MAIN, [(side * top, -0.94), (side * low, 0.94)], 0.17)


def pencil(pen: Pen, rng: random.Random) -> None:
    """A hexagonal pencil, point down, with a rubber on top."""
    u = rng.uniform
    half, tip = u(0.18, 0.26), u(0.48, 0.6)
    wide = half * 1.2
    pen.rect(Role.MAIN, -wide, -0.72, wide, tip)
    pen.rect(Role.DARK, -wide, -0.72, -wide * 0.5, tip)
    pen.rect(Role.LIGHT, wide * 0.5, -0.72, wide, tip)
    pen.poly(Role.CREAM, [(-wide, tip), (wide, tip), (0, 0.98)])
    pen.poly(Role.INK, [(-half * 0.4, 0.84), (half * 0.4, 0.84), (0, 1.0)])
    pen.rect(Role.METAL, -wide, -0.82, wide, -0.7)
    pen.rect(Role.ROSE, -wide, -1.0, wide, -0.82, radius=0.06)
