"""Mammals, facing right."""

import math
import random

from percept.world.objects.parts import dot_eye, eye, legs, spread
from percept.world.pen import Pen, Role


def cat(pen: Pen, rng: random.Random) -> None:
    """Sitting, tail to one side, pointed ears, whiskers."""
    u = rng.uniform
    fat, tilt, tail = u(0.34, 0.5), u(-0.12, 0.12), u(-0.1, 0.4)
    s = rng.choice((-1, 1))
    pen.curve(
        Role.MAIN,
        [(s * 0.2, 0.82), (s * 0.66, 0.8), (s * 0.84, 0.45), (s * 0.72, tail - 0.1), (s * 0.86, tail - 0.35)],
        0.17,
        0.12,
    )
    pen.blob(Role.MAIN, [(-0.2, -0.25), (0.2, -0.25), (fat, 0.4), (fat + 0.05, 0.92), (-fat - 0.05, 0.92), (-fat, 0.4)])
    pen.line(Role.LIGHT, [(-0.14, 0.5), (-0.14, 0.88)], 0.17)
    pen.line(Role.LIGHT, [(0.14, 0.5), (0.14, 0.88)], 0.17)
    _cat_head(pen, rng, tilt, -0.42)


def dog(pen: Pen, rng: random.Random) -> None:
    """Standing in profile: hanging ear, long muzzle, tail up."""
    u = rng.uniform
    lift, long = u(-0.1, 0.12), u(0.0, 0.14)
    legs(pen, rng, (-0.5, 0.3), 0.3, 0.86, 0.17, far=True)
    pen.curve(Role.MAIN, [(-0.62, -0.02), (-0.84, -0.25), (-0.86 + u(-0.1, 0.12), -0.6)], 0.15, 0.08)
    pen.blob(
        Role.MAIN,
        [(-0.72, 0.05), (-0.4, -0.16), (0.1, -0.12), (0.4, -0.3), (0.6, 0.05), (0.42, 0.42), (-0.1, 0.32), (-0.6, 0.4)],
    )
    legs(pen, rng, (-0.62, 0.42), 0.28, 0.88, 0.18, far=False)
    x, y = 0.5, -0.45 + lift
    pen.blob(
        Role.MAIN,
        [
            (x - 0.3, y - 0.2),
            (x + 0.05, y - 0.32),
            (x + 0.24, y - 0.1),
            (x + 0.5 + long, y + 0.02),
            (x + 0.48 + long, y + 0.22),
            (x + 0.1, y + 0.26),
            (x - 0.25, y + 0.24),
        ],
    )
    pen.ellipse(Role.INK, x + 0.5 + long, y + 0.02, 0.085)
    dot_eye(pen, x + 0.14, y - 0.08, 0.06)
    pen.blob(
        Role.DARK,
        [
            (x - 0.2, y - 0.28),
            (x + 0.02, y - 0.16),
            (x - 0.04, y + 0.3 + u(0, 0.12)),
            (x - 0.24, y + 0.32),
            (x - 0.34, y),
        ],
    )
    if rng.random() < 0.5:
        pen.line(Role.ROSE, [(0.32, 0.0 + lift * 0.5), (0.62, -0.1 + lift * 0.5)], 0.1)


def rabbit(pen: Pen, rng: random.Random) -> None:
    """Sitting in profile with two long ears and a round white tail."""
    u = rng.uniform
    lean, bend = u(-0.28, 0.02), u(-0.15, 0.15)
    pen.ellipse(Role.WHITE, -0.68, 0.5, 0.18)
    pen.blob(Role.MAIN, [(-0.6, 0.3), (-0.2, -0.08), (0.3, 0.0), (0.42, 0.5), (0.3, 0.86), (-0.5, 0.86)])
    pen.ellipse(Role.DARK, 0.1 + lean, -0.68, 0.12, 0.36, angle=18 * lean - 20)
    pen.ellipse(Role.MAIN, 0.28 + lean + bend, -0.68, 0.13, 0.38, angle=-8 + 60 * bend)
    pen.ellipse(Role.ROSE, 0.29 + lean + bend, -0.68, 0.06, 0.26, angle=-8 + 60 * bend)
    pen.ellipse(Role.MAIN, 0.38, -0.2, 0.36, 0.3)
    dot_eye(pen, 0.5, -0.26, 0.065)
    pen.ellipse(Role.ROSE, 0.72, -0.16, 0.06, 0.05)
    pen.ellipse(Role.LIGHT, -0.24, 0.55, 0.32, 0.28)
    pen.ellipse(Role.MAIN, -0.12, 0.86, 0.34, 0.1)
    pen.ellipse(Role.MAIN, 0.36, 0.84, 0.2, 0.1)


def elephant(pen: Pen, rng: random.Random) -> None:
    """Heavy body, big ear, hanging or lifted trunk, tusk."""
    u = rng.uniform
    raised = rng.random() < 0.35
    legs(pen, rng, (-0.5, 0.18), 0.3, 0.84, 0.26, far=True, swing=0.08)
    pen.curve(Role.DARK, [(-0.78, -0.1), (-0.93, 0.15), (-0.88, 0.4)], 0.06)
    pen.blob(
        Role.MAIN, [(-0.82, 0.0), (-0.5, -0.46), (0.05, -0.46), (0.4, -0.1), (0.3, 0.42), (-0.2, 0.42), (-0.72, 0.4)]
    )
    legs(pen, rng, (-0.6, 0.1), 0.3, 0.86, 0.28, far=False, swing=0.08)
    tip = [(0.98, -0.05), (0.92, -0.5)] if raised else [(0.84, 0.3), (0.74 + u(0.0, 0.2), 0.66)]
    pen.curve(Role.MAIN, [(0.55, -0.25), (0.78, -0.05), *tip], 0.3, 0.13)
    pen.ellipse(Role.MAIN, 0.46, -0.3, 0.36, 0.36)
    pen.curve(Role.WHITE, [(0.62, 0.02), (0.78, 0.16), (0.98, 0.1)], 0.1, 0.03)
    pen.blob(
        Role.DARK, [(0.3, -0.52), (0.02, -0.62), (-0.18 - u(0, 0.1), -0.3), (-0.04, 0.12), (0.2, 0.06), (0.34, -0.15)]
    )
    dot_eye(pen, 0.55, -0.36, 0.06)


def giraffe(pen: Pen, rng: random.Random) -> None:
    """Very long neck, long legs, patches and two horns."""
    u = rng.uniform
    x, y = 0.52 + u(-0.12, 0.1), -0.76 + u(0, 0.1)
    legs(pen, rng, (-0.36, 0.14), 0.3, 0.94, 0.11, far=True, swing=0.06)
    pen.curve(Role.DARK, [(-0.5, 0.15), (-0.62, 0.3), (-0.58, 0.5)], 0.05)
    pen.blob(Role.MAIN, [(-0.5, 0.14), (-0.2, 0.06), (0.14, 0.0), (0.3, 0.16), (0.24, 0.42), (-0.2, 0.44), (-0.5, 0.4)])
    legs(pen, rng, (-0.42, 0.2), 0.34, 0.96, 0.12, far=False, swing=0.06)
    pen.line(Role.MAIN, [(0.14, 0.22), (x - 0.05, y)], 0.3, 0.18)
    for side in (-0.08, 0.04):
        pen.line(Role.DARK, [(x + side, y - 0.08), (x + side - 0.02, y - 0.24)], 0.05)
    pen.poly(Role.DARK, [(x - 0.1, y - 0.04), (x - 0.3, y - 0.1), (x - 0.14, y + 0.05)])
    pen.blob(
        Role.MAIN,
        [
            (x - 0.14, y - 0.08),
            (x + 0.05, y - 0.12),
            (x + 0.3, y + 0.02),
            (x + 0.3, y + 0.14),
            (x + 0.05, y + 0.14),
            (x - 0.12, y + 0.1),
        ],
    )
    dot_eye(pen, x + 0.04, y - 0.02, 0.045)
    for k in range(4):
        t = 0.2 + 0.22 * k
        pen.ellipse(Role.DARK, 0.14 + t * (x - 0.2) + u(-0.03, 0.03), 0.22 + t * (y - 0.22), 0.075 - 0.008 * k, 0.06)
    for spot in spread(-0.36, 0.06, 3):
        pen.ellipse(Role.DARK, spot, 0.24 + u(-0.06, 0.06), 0.085, 0.07)


def horse(pen: Pen, rng: random.Random) -> None:
    """Profile with arched neck, mane, long legs and a full tail."""
    u = rng.uniform
    head = u(-0.1, 0.1)
    pen.curve(Role.DARK, [(-0.6, -0.08), (-0.84, 0.1), (-0.86, 0.4), (-0.8 + u(-0.12, 0.1), 0.7)], 0.16, 0.05)
    legs(pen, rng, (-0.42, 0.26), 0.25, 0.9, 0.13, far=True, hoof=Role.INK)
    pen.blob(
        Role.MAIN,
        [
            (-0.66, -0.02),
            (-0.4, -0.18),
            (0.05, -0.1),
            (0.36, -0.16),
            (0.46, 0.14),
            (0.28, 0.36),
            (-0.2, 0.34),
            (-0.58, 0.34),
        ],
    )
    legs(pen, rng, (-0.54, 0.34), 0.25, 0.92, 0.14, far=False, hoof=Role.INK)
    x, y = 0.6, -0.62 + head
    pen.poly(Role.MAIN, [(0.1, -0.1), (0.4, 0.22), (x + 0.1, y + 0.14), (x - 0.16, y - 0.1)])
    pen.curve(Role.DARK, [(0.02, -0.12), (0.24, -0.4), (x - 0.2, y - 0.06), (x - 0.04, y - 0.16)], 0.16, 0.08)
    pen.poly(Role.MAIN, [(x - 0.08, y - 0.1), (x - 0.02, y - 0.34), (x + 0.08, y - 0.12)])
    pen.blob(
        Role.MAIN,
        [
            (x - 0.14, y - 0.06),
            (x + 0.04, y - 0.16),
            (x + 0.36, y + 0.2),
            (x + 0.32, y + 0.36),
            (x + 0.18, y + 0.34),
            (x - 0.08, y + 0.16),
        ],
    )
    dot_eye(pen, x + 0.06, y + 0.0, 0.05)
    dot_eye(pen, x + 0.29, y + 0.24, 0.03)


def pig(pen: Pen, rng: random.Random) -> None:
    """Round body, snout with nostrils, curly tail, short legs."""
    u = rng.uniform
    legs(pen, rng, (-0.4, 0.22), 0.4, 0.78, 0.17, far=True, swing=0.06)
    pen.curve(Role.DARK, [(-0.72, 0.0), (-0.88, -0.12), (-0.94, 0.04), (-0.82, 0.06), (-0.86, -0.2)], 0.06)
    pen.ellipse(Role.MAIN, -0.1, 0.12, 0.68, u(0.42, 0.52))
    legs(pen, rng, (-0.5, 0.32), 0.42, 0.8, 0.18, far=False, swing=0.06)
    x, y = 0.5, -0.04 + u(-0.12, 0.12)
    pen.ellipse(Role.MAIN, x, y, 0.35, 0.33)
    pen.poly(Role.DARK, [(x - 0.26, y - 0.18), (x - 0.2, y - 0.52), (x + 0.04, y - 0.28)])
    pen.poly(Role.DARK, [(x + 0.06, y - 0.28), (x + 0.3, y - 0.48), (x + 0.28, y - 0.14)])
    pen.ellipse(Role.ROSE, x + 0.24, y + 0.08, 0.17, 0.14)
    for side in (-0.06, 0.06):
        dot_eye(pen, x + 0.24 + side, y + 0.08, 0.035)
    dot_eye(pen, x - 0.04, y - 0.08, 0.055)
    dot_eye(pen, x + 0.22, y - 0.12, 0.055)


def sheep(pen: Pen, rng: random.Random) -> None:
    """A cloud of wool on thin legs, with a dark face."""
    u = rng.uniform
    legs_at = (-0.42, -0.22, 0.18, 0.38)
    for x in legs_at:
        pen.line(Role.INK, [(x, 0.3), (x + u(-0.05, 0.05), 0.84)], 0.12)
    count = 9
    for k in range(count):
        angle = 2 * math.pi * k / count
        pen.ellipse(Role.MAIN, -0.08 + 0.48 * math.cos(angle), 0.05 + 0.3 * math.sin(angle), u(0.24, 0.3))
    pen.poly(Role.MAIN, pen.arc_points(-0.08, 0.05, 0.58, 0.42, 0, 350), edge=False)
    x, y = 0.58, -0.16 + u(-0.1, 0.16)
    pen.ellipse(Role.INK, x - 0.24, y - 0.08, 0.16, 0.07, angle=-25)
    pen.ellipse(Role.INK, x + 0.04, y + 0.02, 0.22, 0.29, angle=-20)
    pen.ellipse(Role.MAIN, x - 0.06, y - 0.2, 0.2, 0.14)
    pen.ellipse(Role.WHITE, x + 0.08, y - 0.04, 0.06)


def bear(pen: Pen, rng: random.Random) -> None:
    """A sitting teddy, seen from the front, round ears and belly."""
    u = rng.uniform
    arm = u(-0.25, 0.3)
    for side in (-1, 1):
        pen.ellipse(Role.MAIN, side * 0.3, -0.78, 0.19)
        pen.ellipse(Role.LIGHT, side * 0.3, -0.77, 0.1)
        pen.ellipse(Role.MAIN, side * 0.44, 0.76, 0.24, 0.19)
        pen.ellipse(Role.LIGHT, side * 0.48, 0.77, 0.12, 0.11)
        reach = arm if side > 0 else u(-0.1, 0.3)
        pen.line(Role.MAIN, [(side * 0.34, 0.06), (side * 0.72, 0.12 + reach)], 0.25)
    pen.ellipse(Role.MAIN, 0, 0.36, 0.46, u(0.44, 0.52))
    pen.ellipse(Role.LIGHT, 0, 0.42, 0.27, 0.29)
    pen.ellipse(Role.MAIN, 0, -0.42, 0.47, 0.42)
    pen.ellipse(Role.LIGHT, 0, -0.28, 0.21, 0.17)
    pen.ellipse(Role.INK, 0, -0.36, 0.09, 0.06)
    for side in (-1, 1):
        dot_eye(pen, side * 0.19, -0.5, 0.06)


def lion(pen: Pen, rng: random.Random) -> None:
    """A face in a mane of points."""
    u = rng.uniform
    count, outer = rng.randrange(13, 18), u(0.9, 0.98)
    points = []
    for k in range(2 * count):
        angle = math.pi * k / count
        radius = outer if k % 2 == 0 else 0.72
        points.append((radius * math.cos(angle), radius * math.sin(angle)))
    pen.poly(Role.DARK, points)
    for side in (-1, 1):
        pen.ellipse(Role.MAIN, side * 0.44, -0.46, 0.18)
        pen.ellipse(Role.CREAM, side * 0.44, -0.45, 0.09)
    pen.ellipse(Role.MAIN, 0, 0.02, 0.56, u(0.54, 0.6))
    for side in (-1, 1):
        pen.ellipse(Role.CREAM, side * 0.13, 0.3, 0.18, 0.14)
        eye(pen, side * 0.23, -0.1, 0.1, look=0)
    pen.poly(Role.INK, [(-0.12, 0.1), (0.12, 0.1), (0, 0.26)])


def hedgehog(pen: Pen, rng: random.Random) -> None:
    """A dome of spines with a small pale face."""
    u = rng.uniform
    count = rng.randrange(11, 15)
    for x in (-0.4, 0.3):
        pen.ellipse(Role.CREAM, x + u(-0.06, 0.06), 0.56, 0.14, 0.1)
    pen.blob(Role.CREAM, [(0.3, 0.0), (0.62, 0.12), (0.96, 0.38), (0.7, 0.54), (0.3, 0.52)])
    points = [(0.48, 0.52), (-0.75, 0.52)]
    for k in range(2 * count + 1):
        angle = math.pi * (1 + k / (2 * count))
        radius = 1.0 if k % 2 else 0.8
        points.append((-0.13 + 0.8 * radius * math.cos(angle), 0.4 + 0.88 * radius * math.sin(angle)))
    pen.poly(Role.MAIN, points)
    for k in range(9):
        x, y = -0.6 + 0.14 * k, 0.2 - 0.5 * math.sin(math.pi * (k + 0.6) / 9.5) * (0.45 + 0.5 * (k % 2))
        pen.line(Role.EDGE, [(x, y), (x - 0.06, y - 0.17)], 0.045)
    pen.ellipse(Role.INK, 0.94, 0.36, 0.075)
    dot_eye(pen, 0.66, 0.24, 0.06)


def _cat_head(pen: Pen, rng: random.Random, x: float, y: float) -> None:
    ear, asleep = rng.uniform(0.38, 0.5), rng.random() < 0.25
    for s in (-1, 1):
        pen.poly(Role.MAIN, [(x + s * 0.42, y + 0.02), (x + s * ear, y - 0.58), (x + s * 0.08, y - 0.3)])
        inner = [(x + s * 0.35, y - 0.14), (x + s * (ear - 0.04), y - 0.42), (x + s * 0.19, y - 0.28)]
        pen.poly(Role.ROSE, inner, edge=False)
    pen.ellipse(Role.MAIN, x, y, 0.47, 0.39)
    for s in (-1, 1):
        if asleep:
            pen.arc(Role.INK, x + s * 0.19, y - 0.08, 0.11, 0.09, 0, 180, 0.05)
        else:
            eye(pen, x + s * 0.19, y - 0.06, 0.11, look=0.0)
        for rise in (0.06, 0.17):
            pen.line(Role.INK, [(x + s * 0.22, y + 0.14), (x + s * 0.62, y + rise)], 0.025)
    pen.poly(Role.ROSE, [(x - 0.07, y + 0.08), (x + 0.07, y + 0.08), (x, y + 0.17)])
