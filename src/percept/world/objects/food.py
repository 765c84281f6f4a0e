"""Fruit, vegetables and sweets."""

import math
import random

from percept.world.objects.parts import spread
from percept.world.pen import Pen, Role


def apple(pen: Pen, rng: random.Random) -> None:
    """A round fruit with a dip at the stalk and one leaf."""
    u = rng.uniform
    wide, low = u(0.7, 0.84), u(0.78, 0.9)
    pen.curve(Role.WOOD, [(0, -0.4), (0.02, -0.66), (u(-0.02, 0.16), -0.92)], 0.1)
    pen.blob(Role.LEAF, [(0.04, -0.62), (0.3, -0.94), (0.62, -0.84 + u(-0.06, 0.1)), (0.36, -0.58)])
    pen.blob(
        Role.MAIN,
        [
            (0, -0.42),
            (0.4, -0.56),
            (wide, -0.16),
            (0.6, 0.56),
            (0.22, low),
            (0, low - 0.08),
            (-0.22, low),
            (-0.6, 0.56),
            (-wide, -0.16),
            (-0.4, -0.56),
        ],
    )
    pen.ellipse(Role.LIGHT, -0.42, -0.16, 0.12, 0.22, angle=20)


def banana(pen: Pen, rng: random.Random) -> None:
    """A thick crescent with dark tips."""
    u = rng.uniform
    bend, thick = u(0.34, 0.56), u(0.44, 0.56)
    upper = [(-0.84, -0.42), (-0.5, bend * 0.3), (0, bend * 0.6), (0.5, bend * 0.34), (0.86, -0.46)]
    lower = [(0.92, -0.06), (0.6, bend * 0.5 + thick), (0, bend * 0.62 + thick * 1.2), (-0.62, bend * 0.42 + thick)]
    pen.line(Role.WOOD, [(0.86, -0.42), (0.96, -0.68)], 0.16)
    pen.blob(Role.MAIN, [*upper, *lower, (-0.97, -0.1)])
    ridge = [(-0.88, -0.14), (-0.52, bend * 0.4 + thick * 0.4), (0, bend * 0.62 + thick * 0.6)]
    pen.curve(Role.DARK, [*ridge, (0.52, bend * 0.46 + thick * 0.4), (0.88, -0.14)], 0.07)
    pen.ellipse(Role.INK, -0.88, -0.36, 0.08)


def cherries(pen: Pen, rng: random.Random) -> None:
    """Two round fruits on joined stalks with a leaf."""
    u = rng.uniform
    knot, drop = (u(-0.05, 0.25), -0.86), u(-0.1, 0.14)
    pen.curve(Role.LEAF, [(-0.44, 0.3), (-0.26, -0.4), knot], 0.07)
    pen.curve(Role.LEAF, [(0.46, 0.4 + drop), (0.4, -0.3), knot], 0.07)
    pen.blob(Role.LEAF, [knot, (0.5, -1.0), (0.86, -0.7), (0.44, -0.62)])
    for x, y in ((-0.46, 0.42), (0.48, 0.48 + drop)):
        pen.ellipse(Role.MAIN, x, y, 0.44, 0.42)
        pen.ellipse(Role.LIGHT, x - 0.16, y - 0.14, 0.1, 0.12)


def carrot(pen: Pen, rng: random.Random) -> None:
    """A long cone with rings and a tuft of green."""
    u = rng.uniform
    wide, sway = u(0.26, 0.36), u(-0.14, 0.14)
    for x, top in ((-0.3, -0.86), (0.0, -1.0), (0.3, -0.86)):
        pen.curve(Role.LEAF, [(0, -0.42), (x * 0.5, -0.7), (x + u(-0.05, 0.05), top)], 0.15, 0.1)
    pen.blob(
        Role.MAIN,
        [
            (0, -0.5),
            (wide, -0.36),
            (wide * 0.8, 0.1),
            (sway + 0.08, 0.8),
            (sway, 0.98),
            (sway - 0.08, 0.8),
            (-wide * 0.8, 0.1),
            (-wide, -0.36),
        ],
    )
    for y, x in ((-0.2, 0.1), (0.08, -0.08), (0.36, 0.04)):
        pen.line(Role.EDGE, [(x - 0.1, y), (x + 0.1, y + 0.02)], 0.05)


def ice_cream(pen: Pen, rng: random.Random) -> None:
    """One to three scoops on a cone."""
    u = rng.uniform
    count = rng.choice((1, 2, 2, 3))
    pen.poly(Role.WOOD, [(-0.34, 0.06), (0.34, 0.06), (0.0, 0.98)])
    for shift in (-0.2, 0.0, 0.2):
        pen.line(Role.CREAM, [(shift - 0.12, 0.12), (shift * 0.4 + 0.08, 0.58)], 0.03)
    scoops = {
        1: ((0.0, -0.24, 0.56),),
        2: ((0.0, -0.06, 0.46), (0.02, -0.6, 0.38)),
        3: ((-0.25, -0.08, 0.38), (0.27, -0.1, 0.38), (0.0, -0.54, 0.4)),
    }
    for k, (x, y, radius) in enumerate(scoops[count]):
        pen.ellipse(Role.LIGHT if k == 1 else Role.MAIN, x, y, radius, radius * 0.94)
    for x in spread(-0.36, 0.36, 4):
        pen.ellipse(Role.MAIN, x, 0.1, 0.15, u(0.12, 0.2))
    if rng.random() < 0.5:
        pen.ellipse(Role.ROSE, 0.04, (-0.98, -0.98, -1.0)[count - 1] + (0.12 if count == 1 else 0.0), 0.12)


def cake(pen: Pen, rng: random.Random) -> None:
    """A round cake with dripping icing and candles."""
    u = rng.uniform
    tiers, candles = rng.choice((1, 2)), rng.randrange(1, 5)
    top = -0.06 if tiers == 1 else -0.3
    wide = 0.76 if tiers == 1 else 0.5
    pen.ellipse(Role.WHITE, 0, 0.84, 0.95, 0.12)
    for x in spread(-wide * 0.66, wide * 0.66, candles):
        pen.line(Role.WHITE, [(x, top), (x, top - 0.32)], 0.09)
        pen.ellipse(Role.GOLD, x, top - 0.42, 0.06, 0.11)
    pen.rect(Role.MAIN, -0.76, 0.22 if tiers == 2 else top, 0.76, 0.84, radius=0.1)
    if tiers == 2:
        pen.rect(Role.MAIN, -wide, top, wide, 0.34, radius=0.1)
    for base, half in ((top, wide),) if tiers == 1 else ((0.22, 0.76), (top, wide)):
        pen.rect(Role.LIGHT, -half, base - 0.02, half, base + 0.14, radius=0.07)
        for x in spread(-half + 0.1, half - 0.1, 6):
            pen.line(Role.LIGHT, [(x, base + 0.06), (x, base + u(0.14, 0.28))], 0.16)


def pizza(pen: Pen, rng: random.Random) -> None:
    """A slice: crust on top, pointed below, with toppings."""
    u = rng.uniform
    wide = u(0.62, 0.76)
    pen.poly(Role.MAIN, [(-wide, -0.6), (wide, -0.6), (u(-0.1, 0.1), 0.96)])
    pen.curve(Role.WOOD, [(-wide, -0.62), (0, -0.8), (wide, -0.62)], 0.26)
    for x, y in ((-0.28, -0.32), (0.24, -0.26), (0.0, 0.14), (0.02, 0.5)):
        pen.ellipse(Role.CREAM, x + u(-0.05, 0.05), y + u(-0.05, 0.05), 0.13 - 0.03 * (y > 0.3))
    for x, y in ((0.0, -0.46), (-0.16, 0.0), (0.18, 0.06)):
        pen.ellipse(Role.LEAF, x, y, 0.07, 0.04, angle=u(0, 90))


def mushroom(pen: Pen, rng: random.Random) -> None:
    """A cap with white spots on a pale stem."""
    u = rng.uniform
    high, stem = u(0.76, 0.95), u(0.18, 0.28)
    pen.blob(
        Role.CREAM,
        [(-stem, -0.1), (stem, -0.1), (stem + 0.02, 0.5), (stem + 0.1, 0.86), (-stem - 0.1, 0.86), (-stem - 0.02, 0.5)],
    )
    pen.blob(
        Role.MAIN,
        [
            (-0.9, 0.12),
            (-0.72, 0.12 - high * 0.62),
            (0, 0.12 - high),
            (0.72, 0.12 - high * 0.62),
            (0.9, 0.12),
            (0.4, 0.22),
            (-0.4, 0.22),
        ],
    )
    for x, y, radius in (
        (-0.44, -0.16, 0.13),
        (0.02, -0.44 - u(0, 0.06), 0.13),
        (0.46, -0.12, 0.13),
        (0.02, -0.02, 0.1),
    ):
        pen.ellipse(Role.WHITE, x + u(-0.05, 0.05), y, radius, radius * 0.9)


def strawberry(pen: Pen, rng: random.Random) -> None:
    """A plump cone with seeds and a leafy collar."""
    u = rng.uniform
    wide = u(0.6, 0.76)
    pen.blob(
        Role.MAIN,
        [(0, -0.58), (0.44, -0.6), (wide, -0.2), (0.4, 0.5), (0, 0.95), (-0.4, 0.5), (-wide, -0.2), (-0.44, -0.6)],
    )
    for x, y in (
        (-0.36, -0.16),
        (0.0, -0.2),
        (0.36, -0.16),
        (-0.2, 0.14),
        (0.2, 0.14),
        (0.0, 0.46),
        (-0.42, 0.1),
        (0.4, 0.12),
    ):
        pen.ellipse(Role.CREAM, x * wide / 0.66, y, 0.04, 0.06)
    for k in range(5):
        angle = math.pi * (0.1 + 0.2 * k)
        pen.poly(
            Role.LEAF, [(-0.1, -0.62), (0.56 * math.cos(angle), -0.6 + u(0.24, 0.34) * math.sin(angle)), (0.1, -0.62)]
        )
    pen.line(Role.LEAF, [(0, -0.6), (u(-0.1, 0.1), -0.92)], 0.09)


def grapes(pen: Pen, rng: random.Random) -> None:
    """A bunch of round berries narrowing downwards."""
    u = rng.uniform
    pen.line(Role.WOOD, [(0, -0.6), (u(-0.1, 0.1), -0.98)], 0.09)
    pen.blob(Role.LEAF, [(0.04, -0.7), (0.26, -0.98), (0.66, -0.86), (0.5, -0.58)])
    for row, count in enumerate((4, 3, 4, 3, 2, 1) if rng.random() < 0.5 else (3, 4, 3, 2, 1)):
        for x in spread(-0.22 * (count - 1), 0.22 * (count - 1), count):
            pen.ellipse(Role.MAIN, x + u(-0.02, 0.02), -0.5 + 0.28 * row, 0.22)
            pen.ellipse(Role.LIGHT, x - 0.07, -0.57 + 0.28 * row, 0.06)


def hamburger(pen: Pen, rng: random.Random) -> None:
    """Two bun halves with salad and meat between them."""
    u = rng.uniform
    high, layers = u(0.64, 0.84), rng.choice((1, 1, 2))
    low = 0.36 + 0.14 * (layers - 1)
    pen.rect(Role.MAIN, -0.82, low, 0.82, low + 0.36, radius=0.2)
    pen.rect(Role.WOOD, -0.86, low - 0.12, 0.86, low + 0.04, radius=0.08)
    if layers == 2:
        pen.rect(Role.GOLD, -0.84, low - 0.22, 0.84, low - 0.1)
    leaf = [(-0.9, 0.1), (0, 0.06), (0.9, 0.1), (0.7, 0.24), (0.4, 0.17), (0.1, 0.26), (-0.3, 0.17), (-0.66, 0.26)]
    pen.blob(Role.LEAF, leaf)
    pen.dome(Role.MAIN, 0, 0.13, 0.86, high)
    for x, y in ((-0.4, -0.16), (-0.12, -0.36), (0.16, -0.18), (0.42, -0.22)):
        pen.ellipse(Role.CREAM, x + u(-0.06, 0.06), y, 0.06, 0.04, angle=30)


def pineapple(pen: Pen, rng: random.Random) -> None:
    """An oval with a criss-cross skin under a crown of leaves."""
    u = rng.uniform
    wide = u(0.46, 0.58)
    for x, top in ((-0.4, -0.62), (0.4, -0.62), (-0.22, -0.8), (0.22, -0.8), (0, -0.92)):
        tip = (x, top + u(-0.06, 0.06))
        pen.poly(Role.LEAF, [(-0.14, -0.2), (x * 0.7 - 0.1, top + 0.3), tip, (x * 0.7 + 0.1, top + 0.34), (0.14, -0.2)])
    pen.ellipse(Role.MAIN, 0, 0.36, wide, 0.64)
    for k in range(-2, 3):
        shift = 0.25 * k
        reach = 0.34 * math.sqrt(max(0.0, 1 - (shift / 0.68) ** 2)) * wide / 0.42
        for side in (-1, 1):
            pen.line(Role.DARK, [(-side * reach, 0.12 + shift), (side * reach, 0.6 + shift)], 0.055)
