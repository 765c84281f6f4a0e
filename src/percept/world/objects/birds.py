"""Birds, facing right."""

import random

from percept.world.objects.parts import dot_eye, eye, spread
from percept.world.pen import Pen, Role


def bird(pen: Pen, rng: random.Random) -> None:
    """A small bird: round head, short beak; perching, or flying with its wing raised."""
    u = rng.uniform
    tail, flying = u(-0.3, 0.1), rng.random() < 0.35
    if not flying:
        for x in (-0.02, 0.16):
            pen.line(Role.GOLD, [(x, 0.5), (x + 0.04, 0.88), (x + 0.2, 0.9)], 0.06)
    pen.poly(Role.DARK, [(-0.4, 0.0), (-1.0, tail - 0.08), (-0.98, tail + 0.16), (-0.36, 0.34)])
    pen.poly(Role.GOLD, [(0.66, -0.5), (0.98, -0.36), (0.66, -0.26)])
    body = [(-0.56, 0.1), (-0.1, -0.2), (0.14, -0.6), (0.46, -0.74)]
    pen.blob(Role.MAIN, [*body, (0.74, -0.44), (0.62, 0.1), (0.24, 0.56), (-0.24, 0.5)])
    pen.blob(Role.LIGHT, [(0.6, -0.1), (0.56, 0.14), (0.22, 0.5), (0.16, 0.2)], edge=False)
    if flying:
        reach = u(-1.05, -0.8)
        pen.blob(Role.DARK, [(0.22, 0.1), (0.0, -0.4), (-0.5, reach), (-0.6, -0.3), (-0.34, 0.06), (-0.1, 0.26)])
    else:
        pen.blob(Role.DARK, [(0.2, -0.1), (-0.1, -0.18), (-0.66, u(-0.1, 0.25)), (-0.2, 0.26), (0.16, 0.2)])
    eye(pen, 0.46, -0.46, 0.1)


def duck(pen: Pen, rng: random.Random) -> None:
    """Boat-shaped body, upright neck, flat beak."""
    u = rng.uniform
    x, y = 0.42 + u(-0.06, 0.08), -0.5 + u(-0.1, 0.08)
    pen.blob(Role.GOLD, [(x + 0.2, y - 0.06), (x + 0.56, y + 0.02), (x + 0.54, y + 0.16), (x + 0.2, y + 0.16)])
    pen.poly(Role.MAIN, [(-0.5, 0.1), (-0.98, -0.16 + u(-0.12, 0.1)), (-0.8, 0.4)])
    pen.blob(
        Role.MAIN,
        [
            (-0.84, 0.16),
            (-0.3, 0.04),
            (0.14, 0.12),
            (x - 0.16, y + 0.2),
            (x + 0.26, y + 0.2),
            (0.74, 0.36),
            (0.4, 0.76),
            (-0.4, 0.76),
        ],
    )
    pen.ellipse(Role.MAIN, x, y, 0.31, 0.29)
    pen.blob(Role.DARK, [(0.26, 0.26), (-0.2, 0.16), (-0.66, 0.24), (-0.3, 0.52), (0.12, 0.54)])
    dot_eye(pen, x + 0.1, y - 0.06, 0.06)


def penguin(pen: Pen, rng: random.Random) -> None:
    """Upright, pale belly, flippers, orange feet."""
    u = rng.uniform
    wide, flap = u(0.4, 0.5), u(0.06, 0.34)
    for side in (-1, 1):
        pen.ellipse(Role.GOLD, side * 0.22, 0.9, 0.2, 0.08)
        pen.blob(
            Role.DARK,
            [(side * 0.3, -0.3), (side * (wide + 0.12 + flap), 0.3), (side * (wide + flap), 0.4), (side * 0.3, 0.3)],
        )
    pen.blob(
        Role.MAIN,
        [
            (0, -0.95),
            (0.34, -0.72),
            (0.36, -0.4),
            (wide, 0.3),
            (0.3, 0.86),
            (-0.3, 0.86),
            (-wide, 0.3),
            (-0.36, -0.4),
            (-0.34, -0.72),
        ],
    )
    pen.ellipse(Role.WHITE, 0.02, 0.36, wide * 0.62, 0.44)
    for side in (-1, 1):
        eye(pen, 0.02 + side * 0.15, -0.62, 0.09, look=0.1)
    pen.poly(Role.GOLD, [(-0.11, -0.5), (0.15, -0.5), (0.02, -0.32)])


def owl(pen: Pen, rng: random.Random) -> None:
    """Two huge eyes, ear tufts, folded wings."""
    u = rng.uniform
    wide, tuft = u(0.52, 0.62), u(0.78, 0.98)
    for side in (-1, 1):
        pen.poly(Role.MAIN, [(side * 0.14, -0.68), (side * 0.52, -tuft), (side * 0.56, -0.4)])
        pen.line(Role.GOLD, [(side * 0.18, 0.84), (side * 0.2, 0.95)], 0.12)
    pen.blob(
        Role.MAIN,
        [(0, -0.76), (0.5, -0.66), (wide, 0.0), (0.44, 0.74), (0, 0.92), (-0.44, 0.74), (-wide, 0.0), (-0.5, -0.66)],
    )
    for side in (-1, 1):
        pen.blob(Role.DARK, [(side * 0.46, -0.1), (side * (wide + 0.12), 0.2), (side * 0.42, 0.78), (side * 0.3, 0.3)])
    for row, count in ((0.3, 3), (0.5, 2)):
        for x in spread(-0.1 * count + 0.08, 0.1 * count - 0.08, count):
            pen.poly(Role.LIGHT, [(x - 0.08, row), (x + 0.08, row), (x, row + 0.12)], edge=False)
    for side in (-1, 1):
        pen.ellipse(Role.WHITE, side * 0.25, -0.36, 0.25)
        pen.ellipse(Role.GOLD, side * 0.25, -0.36, 0.17)
        pen.ellipse(Role.INK, side * 0.23, -0.36, 0.11)
    pen.poly(Role.GOLD, [(-0.09, -0.2), (0.09, -0.2), (0, 0.02)])
