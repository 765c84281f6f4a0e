"""Clothes and accessories."""

import random

from percept.world.objects.parts import spread
from percept.world.pen import Pen, Role


def hat(pen: Pen, rng: random.Random) -> None:
    """A top hat or a sun hat: crown, ribbon, wide brim."""
    u = rng.uniform
    top, wide = u(-0.8, -0.4), u(0.4, 0.5)
    pen.ellipse(Role.DARK, 0, 0.5, 0.96, 0.2)
    pen.ellipse(Role.MAIN, 0, 0.45, 0.96, 0.18)
    if rng.random() < 0.6:
        pen.poly(Role.MAIN, [(-wide - 0.05, top), (wide + 0.05, top), (wide, 0.48), (-wide, 0.48)])
        pen.ellipse(Role.LIGHT, 0, top, wide + 0.05, 0.11)
    else:
        pen.dome(Role.MAIN, 0, 0.48, wide + 0.06, 0.48 - top)
    pen.rect(Role.WHITE, -wide - 0.02, 0.22, wide + 0.02, 0.4)


def shirt(pen: Pen, rng: random.Random) -> None:
    """A T-shirt with short sleeves and a round neck."""
    u = rng.uniform
    wide, sleeve, low = u(0.48, 0.58), u(-0.1, 0.14), u(0.78, 0.95)
    pen.poly(
        Role.MAIN,
        [
            (-0.28, -0.76),
            (0.28, -0.76),
            (0.62, -0.6),
            (0.98, sleeve - 0.1),
            (0.7, sleeve + 0.14),
            (wide, -0.1),
            (wide, low),
            (-wide, low),
            (-wide, -0.1),
            (-0.7, sleeve + 0.14),
            (-0.98, sleeve - 0.1),
            (-0.62, -0.6),
        ],
    )
    pen.dome(Role.DARK, 0, -0.76, 0.26, -0.2)
    for side in (-1, 1):
        pen.line(Role.EDGE, [(side * wide, -0.1), (side * wide * 0.92, -0.34)], 0.035)
    if rng.random() < 0.4:
        pen.rect(Role.DARK, 0.12, -0.3, 0.36, -0.04)


def shoe(pen: Pen, rng: random.Random) -> None:
    """A laced shoe in profile with a pale sole."""
    u = rng.uniform
    ankle, toe = u(-0.62, -0.4), u(0.02, 0.14)
    pen.blob(
        Role.MAIN,
        [
            (-0.92, ankle),
            (-0.3, ankle),
            (-0.08, -0.12),
            (0.5, toe),
            (0.96, 0.32),
            (0.9, 0.5),
            (-0.9, 0.5),
            (-0.84, 0.0),
        ],
    )
    pen.blob(Role.DARK, [(0.5, toe), (0.96, 0.3), (0.9, 0.48), (0.56, 0.48)])
    pen.rect(Role.WHITE, -0.94, 0.42, 0.98, 0.62, radius=0.09)
    for k in range(3):
        x, y = -0.18 + 0.19 * k, -0.16 + 0.1 * k
        pen.line(Role.WHITE, [(x - 0.06, y + 0.18), (x + 0.08, y - 0.02)], 0.07)
    pen.line(Role.DARK, [(-0.9, ankle + 0.05), (-0.32, ankle + 0.05)], 0.13)


def glasses(pen: Pen, rng: random.Random) -> None:
    """Two thick frames, a bridge and bent temples."""
    u = rng.uniform
    high = u(0.34, 0.44)
    for side in (-1, 1):
        pen.line(Role.MAIN, [(side * 0.86, -0.06), (side * 0.98, -0.34)], 0.15)
    pen.arc(Role.MAIN, 0, 0.02, 0.18, 0.16, 180, 360, 0.16)
    round_frame = rng.random() < 0.5
    for side in (-1, 1):
        x = side * 0.5
        if round_frame:
            pen.ellipse(Role.MAIN, x, 0.06, 0.46, high + 0.06)
            pen.ellipse(Role.GLASS, x, 0.06, 0.24, high - 0.14)
        else:
            pen.rect(Role.MAIN, x - 0.46, 0.02 - high, x + 0.46, 0.1 + high, radius=0.14)
            pen.rect(Role.GLASS, x - 0.26, 0.24 - high, x + 0.26, high - 0.12, radius=0.08)
        pen.line(Role.WHITE, [(x - 0.08, 0.12), (x + 0.04, 0.0)], 0.05)


def sock(pen: Pen, rng: random.Random) -> None:
    """A long sock with cuff, heel and toe."""
    u = rng.uniform
    toe, wide = u(0.7, 0.94), u(0.26, 0.32)
    pen.blob(
        Role.MAIN,
        [
            (-0.2 - wide, -0.84),
            (-0.2 + wide, -0.84),
            (-0.16 + wide, 0.16),
            (0.4, 0.34),
            (toe, 0.56),
            (toe - 0.1, 0.88),
            (0.1, 0.88),
            (-0.42, 0.7),
            (-0.24 - wide, 0.3),
            (-0.2 - wide, -0.3),
        ],
    )
    pen.blob(Role.DARK, [(toe - 0.3, 0.44), (toe, 0.56), (toe - 0.08, 0.88), (toe - 0.34, 0.88)])
    pen.blob(Role.DARK, [(-0.24 - wide, 0.26), (-0.16, 0.4), (-0.2, 0.76), (-0.44, 0.68)])
    pen.rect(Role.LIGHT, -0.24 - wide, -0.96, -0.16 + wide, -0.66, radius=0.06)


def umbrella(pen: Pen, rng: random.Random) -> None:
    """An open umbrella with scalloped rim and hooked handle."""
    u = rng.uniform
    high = u(0.66, 0.8)
    pen.line(Role.WOOD, [(0, -0.1), (0, 0.74)], 0.07)
    pen.arc(Role.WOOD, 0.15, 0.74, 0.15, 0.16, 0, 180, 0.08)
    pen.line(Role.METAL, [(0, -0.1 - high), (0, -0.24 - high)], 0.06)
    rim = [(0.96, 0.0)]
    for k in range(4):
        left = 0.96 - 0.48 * (k + 1)
        rim += [(left + 0.36, -0.1), (left + 0.24, -0.13), (left + 0.12, -0.1), (left, 0.0)]
    dome = pen.arc_points(0, 0.0, 0.96, high + 0.1, 180, 360)
    pen.poly(Role.MAIN, [*dome, *rim])
    panel = pen.arc_points(0, 0.0, 0.48, high + 0.1, 180, 360)
    pen.poly(
        Role.LIGHT,
        [*panel, (0.36, -0.1), (0.24, -0.13), (0.12, -0.1), (0, 0), (-0.12, -0.1), (-0.24, -0.13), (-0.36, -0.1)],
    )


def crown(pen: Pen, rng: random.Random) -> None:
    """Points with balls over a jewelled band."""
    u = rng.uniform
    points = rng.choice((3, 5))
    tips = spread(-0.88, 0.88, points)
    outline = [(-0.72, 0.72)]
    for k, x in enumerate(tips):
        high = -0.66 if k == points // 2 else u(-0.52, -0.4)
        outline.append((x, high))
        if k < points - 1:
            outline.append(((x + tips[k + 1]) / 2, u(-0.02, 0.14)))
    outline.append((0.72, 0.72))
    pen.poly(Role.MAIN, outline)
    for x, y in outline[1:-1:2]:
        pen.ellipse(Role.LIGHT, x, y, 0.11)
    pen.rect(Role.DARK, -0.76, 0.44, 0.76, 0.74, radius=0.06)
    for x, role in ((-0.44, Role.GLASS), (0.0, Role.ROSE), (0.44, Role.GLASS)):
        pen.ellipse(role, x, 0.59, 0.1)
