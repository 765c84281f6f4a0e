"""Insects, reptiles and other crawling animals, facing right."""

import math
import random

from percept.world.objects.parts import eye
from percept.world.pen import Pen, Role


def snail(pen: Pen, rng: random.Random) -> None:
    """A spiral shell on a soft foot with two feelers."""
    u = rng.uniform
    lift = u(-0.2, 0.1)
    for x in (0.72, 0.92):
        pen.line(Role.CREAM, [(0.7, 0.1 + lift), (x, -0.36 + lift + u(-0.06, 0.06))], 0.05)
        pen.ellipse(Role.INK, x, -0.38 + lift, 0.055)
    pen.blob(
        Role.CREAM,
        [(-0.98, 0.72), (-0.4, 0.5), (0.4, 0.48), (0.54, 0.1 + lift), (0.84, 0.06 + lift), (0.86, 0.5), (0.6, 0.74)],
    )
    x, y, outer = -0.14, 0.06, u(0.54, 0.62)
    pen.ellipse(Role.MAIN, x, y, outer)
    spiral = []
    for k in range(26):
        angle, radius = 0.5 * k, outer * (0.86 - 0.033 * k)
        spiral.append((x + radius * math.cos(angle), y + radius * math.sin(angle)))
    pen.line(Role.EDGE, spiral, 0.07, 0.04)


def butterfly(pen: Pen, rng: random.Random) -> None:
    """Four wings with spots and a thin body, seen from above."""
    u = rng.uniform
    up, out, low = u(0.6, 0.86), u(0.8, 0.98), u(0.6, 0.84)
    for side in (-1, 1):
        pen.curve(Role.INK, [(0.0, -0.4), (side * 0.1, -0.66), (side * 0.26, -0.84)], 0.035)
        pen.blob(
            Role.DARK,
            [(side * 0.04, 0.08), (side * 0.56, 0.1), (side * 0.68, 0.5), (side * 0.42, low), (side * 0.14, 0.5)],
        )
        pen.blob(
            Role.MAIN,
            [
                (side * 0.04, -0.16),
                (side * 0.4, -up),
                (side * out, -up * 0.92),
                (side * 0.86, -0.14),
                (side * 0.5, 0.2),
                (side * 0.05, 0.14),
            ],
        )
        pen.ellipse(Role.LIGHT, side * 0.6, -0.4, 0.17, 0.15)
        pen.ellipse(Role.WHITE, side * 0.44, 0.4, 0.09)
    pen.ellipse(Role.INK, 0, 0.06, 0.075, 0.44)
    pen.ellipse(Role.INK, 0, -0.4, 0.1)


def spider(pen: Pen, rng: random.Random) -> None:
    """A round body on eight bent legs, sometimes hanging from a thread."""
    u = rng.uniform
    if rng.random() < 0.3:
        pen.line(Role.METAL, [(0, -1.1), (0, 0.0)], 0.035)
    for side in (-1, 1):
        for k, (knee_y, foot_y) in enumerate(((-0.72, -0.36), (-0.44, 0.2), (-0.16, 0.64), (0.3, 0.94))):
            knee = (side * (0.62 + 0.08 * (k in (1, 2)) + u(-0.05, 0.05)), knee_y + u(-0.1, 0.1))
            foot = (side * (0.9 + u(-0.08, 0.06) - 0.16 * (k == 3)), foot_y + u(-0.06, 0.06))
            pen.line(Role.MAIN, [(side * 0.2, -0.05 + 0.06 * k), knee, foot], 0.11, 0.07)
    pen.ellipse(Role.MAIN, 0, 0.22, u(0.42, 0.54), u(0.44, 0.56))
    pen.poly(Role.LIGHT, [(0, 0.0), (0.14, 0.26), (0, 0.52), (-0.14, 0.26)])
    pen.ellipse(Role.MAIN, 0, -0.26, 0.28, 0.24)
    for side in (-1, 1):
        eye(pen, side * 0.12, -0.34, 0.1, look=0)


def snake(pen: Pen, rng: random.Random) -> None:
    """A thick wavy line with a head, an eye and a forked tongue."""
    u = rng.uniform
    wave, wide = u(0.26, 0.42), u(0.27, 0.34)
    tail = [(0.18, 0.4), (-0.12, 0.5 + wave * 0.8), (-0.42, 0.5), (-0.7, 0.5 - wave), (-0.95, 0.5)]
    path = [(0.66, -0.4), (0.4, -0.34), (0.22, 0.0), *tail]
    pen.line(Role.ROSE, [(0.84, -0.4), (1.1, -0.36)], 0.06)
    pen.line(Role.ROSE, [(1.04, -0.38), (1.16, -0.48)], 0.05)
    pen.curve(Role.MAIN, path, wide, 0.08)
    for x, y in (path[1], path[2], path[3], path[4], path[6]):
        pen.ellipse(Role.DARK, x, y, 0.08, 0.075)
    pen.ellipse(Role.MAIN, 0.74, -0.42, 0.25, 0.19)
    eye(pen, 0.8, -0.5, 0.09)


def dinosaur(pen: Pen, rng: random.Random) -> None:
    """A two-legged dinosaur: heavy tail, small arms, plates on the back."""
    u = rng.uniform
    x, y = 0.52, -0.66 + u(-0.08, 0.08)
    for px, py in ((0.18, -0.5), (0.06, -0.2), (-0.14, 0.02), (-0.4, 0.2), (-0.64, 0.4)):
        pen.poly(Role.DARK, [(px + 0.16, py - 0.1), (px - 0.16, py - 0.18), (px - 0.06, py + 0.16)])
    pen.line(Role.DARK, [(0.14, 0.5), (0.2 + u(-0.06, 0.1), 0.92)], 0.24)
    pen.blob(
        Role.MAIN,
        [
            (0.24, -0.6),
            (0.56, -0.3),
            (0.58, 0.1),
            (0.4, 0.54),
            (-0.1, 0.64),
            (-0.6, 0.7),
            (-1.0, 0.62 + u(-0.3, 0.1)),
            (-0.6, 0.46),
            (-0.14, 0.14),
            (0.08, -0.24),
        ],
    )
    pen.line(Role.MAIN, [(-0.06, 0.5), (-0.08, 0.92)], 0.28)
    pen.line(Role.MAIN, [(-0.1, 0.92), (0.1, 0.92)], 0.16)
    pen.blob(
        Role.MAIN,
        [
            (x - 0.36, y - 0.1),
            (x - 0.06, y - 0.26),
            (x + 0.4, y - 0.1),
            (x + 0.42, y + 0.12),
            (x + 0.1, y + 0.24),
            (x - 0.28, y + 0.28),
        ],
    )
    pen.line(Role.EDGE, [(x + 0.4, y + 0.1), (x + 0.1, y + 0.1)], 0.04)
    pen.line(Role.DARK, [(0.52, -0.02), (0.78, 0.1 + u(-0.1, 0.1))], 0.11)
    eye(pen, x, y - 0.08, 0.08)
