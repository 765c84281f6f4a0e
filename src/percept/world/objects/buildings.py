"""Buildings and other structures."""

import math
import random

from percept.world.objects.parts import spread, windows
from percept.world.pen import Pen, Role


def house(pen: Pen, rng: random.Random) -> None:
    """Walls, a gable roof, door, windows, chimney."""
    u = rng.uniform
    eaves, ridge, wide = u(-0.3, -0.08), u(-0.98, -0.8), u(0.66, 0.8)
    side = rng.choice((-1, 1))
    pen.rect(Role.DARK, side * 0.44 - 0.1, ridge + 0.02, side * 0.44 + 0.1, eaves - 0.1)
    pen.rect(Role.MAIN, -wide, eaves - 0.02, wide, 0.9)
    pen.poly(Role.DARK, [(-wide - 0.16, eaves + 0.04), (0, ridge), (wide + 0.16, eaves + 0.04)])
    door = rng.choice((-0.34, 0.0, 0.34))
    pen.rect(Role.WOOD, door - 0.15, 0.34, door + 0.15, 0.9)
    places = [x for x in (-0.44, 0.0, 0.44) if abs(x - door) > 0.3]
    windows(pen, places, (0.42,), 0.28, 0.28)
    if eaves < -0.14:
        windows(pen, (-0.36, 0.36), (0.02,), 0.24, 0.22)


def church(pen: Pen, rng: random.Random) -> None:
    """A tower with a spire and a cross next to a lower nave."""
    u = rng.uniform
    spire, tower = u(-0.76, -0.6), u(0.24, 0.3)
    x = -0.46
    pen.line(Role.INK, [(x, spire - 0.04), (x, spire - 0.24)], 0.05)
    pen.line(Role.INK, [(x - 0.09, spire - 0.16), (x + 0.09, spire - 0.16)], 0.05)
    pen.rect(Role.MAIN, -0.3, 0.16, 0.9, 0.9)
    pen.poly(Role.DARK, [(-0.3, 0.2), (-0.2, -0.22), (0.8, -0.22), (0.98, 0.2)])
    pen.rect(Role.MAIN, x - tower, -0.2, x + tower, 0.9)
    pen.poly(Role.DARK, [(x - tower - 0.07, -0.18), (x, spire), (x + tower + 0.07, -0.18)])
    for wx in (0.12, 0.42, 0.72):
        pen.rect(Role.GLASS, wx - 0.08, 0.4, wx + 0.08, 0.7, radius=0.08)
    pen.ellipse(Role.GLASS, x, 0.06, 0.1)
    pen.rect(Role.WOOD, x - 0.13, 0.5, x + 0.13, 0.92, radius=0.1)


def castle(pen: Pen, rng: random.Random) -> None:
    """Two towers with battlements, a gate between them, flags."""
    u = rng.uniform
    high, wall = u(-0.6, -0.42), u(-0.12, 0.1)
    pen.rect(Role.MAIN, -0.6, wall, 0.6, 0.9)
    for x in spread(-0.3, 0.3, 3):
        pen.rect(Role.MAIN, x - 0.09, wall - 0.14, x + 0.09, wall + 0.02)
    pointed = rng.random() < 0.4
    for side in (-1, 1):
        x = side * 0.66
        pen.rect(Role.MAIN, x - 0.26, high, x + 0.26, 0.9)
        if pointed:
            pen.poly(Role.DARK, [(x - 0.34, high + 0.02), (x, high - 0.5), (x + 0.34, high + 0.02)])
        else:
            pen.rect(Role.DARK, x - 0.32, high - 0.04, x + 0.32, high + 0.12)
            for k in (-1, 0, 1):
                pen.rect(Role.DARK, x + 0.22 * k - 0.08, high - 0.2, x + 0.22 * k + 0.08, high)
        pen.rect(Role.INK, x - 0.05, high + 0.3, x + 0.05, high + 0.56, radius=0.05)
    pen.rect(Role.WOOD, -0.19, 0.34, 0.19, 1.06, radius=0.19)


def lighthouse(pen: Pen, rng: random.Random) -> None:
    """A tapering tower with pale bands, gallery and lantern."""
    u = rng.uniform
    foot, top = u(0.36, 0.46), u(0.2, 0.26)
    pen.poly(Role.MAIN, [(-top, -0.44), (top, -0.44), (foot, 0.92), (-foot, 0.92)])
    for y in (-0.16, 0.34):
        across, lower = (top + (foot - top) * (v + 0.44) / 1.36 for v in (y, y + 0.2))
        pen.poly(Role.WHITE, [(-across, y), (across, y), (lower, y + 0.2), (-lower, y + 0.2)])
    pen.rect(Role.GOLD, -top * 0.7, -0.72, top * 0.7, -0.5)
    pen.line(Role.DARK, [(0, -0.72), (0, -0.5)], 0.05)
    pen.rect(Role.DARK, -top - 0.1, -0.52, top + 0.1, -0.42, radius=0.03)
    pen.dome(Role.MAIN, 0, -0.7, top * 0.9, u(0.2, 0.28))
    pen.rect(Role.INK, -0.1, 0.66, 0.1, 0.92)


def tent(pen: Pen, rng: random.Random) -> None:
    """A ridge tent with an open flap and a long side."""
    u = rng.uniform
    top, back = u(-0.62, -0.48), u(0.3, 0.5)
    pen.poly(Role.DARK, [(-0.3, top), (back, top + 0.1), (0.98, 0.56), (0.32, 0.66)])
    pen.poly(Role.MAIN, [(-0.3, top), (0.34, 0.66), (-0.96, 0.66)])
    pen.poly(Role.INK, [(-0.3, top + 0.34), (-0.06, 0.66), (-0.5, 0.66)])
    pen.poly(Role.LIGHT, [(-0.3, top + 0.3), (-0.36, 0.66), (-0.62, 0.66)])
    pen.line(Role.WOOD, [(-0.3, top - 0.1), (-0.3, top + 0.1)], 0.05)


def windmill(pen: Pen, rng: random.Random) -> None:
    """A tapering tower with a cap and four sails."""
    u = rng.uniform
    turn, reach = u(0, 90), u(0.62, 0.74)
    x, y = 0.0, -0.3
    pen.poly(Role.MAIN, [(-0.26, -0.26), (0.26, -0.26), (0.44, 0.96), (-0.44, 0.96)])
    pen.dome(Role.DARK, x, -0.22, 0.3, 0.3)
    pen.rect(Role.WOOD, -0.11, 0.64, 0.11, 0.96)
    pen.rect(Role.GLASS, -0.09, 0.2, 0.09, 0.4)
    for k in range(4):
        angle = math.radians(turn + 90 * k)
        ax, ay = math.cos(angle), math.sin(angle)
        pen.line(Role.WOOD, [(x, y), (x + reach * ax, y + reach * ay)], 0.05)
        start, wide = 0.2, 0.19
        pen.poly(
            Role.LIGHT,
            [
                (x + start * ax, y + start * ay),
                (x + reach * ax, y + reach * ay),
                (x + reach * ax - wide * ay, y + reach * ay + wide * ax),
                (x + start * ax - wide * ay, y + start * ay + wide * ax),
            ],
        )
    pen.ellipse(Role.INK, x, y, 0.07)


def bridge(pen: Pen, rng: random.Random) -> None:
    """A stone bridge with arches and a parapet."""
    u = rng.uniform
    rise, count = u(0.16, 0.34), rng.choice((1, 2, 2, 3))
    top = [(x, 0.06 - rise * math.cos(x * math.pi / 2)) for x in spread(-0.98, 0.98, 11)]
    under = [(0.98, 0.6)]
    wide = 1.76 / count
    for k in range(count):
        centre = 0.88 - wide * (k + 0.5)
        radius = wide * 0.4
        under += [
            (
                centre + radius * math.cos(math.pi * step / 8),
                0.6 - 0.46 * min(1.0, 1.6 / count) * math.sin(math.pi * step / 8),
            )
            for step in range(9)
        ]
    pen.poly(Role.MAIN, [*top, *under, (-0.98, 0.6)])
    pen.line(Role.DARK, [(x, y - 0.02) for x, y in top], 0.1)
    for x, y in top[1::2]:
        pen.rect(Role.DARK, x - 0.06, y - 0.2, x + 0.06, y)
