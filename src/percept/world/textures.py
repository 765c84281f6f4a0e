"""Flat backgrounds in light colours: wood, bricks, tiles, paper, a smooth gradient and speckles."""

import random

from PIL import Image, ImageDraw

from percept.world.brush import pastel, vary
from percept.world.palette import blend


def wood(image: Image.Image, rng: random.Random, _horizon: int) -> None:
    """Draw horizontal or vertical planks with a few lines of grain."""
    base = vary(rng.choice(((214, 180, 136), (196, 158, 116), (222, 204, 176))), rng, 10)
    upright = rng.random() < 0.5
    across, along = (image.width, image.height) if upright else (image.height, image.width)
    draw, plank = ImageDraw.Draw(image), across / rng.randint(3, 6)
    for step in range(-1, int(across / plank) + 1):
        start, tone = step * plank + 0.5 * plank, vary(base, rng, 8)
        lines = [(start, 0.0, start + plank, float(along), tone)]
        lines += [
            (g, 0.0, g + 1, float(along), blend(tone, (120, 80, 40), 0.18))
            for g in (start + rng.uniform(0.2, 0.8) * plank,) * 2
        ]
        lines.append((start, 0.0, start + max(1.0, across / 96), float(along), blend(tone, (80, 50, 20), 0.4)))
        for left, top, right, bottom, fill in lines:
            draw.rectangle((left, top, right, bottom) if upright else (top, left, bottom, right), fill=fill)


def bricks(image: Image.Image, rng: random.Random, _horizon: int) -> None:
    """Draw a wall of whitewashed or clay bricks."""
    base, mortar = vary(rng.choice(((214, 160, 138), (222, 212, 200), (196, 176, 166))), rng, 10), (228, 222, 214)
    draw, tall = ImageDraw.Draw(image), image.height / rng.randint(7, 11)
    draw.rectangle((0, 0, *image.size), fill=mortar)
    gap = max(1.0, image.height / 64)
    for row in range(int(image.height / tall) + 1):
        x = -tall * (2.2 if row % 2 else 1.1)
        while x < image.width:
            draw.rectangle((x, row * tall, x + 2.2 * tall - gap, (row + 1) * tall - gap), fill=vary(base, rng, 8))
            x += 2.2 * tall


def tiles(image: Image.Image, rng: random.Random, _horizon: int) -> None:
    """Draw square tiles of one colour or as a pale checkerboard."""
    tile = pastel(rng)
    joint = blend(tile, (96, 96, 106), 0.35) if rng.random() < 0.5 else blend(tile, (255, 255, 255), 0.7)
    second = blend(tile, (255, 255, 255), rng.choice((0.0, 0.35, 0.5)))
    draw, side = ImageDraw.Draw(image), image.height / rng.randint(4, 8)
    draw.rectangle((0, 0, *image.size), fill=joint)
    gap, shift = max(1.0, image.height / 80), rng.uniform(0, side)
    for row in range(int(image.height / side) + 2):
        for column in range(int(image.width / side) + 2):
            x, y = column * side - shift, row * side - shift
            draw.rectangle((x, y, x + side - gap, y + side - gap), fill=second if (row + column) % 2 else tile)


def paper(image: Image.Image, rng: random.Random, _horizon: int) -> None:
    """Draw a light sheet of paper: blank, ruled or squared."""
    sheet = vary((246, 243, 234), rng, 6)
    draw, step = ImageDraw.Draw(image), image.height / rng.randint(8, 14)
    draw.rectangle((0, 0, *image.size), fill=sheet)
    rule, kind = blend(sheet, (130, 160, 210), 0.4), rng.choice(("blank", "ruled", "squared"))
    if kind == "blank":
        return
    for index in range(1, int(max(image.size) / step) + 1):
        draw.line((0, index * step, image.width, index * step), fill=rule)
        if kind == "squared":
            draw.line((index * step, 0, index * step, image.height), fill=rule)


def smooth(image: Image.Image, rng: random.Random, _horizon: int) -> None:
    """Draw a smooth gradient between four pale colours."""
    corners = Image.new("RGB", (2, 2))
    corners.putdata([pastel(rng) for _ in range(4)])
    image.paste(corners.resize(image.size, Image.Resampling.BILINEAR, box=(0.5, 0.5, 1.5, 1.5)))


def speckle(image: Image.Image, rng: random.Random, _horizon: int) -> None:
    """Draw small pale dots scattered on a light colour."""
    base = pastel(rng)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, *image.size), fill=base)
    dots = [blend(base, pastel(rng), 0.8), blend(base, (255, 255, 255), 0.6), blend(base, (90, 90, 90), 0.3)]
    for _ in range(60):
        x, y, r = rng.uniform(0, image.width), rng.uniform(0, image.height), image.height * rng.uniform(0.006, 0.02)
        draw.ellipse((x - r, y - r, x + r, y + r), fill=rng.choice(dots))
