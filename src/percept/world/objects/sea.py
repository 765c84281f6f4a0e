"""Animals that live in or near water, facing right."""

import random

from percept.world.objects.parts import dot_eye, eye, polygon, spread
from percept.world.pen import Pen, Role


def fish(pen: Pen, rng: random.Random) -> None:
    """An oval with tail fin, back fin and a large eye."""
    u = rng.uniform
    high, tail = u(0.38, 0.56), u(0.34, 0.52)
    pen.blob(Role.DARK, [(-0.4, 0.0), (-0.95, -tail), (-0.82, 0.0), (-0.95, tail)])
    pen.blob(Role.DARK, [(-0.25, -high * 0.7), (0.05, -high - u(0.1, 0.26)), (0.35, -high * 0.7), (0.0, -high * 0.4)])
    pen.poly(Role.DARK, [(-0.1, high * 0.7), (-0.2, high + 0.22), (0.22, high * 0.8)])
    pen.blob(
        Role.MAIN, [(-0.62, 0.0), (-0.1, -high), (0.5, -high * 0.8), (0.96, 0.02), (0.5, high * 0.8), (-0.1, high)]
    )
    pen.arc(Role.EDGE, 0.2, 0.0, 0.24, high * 0.8, -60, 60, 0.04)
    pen.blob(Role.DARK, [(0.14, 0.04), (-0.2, 0.0), (-0.28, 0.24), (0.02, 0.2)])
    eye(pen, 0.64, -0.12, 0.12)
    pen.line(Role.EDGE, [(0.92, 0.1), (0.76, 0.16)], 0.04)


def turtle(pen: Pen, rng: random.Random) -> None:
    """A domed shell with plates over pale legs, head and tail."""
    u = rng.uniform
    head, high = u(-0.26, 0.16), u(0.58, 0.8)
    pen.poly(Role.CREAM, [(-0.6, 0.3), (-0.92, 0.5), (-0.6, 0.46)])
    for x in (-0.44, 0.34):
        pen.line(Role.CREAM, [(x, 0.36), (x + u(-0.1, 0.1), 0.62)], 0.24)
    pen.curve(Role.CREAM, [(0.4, 0.34), (0.64, 0.2), (0.8, head)], 0.24)
    dot_eye(pen, 0.84, head - 0.05, 0.045)
    pen.dome(Role.MAIN, -0.06, 0.38, 0.7, high)
    plates = ((-0.06, 0.38 - 0.64 * high, 0.18), (-0.4, 0.16, 0.13), (0.28, 0.16, 0.13), (-0.06, 0.2, 0.12))
    for x, y, size in plates:
        pen.poly(Role.DARK, polygon(x, y, size, 6))
    pen.rect(Role.MAIN, -0.82, 0.3, 0.7, 0.46, radius=0.08)


def crab(pen: Pen, rng: random.Random) -> None:
    """A wide shell, raised claws, stalked eyes, legs to the sides."""
    u = rng.uniform
    for side in (-1, 1):
        for k in range(3):
            pen.line(
                Role.DARK,
                [
                    (side * 0.4, 0.26 + 0.08 * k),
                    (side * (0.82 - 0.1 * k), 0.28 + 0.16 * k),
                    (side * (0.9 - 0.14 * k), 0.56 + 0.14 * k),
                ],
                0.09,
                0.05,
            )
        x, y = side * (0.74 + u(-0.05, 0.05)), -0.44 + u(-0.14, 0.1)
        pen.line(Role.MAIN, [(side * 0.42, 0.06), (side * 0.78, -0.04), (x, y)], 0.14)
        pen.pie(Role.MAIN, x, y - 0.08, 0.26, 0.28, -60 if side < 0 else -70, 250 if side < 0 else 240)
        pen.line(Role.MAIN, [(side * 0.16, 0.0), (side * 0.18, -0.36)], 0.07)
        eye(pen, side * 0.18, -0.4, 0.11, look=0)
    pen.blob(Role.MAIN, [(-0.6, 0.2), (-0.4, -0.08), (0.4, -0.08), (0.6, 0.2), (0.36, 0.56), (-0.36, 0.56)])
    pen.arc(Role.EDGE, 0, 0.2, 0.2, 0.16, 30, 150, 0.05)


def octopus(pen: Pen, rng: random.Random) -> None:
    """A big round head over curling arms."""
    u = rng.uniform
    for k, x in enumerate(spread(-0.42, 0.42, 6)):
        out = x * 1.9 + u(-0.08, 0.08)
        pen.curve(
            Role.DARK if k % 2 else Role.MAIN,
            [(x, 0.1), (x * 1.3, 0.5), (out, 0.66), (out + 0.16 * (1 if k % 2 else -1), 0.94)],
            0.2,
            0.09,
        )
    pen.blob(
        Role.MAIN, [(0, -0.95), (0.52, -0.7), (0.58, -0.2), (0.48, 0.28), (-0.48, 0.28), (-0.58, -0.2), (-0.52, -0.7)]
    )
    for side in (-1, 1):
        eye(pen, side * 0.22, -0.18, 0.15, look=0.15)
    pen.arc(Role.EDGE, 0, 0.0, 0.14, 0.12, 20, 160, 0.05)


def whale(pen: Pen, rng: random.Random) -> None:
    """A big head, a rising tail with two flukes and a spout."""
    u = rng.uniform
    tail = u(-0.5, -0.3)
    if rng.random() < 0.7:
        for side in (-1, 1):
            pen.curve(Role.GLASS, [(0.36, -0.34), (0.36 + side * 0.08, -0.7), (0.36 + side * 0.3, -0.72)], 0.09, 0.05)
    pen.blob(
        Role.DARK,
        [(-0.8, tail + 0.06), (-1.0, tail - 0.34), (-0.78, tail - 0.18), (-0.52, tail - 0.34), (-0.66, tail + 0.06)],
    )
    pen.blob(
        Role.MAIN,
        [
            (-0.84, tail),
            (-0.66, tail),
            (-0.4, 0.04),
            (0.1, -0.36),
            (0.62, -0.34),
            (0.94, 0.08),
            (0.74, 0.54),
            (0.1, 0.66),
            (-0.5, 0.46),
        ],
    )
    pen.blob(Role.WHITE, [(0.9, 0.26), (0.74, 0.53), (0.1, 0.65), (-0.3, 0.54), (0.3, 0.4)], edge=False)
    pen.blob(Role.DARK, [(0.2, 0.34), (-0.02, 0.76), (0.3, 0.64), (0.38, 0.38)])
    dot_eye(pen, 0.62, 0.06, 0.06)


def frog(pen: Pen, rng: random.Random) -> None:
    """A squatting frog: eyes on top of the head, wide mouth, big feet."""
    u = rng.uniform
    for side in (-1, 1):
        pen.ellipse(Role.DARK, side * 0.6, 0.42, 0.32, u(0.32, 0.42), angle=side * 30)
        pen.ellipse(Role.MAIN, side * 0.64, 0.82, 0.32, 0.1)
        pen.ellipse(Role.MAIN, side * 0.32, -0.56, 0.21)
    pen.blob(
        Role.MAIN,
        [
            (0, -0.46),
            (0.56, -0.34),
            (0.62, 0.0),
            (0.52, 0.6),
            (0.24, 0.86),
            (-0.24, 0.86),
            (-0.52, 0.6),
            (-0.62, 0.0),
            (-0.56, -0.34),
        ],
    )
    pen.ellipse(Role.LIGHT, 0, 0.46, 0.34, 0.34)
    for side in (-1, 1):
        eye(pen, side * 0.32, -0.58, 0.14, look=0)
        pen.line(Role.MAIN, [(side * 0.26, 0.3), (side * 0.22, 0.86)], 0.15)
    pen.arc(Role.EDGE, 0, -0.22, 0.4, u(0.14, 0.26), 15, 165, 0.06)
