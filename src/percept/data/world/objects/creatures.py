"""Birds, insects and what swims or creeps; they look to the right."""

import math
import random

from percept.data.world.objects.parts import dot_eye, eye, spread
from percept.data.world.pen import Pen, Role


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


def bird(pen: Pen, rng: random.Random) -> None:
    """A small perching bird: round head, short beak, wing, tail up."""
    u = rng.uniform
    tail, wing = u(-0.3, 0.1), u(-0.1, 0.25)
    for x in (-0.02, 0.16):
        pen.line(Role.GOLD, [(x, 0.5), (x + 0.04, 0.88), (x + 0.2, 0.9)], 0.06)
    pen.poly(Role.DARK, [(-0.4, 0.0), (-1.0, tail - 0.08), (-0.98, tail + 0.16), (-0.36, 0.34)])
    pen.poly(Role.GOLD, [(0.66, -0.5), (0.98, -0.36), (0.66, -0.26)])
    pen.blob(
        Role.MAIN,
        [
            (-0.56, 0.1),
            (-0.1, -0.2),
            (0.14, -0.6),
            (0.46, -0.74),
            (0.74, -0.44),
            (0.62, 0.1),
            (0.24, 0.56),
            (-0.24, 0.5),
        ],
    )
    pen.blob(Role.LIGHT, [(0.6, -0.1), (0.56, 0.14), (0.22, 0.5), (0.16, 0.2)], edge=False)
    pen.blob(Role.DARK, [(0.2, -0.1), (-0.1, -0.18), (-0.72, wing), (-0.2, 0.32), (0.16, 0.24)])
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


def turtle(pen: Pen, rng: random.Random) -> None:
    """A domed shell with plates over pale legs, head and tail."""
    u = rng.uniform
    head, high = u(-0.2, 0.12), u(0.6, 0.76)
    pen.poly(Role.CREAM, [(-0.6, 0.3), (-0.92, 0.5), (-0.6, 0.46)])
    for x in (-0.44, 0.34):
        pen.line(Role.CREAM, [(x, 0.36), (x + u(-0.1, 0.1), 0.62)], 0.24)
    pen.curve(Role.CREAM, [(0.4, 0.34), (0.64, 0.2), (0.8, head)], 0.24)
    dot_eye(pen, 0.84, head - 0.05, 0.045)
    pen.dome(Role.MAIN, -0.06, 0.38, 0.7, high)
    for x, y, size in ((-0.06, 0.38 - 0.62 * high, 0.2), (-0.4, 0.16, 0.15), (0.28, 0.16, 0.15), (-0.06, 0.2, 0.13)):
        pen.poly(
            Role.DARK,
            pen.arc_points(x, y, size, size, 0, 300)[::2]
            if size > 1
            else [(x + size * math.cos(math.pi * k / 3), y + size * 0.9 * math.sin(math.pi * k / 3)) for k in range(6)],
        )
    pen.rect(Role.DARK, -0.82, 0.32, 0.7, 0.46, radius=0.07)


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
    """A round body on eight bent legs."""
    u = rng.uniform
    for side in (-1, 1):
        for k, (knee_y, foot_y) in enumerate(((-0.72, -0.36), (-0.44, 0.2), (-0.16, 0.64), (0.3, 0.94))):
            knee = (side * (0.62 + 0.08 * (k in (1, 2)) + u(-0.05, 0.05)), knee_y + u(-0.06, 0.06))
            foot = (side * (0.9 + u(-0.06, 0.06) - 0.16 * (k == 3)), foot_y)
            pen.line(Role.MAIN, [(side * 0.2, -0.05 + 0.06 * k), knee, foot], 0.1, 0.06)
    pen.ellipse(Role.MAIN, 0, 0.22, u(0.42, 0.52), u(0.46, 0.54))
    pen.poly(Role.LIGHT, [(0, 0.0), (0.14, 0.26), (0, 0.52), (-0.14, 0.26)])
    pen.ellipse(Role.MAIN, 0, -0.26, 0.28, 0.24)
    for side in (-1, 1):
        eye(pen, side * 0.12, -0.34, 0.1, look=0)


def snake(pen: Pen, rng: random.Random) -> None:
    """A thick wavy line with a head, an eye and a forked tongue."""
    u = rng.uniform
    wave, wide = u(0.26, 0.42), u(0.2, 0.25)
    path = [
        (-0.95, 0.5),
        (-0.7, 0.5 - wave),
        (-0.42, 0.5),
        (-0.12, 0.5 + wave * 0.8),
        (0.18, 0.4),
        (0.24, 0.0),
        (0.4, -0.34),
        (0.66, -0.4),
    ]
    pen.line(Role.ROSE, [(0.8, -0.4), (1.06, -0.38)], 0.045)
    pen.line(Role.ROSE, [(1.04, -0.38), (1.14, -0.46)], 0.035)
    path.reverse()
    pen.curve(Role.MAIN, path, wide + 0.06, 0.07)
    for x, y in (path[1], path[3], path[4], path[5], path[6]):
        pen.ellipse(Role.DARK, x, y, 0.075, 0.07)
    pen.ellipse(Role.MAIN, 0.74, -0.42, 0.22, 0.16)
    eye(pen, 0.8, -0.5, 0.08)


def bee(pen: Pen, rng: random.Random) -> None:
    """A round body with dark bands, two wings and a sting."""
    u = rng.uniform
    lift = u(-0.15, 0.15)
    pen.ellipse(Role.WHITE, -0.24, -0.5, 0.24, 0.42, angle=-30 + 60 * lift)
    pen.ellipse(Role.GLASS, 0.14, -0.52, 0.26, 0.44, angle=18 + 60 * lift)
    pen.poly(Role.INK, [(-0.7, 0.08), (-0.98, 0.16), (-0.7, 0.26)])
    pen.ellipse(Role.MAIN, -0.06, 0.16, 0.74, u(0.44, 0.52))
    for x, high in ((-0.4, 0.36), (-0.06, 0.46)):
        pen.rect(Role.INK, x - 0.07, 0.16 - high, x + 0.07, 0.16 + high, radius=0.05)
    for x in (0.5, 0.7):
        pen.curve(Role.INK, [(0.46, -0.16), (x, -0.4), (x + 0.14, -0.52)], 0.045)
    eye(pen, 0.46, 0.04, 0.12)


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
    """Squatting, eyes on top of the head, wide mouth, big feet."""
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


def ladybird(pen: Pen, rng: random.Random) -> None:
    """A beetle from above: dark head, split wing cases, spots."""
    u = rng.uniform
    for side in (-1, 1):
        for y in (-0.2, 0.2, 0.56):
            pen.line(Role.INK, [(side * 0.5, y), (side * 0.92, y + u(-0.06, 0.14))], 0.08)
        pen.line(Role.INK, [(side * 0.12, -0.7), (side * 0.3, -0.96)], 0.05)
    pen.ellipse(Role.INK, 0, -0.58, 0.38, 0.28)
    pen.ellipse(Role.MAIN, 0, 0.16, 0.72, 0.74)
    pen.line(Role.INK, [(0, -0.54), (0, 0.88)], 0.05)
    for side in (-1, 1):
        eye(pen, side * 0.2, -0.66, 0.09, look=0)
        for x, y in ((0.34, -0.2), (0.44, 0.24), (0.22, 0.56)):
            pen.ellipse(Role.INK, side * x, y + u(-0.05, 0.05), 0.115)


def jellyfish(pen: Pen, rng: random.Random) -> None:
    """A bell with a scalloped rim and wavy threads."""
    u = rng.uniform
    for k, x in enumerate(spread(-0.5, 0.5, 5)):
        sway, low = u(-0.14, 0.14), u(0.7, 0.96)
        pen.curve(
            Role.LIGHT if k % 2 else Role.DARK,
            [(x, 0.05), (x + 0.12, 0.3), (x - 0.08 + sway, 0.55), (x + 0.06 + sway, low)],
            0.12,
            0.06,
        )
    for x in spread(-0.56, 0.56, 4):
        pen.ellipse(Role.DARK, x, 0.06, 0.19, 0.13)
    pen.dome(Role.MAIN, 0, 0.08, 0.76, u(0.84, 1.0))
    pen.ellipse(Role.LIGHT, -0.3, -0.46, 0.16, 0.11, angle=-35)


def chicken(pen: Pen, rng: random.Random) -> None:
    """A hen: comb and wattle, plump body, fanned tail, thin legs."""
    u = rng.uniform
    x, y = 0.46, -0.46 + u(-0.1, 0.12)
    for foot in (-0.1, 0.14):
        pen.line(Role.GOLD, [(foot, 0.5), (foot, 0.9), (foot + 0.16, 0.92)], 0.06)
    for rise in (-0.62, -0.36, -0.1):
        pen.ellipse(Role.DARK, -0.7, rise + 0.1 + u(-0.04, 0.04), 0.3, 0.14, angle=30 + 40 * rise)
    for k in range(3):
        pen.ellipse(Role.ROSE, x - 0.14 + 0.13 * k, y - 0.3 + 0.03 * abs(k - 1), 0.1, 0.13)
    pen.poly(Role.GOLD, [(x + 0.2, y - 0.1), (x + 0.46, y + 0.0), (x + 0.2, y + 0.1)])
    pen.ellipse(Role.ROSE, x + 0.2, y + 0.2, 0.07, 0.13)
    pen.blob(
        Role.MAIN,
        [
            (-0.82, -0.2),
            (-0.3, 0.0),
            (0.08, -0.12),
            (x - 0.26, y),
            (x, y - 0.26),
            (x + 0.26, y),
            (0.66, 0.12),
            (0.4, 0.54),
            (-0.1, 0.66),
            (-0.6, 0.4),
        ],
    )
    pen.blob(Role.DARK, [(0.24, 0.12), (-0.14, 0.06), (-0.5, 0.18), (-0.2, 0.42), (0.14, 0.4)])
    dot_eye(pen, x + 0.06, y - 0.06, 0.055)
