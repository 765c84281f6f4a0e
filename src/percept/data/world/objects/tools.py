"""Tools."""

import math
import random

from percept.data.world.objects.parts import spread
from percept.data.world.pen import Pen, Role


def hammer(pen: Pen, rng: random.Random) -> None:
    """A coloured handle and a broad head with a claw."""
    u = rng.uniform
    thick = u(0.24, 0.32)
    pen.line(Role.MAIN, [(0, -0.4), (0, 0.84)], thick, thick + 0.06)
    for y in (0.5, 0.64, 0.78):
        pen.line(Role.DARK, [(-thick * 0.3, y), (thick * 0.3, y)], 0.05)
    pen.blob(Role.METAL, [(-0.2, -0.84), (-0.6, -0.82), (-0.92, -0.5), (-0.56, -0.58), (-0.2, -0.5)])
    pen.rect(Role.METAL, -0.24, -0.86, 0.36, -0.48, radius=0.04)
    pen.rect(Role.DARK, 0.34, -0.92, 0.66, -0.42, radius=0.06)


def saw(pen: Pen, rng: random.Random) -> None:
    """A toothed blade and a big handle with a grip hole."""
    u = rng.uniform
    high, count = u(0.16, 0.26), 9
    teeth = []
    for k in range(count):
        x = 0.95 - 1.3 * k / count
        teeth += [(x, 0.14), (x - 1.3 / count * 0.6, 0.3)]
    pen.poly(Role.METAL, [(-0.4, -0.3), (0.96, 0.04 - high * 0.6), *teeth, (-0.4, 0.2)])
    pen.blob(
        Role.MAIN,
        [
            (-0.3, -0.44),
            (-0.16, -0.1),
            (-0.26, 0.36),
            (-0.6, 0.56),
            (-0.95, 0.46),
            (-0.98, 0.0),
            (-0.84, -0.42),
            (-0.56, -0.52),
        ],
    )
    pen.ellipse(Role.EDGE, -0.62, 0.02, 0.12, 0.22, angle=-14)
    pen.line(Role.LIGHT, [(-0.34, -0.2), (-0.34, 0.16)], 0.07)


def scissors(pen: Pen, rng: random.Random) -> None:
    """Two crossed blades and two loops."""
    u = rng.uniform
    spread_out = u(0.2, 0.42)
    for side in (-1, 1):
        pen.poly(
            Role.METAL,
            [(side * spread_out, -0.98), (side * (spread_out - 0.16), -0.9), (-side * 0.14, 0.14), (side * 0.08, 0.2)],
        )
    for side in (-1, 1):
        x = side * (0.34 + spread_out * 0.3)
        pen.line(Role.MAIN, [(-side * 0.03, 0.06), (side * 0.2, 0.4)], 0.24)
        pen.ring(Role.MAIN, x, 0.6, 0.36, 0.19, squash=1.02)
        for radius in (0.36, 0.17):
            pen.line(
                Role.EDGE,
                [
                    (x + radius * math.cos(k * math.pi / 10), 0.6 + radius * math.sin(k * math.pi / 10))
                    for k in range(21)
                ],
                0.025,
            )
    pen.ellipse(Role.METAL, 0, 0.08, 0.07)


def key(pen: Pen, rng: random.Random) -> None:
    """A round bow with a hole, a shaft and two or three teeth."""
    u = rng.uniform
    bow, teeth = u(0.36, 0.44), rng.randrange(2, 4)
    pen.rect(Role.MAIN, -0.1, -0.1, 0.1, 0.96, radius=0.04)
    for y in spread(0.86, 0.46, teeth):
        pen.rect(Role.MAIN, 0.06, y - 0.08, u(0.32, 0.44), y + 0.08)
    pen.ring(Role.MAIN, 0, -0.5, bow, bow * 0.62)
    for radius in (bow, bow * 0.38):
        pen.line(
            Role.EDGE,
            [(radius * math.cos(k * math.pi / 10), -0.5 + radius * math.sin(k * math.pi / 10)) for k in range(21)],
            0.03,
        )
    pen.rect(Role.DARK, -0.17, -0.14, 0.17, -0.02, radius=0.04)


def wrench(pen: Pen, rng: random.Random) -> None:
    """A straight shaft with an open jaw above and a ring below."""
    u = rng.uniform
    jaw, thick = u(0.34, 0.42), u(0.22, 0.3)
    pen.line(Role.MAIN, [(0, -0.5), (0, 0.6)], thick)
    pen.line(Role.DARK, [(0, -0.2), (0, 0.36)], thick * 0.4)
    head = [(jaw * math.cos(math.radians(a)), -0.6 + jaw * math.sin(math.radians(a))) for a in range(-58, 240, 18)]
    pen.poly(Role.MAIN, [*head, (-jaw * 0.5, -0.62), (0, -0.48), (jaw * 0.5, -0.62)])
    pen.ellipse(Role.MAIN, 0, 0.68, 0.3)
    pen.poly(Role.INK, [(0.15 * math.cos(k * math.pi / 3), 0.68 + 0.15 * math.sin(k * math.pi / 3)) for k in range(6)])


def ladder(pen: Pen, rng: random.Random) -> None:
    """Two rails and rungs, a little narrower at the top."""
    u = rng.uniform
    top, low, rungs = u(0.26, 0.34), u(0.36, 0.46), rng.randrange(4, 7)
    for y in spread(-0.7, 0.74, rungs):
        pen.line(Role.DARK, [(-low, y), (low, y)], 0.13)
    for side in (-1, 1):
        pen.line(Role.MAIN, [(side * top, -0.94), (side * low, 0.94)], 0.17)


def pencil(pen: Pen, rng: random.Random) -> None:
    """A hexagonal pencil, point down, with a rubber on top."""
    u = rng.uniform
    half, tip = u(0.15, 0.2), u(0.52, 0.62)
    for place in (-1, 0, 1):
        role = (Role.DARK, Role.MAIN, Role.LIGHT)[place + 1]
        left, right = half * (place * 0.8 - 0.4), half * (place * 0.8 + 0.4)
        pen.poly(role, [(left, -0.7), (right, -0.7), (right, tip), (left, tip)])
    pen.poly(Role.CREAM, [(-half * 1.2, tip), (half * 1.2, tip), (0, 0.98)])
    pen.poly(Role.INK, [(-half * 0.4, 0.84), (half * 0.4, 0.84), (0, 1.0)])
    pen.rect(Role.METAL, -half * 1.2, -0.82, half * 1.2, -0.68)
    pen.rect(Role.ROSE, -half * 1.2, -1.0, half * 1.2, -0.82, radius=0.06)
