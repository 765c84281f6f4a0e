"""Furniture and household objects."""

import math
import random

from percept.world.objects.parts import spread
from percept.world.pen import Pen, Role


def chair(pen: Pen, rng: random.Random) -> None:
    """A kitchen chair, slightly rotated: back with slats, seat, four legs."""
    u = rng.uniform
    top, slats = u(-0.98, -0.84), rng.randrange(1, 4)
    for x, low in ((-0.3, 0.84), (0.56, 0.84)):
        pen.line(Role.DARK, [(x, 0.1), (x, low)], 0.13)
    for x in (-0.46, 0.34):
        pen.line(Role.MAIN, [(x, 0.2), (x - 0.04, top + 0.06)], 0.14)
    pen.rect(Role.MAIN, -0.54, top, 0.38, top + 0.24, radius=0.06)
    for y in spread(top + 0.42, -0.1, slats):
        pen.line(Role.MAIN, [(-0.46, y), (0.34, y)], 0.12)
    pen.poly(Role.MAIN, [(-0.52, 0.08), (0.42, 0.08), (0.66, 0.3), (-0.4, 0.3)])
    pen.poly(Role.DARK, [(-0.4, 0.3), (0.66, 0.3), (0.66, 0.4), (-0.4, 0.4)])
    for x in (-0.36, 0.58):
        pen.line(Role.MAIN, [(x, 0.38), (x, 0.98)], 0.14)


def table(pen: Pen, rng: random.Random) -> None:
    """A slanted top on four straight legs, or a round top on one column."""
    u = rng.uniform
    if rng.random() < 0.3:
        pen.line(Role.DARK, [(0, 0.0), (0, 0.7)], 0.2)
        pen.ellipse(Role.DARK, 0, 0.76, 0.42, 0.12)
        pen.ellipse(Role.DARK, 0, 0.02, 0.96, 0.3)
        pen.ellipse(Role.MAIN, 0, -0.1, 0.96, 0.3)
        return
    top, back, width = u(-0.34, -0.14), u(0.62, 0.8), u(0.12, 0.19)
    for x in (-back + 0.12, back - 0.12):
        pen.rect(Role.DARK, x - width / 2, top, x + width / 2, 0.5)
    for x in (-0.84, 0.84):
        pen.rect(Role.MAIN, x - width / 2, 0.1, x + width / 2, 0.76)
    pen.poly(Role.MAIN, [(-back, top), (back, top), (0.98, 0.08), (-0.98, 0.08)])
    pen.rect(Role.DARK, -0.98, 0.08, 0.98, 0.24)


def lamp(pen: Pen, rng: random.Random) -> None:
    """A shade on a table foot or on a long stem."""
    u = rng.uniform
    if rng.random() < 0.35:
        pen.line(Role.METAL, [(0, -0.5), (0, 0.9)], 0.07)
        pen.dome(Role.DARK, 0, 0.98, 0.34, 0.13)
        low = u(0.4, 0.5)
        pen.poly(Role.MAIN, [(-low * 0.6, -0.98), (low * 0.6, -0.98), (low, -0.34), (-low, -0.34)])
        return
    top, low, stem = u(0.22, 0.38), u(0.58, 0.72), u(0.0, 0.14)
    pen.line(Role.METAL, [(0, 0.1), (0, 0.86)], 0.1)
    pen.ellipse(Role.DARK, 0, 0.5, 0.12 + stem, 0.3)
    pen.rect(Role.DARK, -0.36, 0.82, 0.36, 0.96, radius=0.07)
    pen.ellipse(Role.GOLD, 0, 0.16, 0.13)
    pen.poly(Role.MAIN, [(-top, -0.9), (top, -0.9), (low, 0.14), (-low, 0.14)])


def bed(pen: Pen, rng: random.Random) -> None:
    """Headboard, pillow, blanket and short legs."""
    u = rng.uniform
    head, foot = u(-0.66, -0.4), u(-0.1, 0.06)
    pen.rect(Role.WOOD, -0.98, head, -0.82, 0.76, radius=0.05)
    pen.rect(Role.WOOD, 0.84, foot, 0.98, 0.76, radius=0.05)
    pen.rect(Role.WHITE, -0.84, 0.14, 0.86, 0.3)
    pen.blob(Role.WHITE, [(-0.8, 0.16), (-0.76, -0.12), (-0.5, -0.14), (-0.36, 0.02), (-0.38, 0.18)])
    pen.blob(
        Role.MAIN, [(-0.42, 0.1), (-0.1, -0.12), (0.5, -0.14), (0.84, 0.06), (0.86, 0.5), (0.2, 0.56), (-0.46, 0.5)]
    )
    pen.rect(Role.MAIN, -0.84, 0.32, 0.86, 0.56)
    pen.poly(Role.LIGHT, [(-0.42, 0.06), (-0.2, -0.06), (-0.22, 0.5), (-0.44, 0.5)])


def sofa(pen: Pen, rng: random.Random) -> None:
    """A wide back between two arm rests, seat cushions, small feet."""
    u = rng.uniform
    back, seats = u(-0.5, -0.32), rng.choice((2, 2, 3))
    for x in (-0.76, 0.76):
        pen.rect(Role.WOOD, x - 0.07, 0.5, x + 0.07, 0.72)
    pen.rect(Role.MAIN, -0.82, back, 0.82, 0.4, radius=0.16)
    wide = 1.36 / seats
    for x in spread(-0.68 + wide / 2, 0.68 - wide / 2, seats):
        pen.rect(Role.LIGHT, x - wide / 2, 0.08, x + wide / 2, 0.34, radius=0.08)
    pen.rect(Role.MAIN, -0.86, 0.32, 0.86, 0.58, radius=0.05)
    for side in (-1, 1):
        pen.rect(Role.DARK, side * 0.98, -0.1 + u(-0.06, 0.06), side * 0.68, 0.58, radius=0.13)


def cup(pen: Pen, rng: random.Random) -> None:
    """A cup with a handle, sometimes steaming or on a saucer."""
    u = rng.uniform
    top, low, rim = u(0.5, 0.6), u(0.3, 0.5), -0.34
    if rng.random() < 0.5:
        pen.ellipse(Role.DARK, -0.06, 0.8, 0.86, 0.14)
    pen.arc(Role.MAIN, 0.52, 0.14, 0.32, 0.28, -100, 120, 0.14)
    pen.poly(
        Role.MAIN,
        [(-top - 0.06, rim), (top - 0.06, rim), (low, 0.64), (low - 0.12, 0.8), (-low, 0.8), (-low - 0.12, 0.64)],
    )
    pen.ellipse(Role.LIGHT, -0.06, rim, top, 0.15)
    pen.ellipse(Role.WOOD, -0.06, rim + 0.03, top * 0.82, 0.09)
    if rng.random() < 0.5:
        for x in (-0.26, 0.12):
            pen.curve(Role.WHITE, [(x, -0.46), (x + 0.12, -0.62), (x - 0.06, -0.78), (x + 0.06, -0.94)], 0.07, 0.04)


def bottle(pen: Pen, rng: random.Random) -> None:
    """A body, a narrow neck with a cap, and a label."""
    u = rng.uniform
    wide, shoulder, neck = u(0.3, 0.48), u(-0.4, 0.0), u(0.11, 0.16)
    pen.rect(Role.MAIN, -neck, -0.86, neck, shoulder + 0.1)
    right = [(neck, shoulder - 0.24), (wide, shoulder + 0.1), (wide, 0.5), (wide * 0.92, 0.96)]
    pen.blob(Role.MAIN, [*right, *[(-x, y) for x, y in reversed(right)]])
    pen.rect(Role.DARK, -neck - 0.03, -1.0, neck + 0.03, -0.82, radius=0.03)
    if rng.random() < 0.75:
        pen.rect(Role.WHITE, -wide + 0.02, 0.24, wide - 0.02, 0.56)
        pen.ellipse(Role.MAIN, 0, 0.4, 0.11)
    else:
        pen.line(Role.LIGHT, [(-wide * 0.5, 0.2), (-wide * 0.5, 0.7)], 0.1)


def teapot(pen: Pen, rng: random.Random) -> None:
    """A round pot with spout, handle and a knob on the lid."""
    u = rng.uniform
    high = u(0.5, 0.6)
    pen.arc(Role.MAIN, -0.58, 0.12, 0.32, 0.32, 80, 290, 0.13)
    pen.poly(Role.MAIN, [(0.36, 0.4), (0.7, 0.08), (0.78, -0.26), (1.0, -0.3), (0.9, 0.16), (0.5, 0.6)])
    pen.rect(Role.DARK, -0.3, 0.62, 0.3, 0.76, radius=0.05)
    pen.ellipse(Role.MAIN, 0, 0.14, 0.6, high)
    pen.dome(Role.LIGHT, 0, 0.16 - high * 0.76, 0.36, u(0.16, 0.24))
    pen.ellipse(Role.DARK, 0, -0.08 - high * 0.8, 0.1)
    pen.ellipse(Role.LIGHT, -0.3, 0.02, 0.09, 0.18, angle=20)


def clock(pen: Pen, rng: random.Random) -> None:
    """A coloured case with a white face and hands; or an alarm clock with bells and feet."""
    u = rng.uniform
    if rng.random() < 0.7:
        for side in (-1, 1):
            pen.line(Role.INK, [(side * 0.4, 0.6), (side * 0.56, 0.94)], 0.13)
            pen.ellipse(Role.MAIN, side * 0.46, -0.7, 0.27, 0.2, angle=side * 35)
    pen.ellipse(Role.MAIN, 0, 0.08, 0.8)
    pen.ellipse(Role.WHITE, 0, 0.08, 0.5)
    for k in range(12):
        angle = math.pi * k / 6
        pen.ellipse(Role.INK, 0.42 * math.cos(angle), 0.08 + 0.42 * math.sin(angle), 0.05 if k % 3 == 0 else 0.025)
    for reach, width in ((0.26, 0.09), (0.38, 0.06)):
        angle = u(0, 2 * math.pi)
        pen.line(Role.INK, [(0, 0.08), (reach * math.cos(angle), 0.08 + reach * math.sin(angle))], width)


def book(pen: Pen, rng: random.Random) -> None:
    """A closed book with a spine, its pages showing on one side, a label and sometimes a ribbon."""
    u = rng.uniform
    wide, deep, label = u(0.48, 0.7), u(0.12, 0.22), u(-0.6, -0.1)
    if rng.random() < 0.4:
        pen.poly(Role.ROSE, [(0.1, 0.8), (0.24, 0.8), (0.24, 1.1), (0.17, 1.02), (0.1, 1.1)])
    pen.poly(Role.DARK, [(-wide, -0.84), (-wide + deep, -0.98), (wide + deep, -0.98), (wide + deep, 0.72), (wide, 0.9)])
    pages = [(-wide + 0.04, -0.84), (-wide + deep, -0.94), (wide + deep - 0.05, -0.94), (wide + deep - 0.05, 0.7)]
    pen.poly(Role.WHITE, [*pages, (wide, 0.84)])
    pen.rect(Role.MAIN, -wide, -0.84, wide, 0.9, radius=0.04)
    pen.rect(Role.DARK, -wide, -0.84, -wide + 0.16, 0.9)
    pen.rect(Role.CREAM, -wide + 0.3, label, wide - 0.14, label + 0.34)
    pen.line(Role.INK, [(-wide + 0.4, label + 0.17), (wide - 0.24, label + 0.17)], 0.05)
