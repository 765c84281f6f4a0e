"""Vehicles, facing right."""

import math
import random

from percept.world.objects.parts import spread, wheel, windows
from percept.world.pen import Pen, Role


def car(pen: Pen, rng: random.Random) -> None:
    """Low body, rounded cabin with windows, two wheels; saloon, estate or open top."""
    u = rng.uniform
    roof, front = u(-0.52, -0.36), u(0.18, 0.36)
    back = rng.choice((-0.8, -0.5, -0.38))
    pen.poly(Role.MAIN, [(max(back - 0.24, -0.9), 0.02), (back, roof), (front, roof), (front + 0.32, 0.02)])
    mid = (front + back) / 2
    left = max(back - 0.1, -0.82)
    pen.poly(Role.GLASS, [(left, 0.0), (back + 0.06, roof + 0.12), (mid - 0.05, roof + 0.12), (mid - 0.05, 0.0)])
    pen.poly(Role.GLASS, [(mid + 0.06, 0), (mid + 0.06, roof + 0.12), (front - 0.05, roof + 0.12), (front + 0.17, 0)])
    pen.rect(Role.MAIN, -0.96, -0.04, 0.96, 0.44, radius=0.16)
    pen.rect(Role.DARK, -0.96, 0.29, 0.96, 0.44, radius=0.07)
    pen.ellipse(Role.GOLD, 0.86, 0.1, 0.07)
    if rng.random() < 0.2:
        pen.rect(Role.METAL, back + 0.1, roof - 0.1, front - 0.1, roof - 0.03)
    size = u(0.18, 0.23)
    wheel(pen, -0.52, 0.44, size)
    wheel(pen, 0.54, 0.44, size)


def bus(pen: Pen, rng: random.Random) -> None:
    """A long box with one or two rows of windows and a door."""
    u = rng.uniform
    double = rng.random() < 0.35
    top, count = (u(-0.9, -0.78) if double else u(-0.58, -0.42)), rng.randrange(3, 6)
    pen.rect(Role.MAIN, -0.98, top, 0.98, 0.44, radius=0.12)
    pen.rect(Role.DARK, -0.98, 0.22, 0.98, 0.44, radius=0.06)
    places = spread(-0.8 + 0.5 / count, 0.44 - 0.1 / count, count)
    lower = -0.2 if double else top + 0.28
    windows(pen, places, (lower,), 0.9 / count, 0.26, radius=0.03)
    if double:
        windows(pen, [*places, 0.74], (top + 0.28,), 0.9 / count if count > 3 else 0.24, 0.24, radius=0.03)
    pen.rect(Role.GLASS, 0.62, lower - 0.15, 0.82, 0.36)
    pen.rect(Role.GLASS, 0.88, lower - 0.13, 0.98, lower + 0.22)
    for x in (-0.55, 0.42):
        wheel(pen, x, 0.46, 0.17)


def truck(pen: Pen, rng: random.Random) -> None:
    """A high load box behind a lower cab."""
    u = rng.uniform
    top, cab = u(-0.74, -0.5), u(0.3, 0.4)
    pen.rect(Role.INK, -0.92, 0.3, 0.9, 0.42)
    pen.rect(Role.MAIN, -0.98, top, cab - 0.06, 0.32)
    if rng.random() < 0.6:
        pen.rect(Role.DARK, -0.98, 0.16, cab - 0.06, 0.32)
    pen.poly(Role.LIGHT, [(cab, 0.4), (cab, -0.3), (cab + 0.32, -0.3), (cab + 0.5, 0.02), (0.96, 0.06), (0.96, 0.4)])
    pen.poly(Role.GLASS, [(cab + 0.1, 0.0), (cab + 0.1, -0.2), (cab + 0.28, -0.2), (cab + 0.4, 0.0)])
    for x in (-0.66, -0.26, 0.62):
        wheel(pen, x, 0.44, 0.19)


def bicycle(pen: Pen, rng: random.Random) -> None:
    """Two spoked wheels, a frame, saddle and handlebar."""
    u = rng.uniform
    radius, seat = u(0.36, 0.42), u(-0.5, -0.36)
    for x in (-0.56, 0.56):
        pen.ring(Role.INK, x, 0.3, radius, 0.07)
        for k in range(3):
            angle = math.pi * k / 3 + 0.3
            across, down = (radius - 0.05) * math.cos(angle), (radius - 0.05) * math.sin(angle)
            pen.line(Role.METAL, [(x - across, 0.3 - down), (x + across, 0.3 + down)], 0.025)
    for stop in (
        [(-0.56, 0.3), (-0.22, -0.2)],
        [(-0.56, 0.3), (-0.02, 0.32)],
        [(-0.02, 0.32), (-0.26, seat)],
        [(-0.02, 0.32), (0.38, -0.26)],
        [(-0.2, -0.18), (0.38, -0.24)],
        [(0.56, 0.3), (0.34, -0.44)],
    ):
        pen.line(Role.MAIN, stop, 0.17)
    pen.line(Role.MAIN, [(0.22, -0.5), (0.36, -0.46), (0.54, -0.54)], 0.1)
    pen.ellipse(Role.INK, -0.28, seat - 0.04, 0.2, 0.07)
    pen.ellipse(Role.MAIN, -0.02, 0.32, 0.12)


def boat(pen: Pen, rng: random.Random) -> None:
    """A sailing boat: hull, mast and one or two sails."""
    u = rng.uniform
    mast, bulge = u(-0.12, 0.08), u(0.0, 0.14)
    pen.line(Role.WOOD, [(mast, 0.5), (mast, -0.96)], 0.06)
    pen.poly(Role.MAIN, [(mast + 0.06, -0.9), (mast + 0.3 + bulge, -0.4), (mast + 0.7, 0.26), (mast + 0.06, 0.26)])
    if rng.random() < 0.75:
        pen.poly(Role.LIGHT, [(mast - 0.06, -0.74), (mast - 0.06, 0.26), (mast - 0.62, 0.26)])
    pen.blob(Role.MAIN, [(-0.86, 0.38), (0, 0.42), (0.92, 0.36), (0.62, 0.84), (0, 0.88), (-0.62, 0.84)])
    pen.line(Role.WHITE, [(-0.76, 0.5), (0.78, 0.48)], 0.05)


def airplane(pen: Pen, rng: random.Random) -> None:
    """A liner in profile: pointed fuselage, tail fin, swept wing."""
    u = rng.uniform
    sweep, thick = u(0.2, 0.42), u(0.17, 0.22)
    pen.poly(Role.DARK, [(0.2, -0.08), (-0.1 - 0.4 * sweep, -0.5), (-0.24 - 0.4 * sweep, -0.5), (-0.16, -0.08)])
    pen.poly(Role.MAIN, [(-0.56, -0.08), (-0.86, -0.56), (-0.98, -0.56), (-0.9, 0.02)])
    pen.blob(Role.MAIN, [(-0.96, -0.06), (-0.3, -thick), (0.5, -thick), (0.96, 0.04), (0.5, thick), (-0.3, thick)])
    pen.poly(Role.GLASS, [(0.66, -0.15), (0.8, -0.1), (0.86, -0.02), (0.64, -0.03)])
    for x in spread(-0.44, 0.48, 6):
        pen.ellipse(Role.GLASS, x, -0.05, 0.05, 0.06)
    pen.poly(Role.DARK, [(0.22, 0.06), (-0.16 - sweep, 0.66), (-0.36 - sweep, 0.66), (-0.2, 0.06)])
    pen.poly(Role.DARK, [(-0.68, 0.0), (-0.86, 0.22), (-0.98, 0.22), (-0.9, 0.0)])


def rocket(pen: Pen, rng: random.Random) -> None:
    """Standing, with fins, a round window and sometimes a flame."""
    u = rng.uniform
    wide = u(0.26, 0.36)
    if rng.random() < 0.6:
        pen.poly(Role.GOLD, [(-0.2, 0.6), (0.2, 0.6), (0.1, 0.82), (0, u(0.92, 1.1)), (-0.1, 0.82)])
    for side in (-1, 1):
        pen.poly(
            Role.DARK,
            [
                (side * wide * 0.8, 0.1),
                (side * (wide + 0.3), 0.5),
                (side * (wide + 0.28), 0.8),
                (side * wide * 0.6, 0.56),
            ],
        )
    pen.blob(
        Role.MAIN,
        [
            (0, -1.0),
            (wide * 0.75, -0.55),
            (wide, 0.0),
            (wide * 0.75, 0.62),
            (-wide * 0.75, 0.62),
            (-wide, 0.0),
            (-wide * 0.75, -0.55),
        ],
    )
    pen.poly(Role.DARK, [(0, -1.0), (wide * 0.56, -0.66), (-wide * 0.56, -0.66)])
    pen.ellipse(Role.WHITE, 0, -0.28, 0.18)
    pen.ellipse(Role.GLASS, 0, -0.28, 0.12)
    if rng.random() < 0.5:
        pen.ellipse(Role.GLASS, 0, 0.14, 0.1)
    pen.line(Role.DARK, [(0, 0.36), (0, 0.76)], 0.1)


def train(pen: Pen, rng: random.Random) -> None:
    """A steam engine: boiler, chimney, cab, many wheels."""
    u = rng.uniform
    chimney = u(0.22, 0.36)
    pen.rect(Role.MAIN, -0.9, -0.62, -0.3, 0.32)
    pen.rect(Role.DARK, -0.98, -0.74, -0.22, -0.58, radius=0.05)
    pen.rect(Role.GLASS, -0.76, -0.46, -0.46, -0.14)
    pen.rect(Role.MAIN, -0.34, -0.24, 0.72, 0.32, radius=0.1)
    pen.poly(Role.DARK, [(0.38, -0.22), (0.32, -0.24 - chimney), (0.66, -0.24 - chimney), (0.6, -0.22)])
    pen.dome(Role.DARK, 0.02, -0.22, 0.15, 0.16)
    if rng.random() < 0.5:
        for k in range(3):
            pen.ellipse(Role.WHITE, 0.4 - 0.22 * k, -0.42 - chimney - 0.06 * k, 0.1 + 0.03 * k)
    pen.rect(Role.DARK, -0.94, 0.28, 0.78, 0.42)
    pen.poly(Role.METAL, [(0.74, 0.24), (1.0, 0.64), (0.66, 0.64)])
    wheel(pen, -0.6, 0.46, 0.24)
    for x in (-0.12, 0.2, 0.5):
        wheel(pen, x, 0.54, 0.15)


def helicopter(pen: Pen, rng: random.Random) -> None:
    """A bubble with glass front, tail boom, rotor and skids."""
    u = rng.uniform
    tip = u(0.7, 0.96)
    pen.poly(Role.MAIN, [(-0.1, -0.14), (-0.92, -0.2), (-0.94, -0.06), (-0.1, 0.22)])
    pen.poly(Role.DARK, [(-0.8, -0.14), (-0.98, -0.46), (-0.86, -0.46), (-0.68, -0.14)])
    pen.ellipse(Role.MAIN, 0.28, 0.06, 0.54, u(0.38, 0.46))
    pen.pie(Role.GLASS, 0.36, 0.02, 0.4, 0.3, -85, 12)
    pen.line(Role.METAL, [(0.12, 0.4), (0.08, 0.62)], 0.05)
    pen.line(Role.METAL, [(0.46, 0.4), (0.5, 0.62)], 0.05)
    pen.line(Role.METAL, [(-0.16, 0.64), (0.7, 0.64), (0.8, 0.56)], 0.06)
    pen.line(Role.INK, [(0.22, -0.3), (0.22, -0.5)], 0.08)
    pen.line(Role.INK, [(0.22 - tip, -0.52 + u(-0.04, 0.04)), (0.22 + tip * 0.8, -0.52)], 0.06)
    pen.ellipse(Role.METAL, -0.9, -0.26, 0.05, u(0.12, 0.2))


def tractor(pen: Pen, rng: random.Random) -> None:
    """A huge rear wheel, a small front wheel, bonnet and cab."""
    u = rng.uniform
    big = u(0.4, 0.48)
    pen.line(Role.INK, [(0.5, -0.1), (0.5, u(-0.62, -0.4))], 0.07)
    pen.rect(Role.MAIN, -0.74, -0.88, 0.08, -0.7, radius=0.05)
    pen.poly(Role.MAIN, [(-0.64, -0.76), (-0.02, -0.76), (0.08, 0.1), (-0.68, 0.1)])
    pen.poly(Role.GLASS, [(-0.5, -0.64), (-0.14, -0.64), (-0.1, -0.26), (-0.52, -0.26)])
    pen.rect(Role.MAIN, -0.7, -0.24, 0.94, 0.4, radius=0.1)
    for x in (0.5, 0.64, 0.78):
        pen.line(Role.DARK, [(x, -0.1), (x, 0.12)], 0.06)
    wheel(pen, -0.46, 0.44, big, hub=Role.MAIN)
    pen.arc(Role.MAIN, -0.46, 0.44, big + 0.02, big + 0.02, 190, 350, 0.11)
    wheel(pen, 0.64, 0.62, 0.26, hub=Role.MAIN)


def hot_air_balloon(pen: Pen, rng: random.Random) -> None:
    """A large envelope with seams over a small basket."""
    u = rng.uniform
    wide = u(0.62, 0.74)
    for side in (-1, 1):
        pen.line(Role.WOOD, [(side * 0.28, 0.3), (side * 0.16, 0.74)], 0.03)
    pen.blob(
        Role.MAIN,
        [
            (0, -0.98),
            (wide * 0.76, -0.76),
            (wide, -0.3),
            (wide * 0.62, 0.14),
            (0.2, 0.46),
            (-0.2, 0.46),
            (-wide * 0.62, 0.14),
            (-wide, -0.3),
            (-wide * 0.76, -0.76),
        ],
    )
    bulge = wide * u(0.4, 0.5)
    pen.blob(Role.LIGHT, [(0, -0.97), (bulge, -0.35), (0.1, 0.44), (-0.1, 0.44), (-bulge, -0.35)])
    pen.rect(Role.DARK, -0.21, 0.4, 0.21, 0.49)
    pen.rect(Role.WOOD, -0.19, 0.7, 0.19, 0.98, radius=0.05)


def submarine(pen: Pen, rng: random.Random) -> None:
    """A long rounded hull, tower with periscope, portholes, screw."""
    u = rng.uniform
    tower, high = u(-0.15, 0.2), u(0.36, 0.44)
    pen.line(Role.METAL, [(tower + 0.06, -0.4), (tower + 0.06, -0.86), (tower + 0.26, -0.86)], 0.08)
    pen.poly(Role.DARK, [(tower - 0.26, -0.1), (tower - 0.2, -0.54), (tower + 0.22, -0.54), (tower + 0.3, -0.1)])
    pen.poly(Role.DARK, [(-0.62, 0.2), (-0.94, -0.2), (-0.96, 0.6)])
    pen.ellipse(Role.METAL, -0.94, 0.2, 0.05, 0.26)
    pen.ellipse(Role.MAIN, 0.06, 0.2, 0.88, high)
    for x in spread(-0.34, 0.56, 3):
        pen.ellipse(Role.WHITE, x, 0.14, 0.13)
        pen.ellipse(Role.GLASS, x, 0.14, 0.085)
