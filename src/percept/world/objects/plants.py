"""Trees and flowers."""

import math
import random

from percept.world.pen import Pen, Role


def tree(pen: Pen, rng: random.Random) -> None:
    """A trunk with a crown of overlapping rounds."""
    u = rng.uniform
    pen.poly(Role.WOOD, [(-0.1, 0.0), (0.1, 0.0), (0.15, 0.95), (-0.15, 0.95)])
    pen.line(Role.WOOD, [(0.02, 0.4), (0.26, 0.1)], 0.08)
    count = rng.randrange(5, 8)
    ring = []
    for k in range(count):
        angle = 2 * math.pi * k / count + 0.3
        ring.append((u(0.38, 0.46) * math.cos(angle), -0.36 + 0.28 * math.sin(angle), u(0.3, 0.38)))
    for x, y, radius in ring:
        pen.ellipse(Role.MAIN, x, y, radius)
    pen.poly(Role.MAIN, pen.arc_points(0, -0.36, 0.52, 0.42, 0, 350), edge=False)
    for x, y in ((-0.2, -0.56), (0.2, -0.3), (-0.3, -0.2)):
        pen.arc(Role.DARK, x, y, 0.16, 0.12, 10, 150, 0.045)


def palm_tree(pen: Pen, rng: random.Random) -> None:
    """A bent trunk under hanging fronds."""
    u = rng.uniform
    lean = u(-0.4, 0.4)
    x, y = 0.0, -0.4
    pen.curve(Role.WOOD, [(lean, 0.96), (lean * 0.8, 0.5), (lean * 0.3, 0.0), (x, y)], 0.17, 0.11)
    for angle in (-165, -15, 160, 20, -125, -55):
        flat = abs(math.cos(math.radians(angle))) > 0.8
        reach = u(0.84, 0.98) if flat else u(0.6, 0.76)
        ax, ay = reach * math.cos(math.radians(angle)), reach * 0.7 * math.sin(math.radians(angle))
        upper = [(x + ax * 0.4, y + ay * 0.6 - 0.3), (x + ax * 0.8, y + ay - 0.16), (x + ax, y + ay + 0.3)]
        pen.blob(Role.MAIN, [(x, y + 0.08), *upper, (x + ax * 0.6, y + ay * 0.7 + 0.14)])
        rib = [(x, y), (x + ax * 0.5, y + ay * 0.7 - 0.08), (x + ax * 0.92, y + ay + 0.16)]
        pen.curve(Role.DARK, rib, 0.05)
    for px in (-0.1, 0.09):
        pen.ellipse(Role.WOOD, px, y + 0.12, 0.09)


def fir_tree(pen: Pen, rng: random.Random) -> None:
    """Stacked triangles on a short trunk."""
    u = rng.uniform
    tiers, wide = rng.randrange(3, 5), u(0.56, 0.72)
    pen.rect(Role.WOOD, -0.12, 0.6, 0.12, 0.96)
    high = 1.6 / (tiers + 0.6)
    for k in range(tiers, 0, -1):
        base = -0.94 + high * (k + 0.6) * 1.0
        half = wide * (0.42 + 0.58 * k / tiers)
        role = Role.MAIN if k % 2 else Role.DARK
        pen.poly(
            role,
            [
                (0, base - high * 1.6),
                (half, base),
                (half * 0.4, base - 0.06),
                (-half * 0.4, base - 0.06),
                (-half, base),
            ],
        )


def cactus(pen: Pen, rng: random.Random) -> None:
    """A ribbed column with one or two bent arms in a pot or in sand."""
    u = rng.uniform
    left, right = u(-0.3, 0.2), u(-0.3, 0.2)
    pen.line(Role.MAIN, [(0, 0.2 + left * 0.5), (-0.52, 0.2 + left * 0.5), (-0.52, -0.4 + left)], 0.27)
    if rng.random() < 0.85:
        pen.line(Role.MAIN, [(0, 0.3 + right * 0.5), (0.52, 0.3 + right * 0.5), (0.52, -0.3 + right)], 0.27)
    pen.line(Role.MAIN, [(0, -0.74), (0, 0.8)], 0.46)
    for x in (-0.1, 0.1):
        pen.line(Role.DARK, [(x, -0.72), (x, 0.86)], 0.045)
    if rng.random() < 0.5:
        pen.ellipse(Role.ROSE, 0.06, -0.95, 0.13, 0.1)
    if rng.random() < 0.5:
        pen.poly(Role.WOOD, [(-0.42, 0.66), (0.42, 0.66), (0.32, 1.06), (-0.32, 1.06)])


def flower(pen: Pen, rng: random.Random) -> None:
    """Petals around a golden centre on a stem with leaves."""
    u = rng.uniform
    count, sway = rng.randrange(5, 9), u(-0.12, 0.12)
    x, y, turn = sway, -0.36, u(0, 6)
    pen.curve(Role.LEAF, [(x, y), (0.04, 0.3), (0, 0.98)], 0.1)
    pen.blob(Role.LEAF, [(0.02, 0.8), (0.2, 0.5), (0.5, 0.4), (0.36, 0.68)])
    if rng.random() < 0.6:
        pen.blob(Role.LEAF, [(0, 0.9), (-0.18, 0.6), (-0.46, 0.54), (-0.34, 0.8)])
    wide = 0.95 / count + 0.08
    for k in range(count):
        angle = turn + 2 * math.pi * k / count
        pen.ellipse(
            Role.MAIN, x + 0.38 * math.cos(angle), y + 0.38 * math.sin(angle), 0.27, wide, angle=math.degrees(angle)
        )
    pen.ellipse(Role.GOLD, x, y, 0.2)
