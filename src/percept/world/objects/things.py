"""Signs, symbols, toys and instruments."""

import math
import random

from percept.world.objects.parts import spread
from percept.world.pen import Pen, Role


def arrow(pen: Pen, rng: random.Random) -> None:
    """A broad arrow pointing right."""
    u = rng.uniform
    neck, thick, head = u(-0.05, 0.25), u(0.18, 0.3), u(0.5, 0.7)
    pen.poly(
        Role.MAIN,
        [(-0.95, -thick), (neck, -thick), (neck, -head), (0.97, 0), (neck, head), (neck, thick), (-0.95, thick)],
    )


def stop_sign(pen: Pen, rng: random.Random) -> None:
    """An octagon with a pale rim and a bar, on a post."""
    u = rng.uniform
    post = u(0.7, 1.0)
    y = -0.34
    pen.rect(Role.METAL, -0.07, 0.2, 0.07, post)
    for role, radius in ((Role.MAIN, 0.64), (Role.WHITE, 0.56), (Role.MAIN, 0.49)):
        pen.poly(
            role,
            [
                (radius * math.cos(math.pi * (k + 0.5) / 4), y + radius * math.sin(math.pi * (k + 0.5) / 4))
                for k in range(8)
            ],
        )
    pen.rect(Role.WHITE, -0.32, y - 0.1, 0.32, y + 0.1)


def traffic_light(pen: Pen, rng: random.Random) -> None:
    """A coloured case with three lamps under hoods, on a post."""
    u = rng.uniform
    wide, lit, post = u(0.34, 0.44), rng.randrange(3), u(0.85, 1.1)
    pen.rect(Role.METAL, -0.08, 0.5, 0.08, post)
    pen.rect(Role.MAIN, -wide, -1.0, wide, 0.62, radius=0.12)
    for k, role in enumerate((Role.ROSE, Role.GOLD, Role.LEAF)):
        y = -0.7 + 0.5 * k
        pen.ellipse(role if k == lit else Role.INK, 0, y, 0.17)
        pen.arc(Role.DARK, 0, y, 0.22, 0.22, 200, 340, 0.06)


def flag(pen: Pen, rng: random.Random) -> None:
    """A waving cloth on a pole."""
    u = rng.uniform
    wave, low = u(0.06, 0.2), u(0.0, 0.2)
    pen.rect(Role.WOOD, -0.72, -0.92, -0.6, 0.98, radius=0.04)
    pen.ellipse(Role.GOLD, -0.66, -0.94, 0.1)
    top = [(-0.6, -0.84), (-0.2, -0.84 - wave), (0.3, -0.84 + wave), (0.86, -0.84 - wave * 0.6)]
    edge = pen.smooth(top, closed=False)
    pen.poly(Role.MAIN, [*edge, *[(x, y + 0.84 + low) for x, y in reversed(edge)]])
    fold = [(x, y + 0.42 + low / 2) for x, y in edge]
    pen.line(Role.LIGHT, fold, 0.14)


def star(pen: Pen, rng: random.Random) -> None:
    """Five points with folded facets."""
    u = rng.uniform
    inner, turn = u(0.38, 0.52), u(-0.12, 0.12)
    points = []
    for k in range(10):
        radius, angle = (0.98 if k % 2 == 0 else inner), math.pi * (k / 5 - 0.5 + turn)
        points.append((radius * math.cos(angle), radius * math.sin(angle)))
    pen.poly(Role.MAIN, points)
    for k in range(0, 10, 2):
        pen.poly(Role.DARK, [(0, 0), points[k], points[(k + 1) % 10]], edge=False)


def heart(pen: Pen, rng: random.Random) -> None:
    """Two lobes and a point."""
    u = rng.uniform
    wide, dip = u(0.84, 0.97), u(-0.5, -0.36)
    pen.poly(
        Role.MAIN,
        [
            *pen.smooth(
                [(0, dip), (wide * 0.28, -0.8), (wide * 0.72, -0.84), (wide, -0.4), (wide * 0.72, 0.2), (0, 0.92)],
                closed=False,
            ),
            *pen.smooth(
                [(0, 0.92), (-wide * 0.72, 0.2), (-wide, -0.4), (-wide * 0.72, -0.84), (-wide * 0.28, -0.8), (0, dip)],
                closed=False,
            ),
        ],
    )
    pen.ellipse(Role.LIGHT, -wide * 0.52, -0.44, 0.13, 0.2, angle=30)


def anchor(pen: Pen, rng: random.Random) -> None:
    """A ring, a stock, a shank and two flukes."""
    u = rng.uniform
    reach = u(0.66, 0.8)
    pen.ring(Role.MAIN, 0, -0.74, 0.24, 0.13)
    pen.line(Role.MAIN, [(0, -0.52), (0, 0.8)], 0.19)
    pen.line(Role.MAIN, [(-0.44, -0.3), (0.44, -0.3)], 0.17)
    pen.arc(Role.MAIN, 0, 0.1, reach, 0.72, 12, 168, 0.2)
    for side in (-1, 1):
        pen.poly(
            Role.MAIN, [(side * (reach + 0.18), 0.44), (side * (reach + 0.04), -0.06), (side * (reach - 0.28), 0.24)]
        )


def ball(pen: Pen, rng: random.Random) -> None:
    """A beach ball with pale panels around a cap, or a ball with a band and a star."""
    u = rng.uniform
    turn = u(0, 60)
    pen.ellipse(Role.MAIN, 0, 0, 0.95)
    if rng.random() < 0.35:
        tilt = u(-0.2, 0.2)
        band = [(-0.93, 0.2 + tilt), (0, 0.46), (0.93, 0.2 - tilt)]
        pen.curve(Role.WHITE, band, 0.22)
        pen.ellipse(Role.LIGHT, -0.36, -0.42, 0.18, 0.13, angle=-40)
        return
    x, y = u(-0.3, 0.3), u(-0.4, -0.1)
    for k in range(3):
        first = turn + 120 * k
        pen.poly(Role.WHITE, [(x, y), *pen.arc_points(0, 0, 0.95, 0.95, first, first + 36)])
    pen.ellipse(Role.DARK, x, y, 0.16)


def gift(pen: Pen, rng: random.Random) -> None:
    """A box with lid, ribbon and bow."""
    u = rng.uniform
    wide, lid = u(0.64, 0.8), u(-0.26, -0.1)
    pen.rect(Role.MAIN, -wide, lid, wide, 0.92)
    pen.rect(Role.WHITE, -0.13, lid, 0.13, 0.92)
    pen.rect(Role.DARK, -wide - 0.1, lid - 0.14, wide + 0.1, lid + 0.16, radius=0.04)
    pen.rect(Role.WHITE, -0.13, lid - 0.14, 0.13, lid + 0.16)
    for side in (-1, 1):
        pen.blob(
            Role.WHITE, [(0, lid - 0.16), (side * 0.2, lid - 0.5), (side * 0.52, lid - 0.52), (side * 0.46, lid - 0.2)]
        )
    pen.ellipse(Role.WHITE, 0, lid - 0.2, 0.11)


def drum(pen: Pen, rng: random.Random) -> None:
    """A coloured barrel with hoops, zigzag cords and two sticks."""
    u = rng.uniform
    top = u(-0.2, -0.04)
    pen.rect(Role.MAIN, -0.74, top, 0.74, 0.72)
    pen.ellipse(Role.MAIN, 0, 0.72, 0.74, 0.22)
    xs = spread(-0.7, 0.7, 7)
    pen.line(Role.WHITE, [(x, top + 0.3 if k % 2 == 0 else 0.74) for k, x in enumerate(xs)], 0.06)
    pen.ellipse(Role.DARK, 0, top + 0.04, 0.78, 0.26)
    pen.ellipse(Role.CREAM, 0, top, 0.68, 0.19)
    for side in (-1, 1):
        tip = (side * u(0.06, 0.2), top - 0.02)
        pen.line(Role.WOOD, [tip, (side * 0.84, top - u(0.5, 0.7))], 0.08)
        pen.ellipse(Role.WOOD, *tip, 0.09)


def guitar(pen: Pen, rng: random.Random) -> None:
    """A waisted body with a sound hole, a neck and a head."""
    u = rng.uniform
    wide, waist = u(0.46, 0.54), u(0.26, 0.32)
    pen.blob(
        Role.MAIN,
        [
            (0, -0.06),
            (0.34, 0.0),
            (waist + 0.06, 0.26),
            (wide, 0.62),
            (0.3, 0.95),
            (-0.3, 0.95),
            (-wide, 0.62),
            (-waist - 0.06, 0.26),
            (-0.34, 0.0),
        ],
    )
    pen.ellipse(Role.INK, 0, 0.34, 0.16)
    pen.rect(Role.WOOD, -0.075, -0.76, 0.075, 0.3)
    pen.poly(Role.DARK, [(-0.1, -0.7), (-0.16, -1.02), (0.16, -1.02), (0.1, -0.7)])
    pen.rect(Role.INK, -0.2, 0.64, 0.2, 0.72)
    pen.line(Role.WHITE, [(0, -0.72), (0, 0.66)], 0.025)


def kite(pen: Pen, rng: random.Random) -> None:
    """A four-panel kite with a tail of bows."""
    u = rng.uniform
    x, y, wide = -0.05, -0.34, u(0.48, 0.6)
    tail = [(x, 0.34), (x + u(0.1, 0.25), 0.52), (x - u(0.0, 0.15), 0.72), (x + 0.2, 0.96)]
    pen.curve(Role.INK, tail, 0.03)
    for tx, ty in tail[1:]:
        for side in (-1, 1):
            pen.poly(Role.LIGHT, [(tx, ty), (tx + side * 0.17, ty - 0.08), (tx + side * 0.17, ty + 0.09)])
    top, right, low, left = (x, -0.98), (x + wide, y), (x, 0.36), (x - wide, y)
    for role, a, b in (
        (Role.MAIN, top, right),
        (Role.DARK, right, low),
        (Role.MAIN, low, left),
        (Role.LIGHT, left, top),
    ):
        pen.poly(role, [(x, y), a, b])


def robot(pen: Pen, rng: random.Random) -> None:
    """A boxy toy robot with antenna, round eyes and pincers."""
    u = rng.uniform
    pen.line(Role.METAL, [(0, -0.74), (0, -0.92)], 0.06)
    pen.ellipse(Role.ROSE, 0, -0.94, 0.09)
    for side in (-1, 1):
        hand = (side * 0.82, u(-0.06, 0.5))
        pen.line(Role.METAL, [(side * 0.44, 0.0), hand], 0.13)
        pen.ellipse(Role.DARK, *hand, 0.14)
        pen.rect(Role.METAL, side * 0.34, 0.56, side * 0.12, 0.9)
        pen.rect(Role.DARK, side * 0.42, 0.84, side * 0.06, 0.98, radius=0.05)
    pen.rect(Role.MAIN, -0.5, -0.1, 0.5, 0.64, radius=0.08)
    pen.rect(Role.MAIN, -0.4, -0.74, 0.4, -0.16, radius=0.1)
    for side in (-1, 1):
        pen.ellipse(Role.WHITE, side * 0.17, -0.52, 0.12)
        pen.ellipse(Role.INK, side * 0.17, -0.52, 0.06)
    pen.rect(Role.INK, -0.2, -0.34, 0.2, -0.26)
    pen.rect(Role.LIGHT, -0.28, 0.06, 0.28, 0.4)
    for x in (-0.14, 0.02, 0.17):
        pen.ellipse(rng.choice((Role.ROSE, Role.GOLD, Role.LEAF)), x, 0.22, 0.06)


def camera(pen: Pen, rng: random.Random) -> None:
    """A box with a large lens, a flash and a shutter button."""
    u = rng.uniform
    x, top, low = u(-0.14, 0.14), u(-0.52, -0.4), u(0.58, 0.74)
    if rng.random() < 0.3:
        pen.curve(Role.INK, [(-0.86, top + 0.1), (-0.7, -0.95), (0.0, -1.05), (0.7, -0.95), (0.86, top + 0.1)], 0.08)
    pen.poly(Role.DARK, [(x - 0.36, top + 0.06), (x - 0.24, top - 0.2), (x + 0.24, top - 0.2), (x + 0.36, top + 0.06)])
    pen.rect(Role.INK, -0.76, top - u(0.08, 0.14), -0.5, top + 0.06)
    pen.rect(Role.MAIN, -0.95, top, 0.95, low, radius=0.13)
    pen.rect(Role.WHITE, 0.6, top + 0.12, 0.84, top + 0.3)
    pen.ellipse(Role.METAL, x, 0.1, 0.45)
    pen.ellipse(Role.INK, x, 0.1, 0.34)
    pen.ellipse(Role.GLASS, x, 0.1, u(0.15, 0.24))
    pen.ellipse(Role.WHITE, x - 0.08, 0.02, 0.07)
