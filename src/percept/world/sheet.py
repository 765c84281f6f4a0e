"""A contact sheet of the labelled world, with the ground truth drawn over the images and captions below."""

import random
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from percept.core.io import replacing
from percept.world.language import long_caption
from percept.world.palette import lightness
from percept.world.render import Rendering

SIDE, MARGIN, TEXT_LINES, LINE = 288, 20, 6, 17
_INK, _PAPER, _QUIET = (28, 30, 36), (250, 249, 246), (120, 122, 130)
_TINTS = ((230, 25, 75), (0, 130, 200), (60, 160, 60), (245, 130, 48), (145, 30, 180), (0, 150, 150))


def make_sheet(renderings: Sequence[Rendering], *, columns: int = 6) -> Image.Image:
    """Arrange images in a grid, each with labelled boxes, outlines of masks, boxes of words and a caption."""
    columns = min(columns, len(renderings))
    rows = -(-len(renderings) // columns)
    cell = (SIDE + MARGIN, SIDE + TEXT_LINES * LINE + MARGIN)
    sheet = Image.new("RGB", (columns * cell[0] + MARGIN, rows * cell[1] + MARGIN), _PAPER)
    for index, rendering in enumerate(renderings):
        x, y = MARGIN + index % columns * cell[0], MARGIN + index // columns * cell[1]
        sheet.paste(overlay(rendering), (x, y))
        _caption(ImageDraw.Draw(sheet), rendering, x, y + SIDE + 4)
    return sheet


def save_sheet(path: Path | str, renderings: Sequence[Rendering], *, columns: int = 6) -> None:
    """Write a contact sheet as PNG, atomically."""
    with replacing(path) as temporary:
        make_sheet(renderings, columns=columns).save(temporary, "PNG")


def overlay(rendering: Rendering) -> Image.Image:
    """Return a square image of `SIDE` pixels, letterboxed, with the ground truth drawn on it."""
    height, width = rendering.image.shape[:2]
    scale = SIDE / max(width, height)
    inner = Image.fromarray(_outlined(rendering)).resize(
        (round(width * scale), round(height * scale)), Image.Resampling.LANCZOS
    )
    draw = ImageDraw.Draw(inner)
    for index, (thing, box) in enumerate(zip(rendering.scene.things, rendering.boxes, strict=True)):
        _label(draw, box, f"{thing.size} {thing.colour} {thing.category}".strip(), _TINTS[index % len(_TINTS)])
    for word, box in zip(rendering.scene.words, rendering.word_boxes, strict=True):
        _label(draw, box, f"“{word.text}”", (90, 90, 90))
    square = Image.new("RGB", (SIDE, SIDE), _PAPER)
    square.paste(inner, ((SIDE - inner.width) // 2, (SIDE - inner.height) // 2))
    return square


def _outlined(rendering: Rendering) -> np.ndarray:
    """Return the pixels with the outline of every mask tinted."""
    image = rendering.image.copy()
    for index, mask in enumerate(rendering.masks if rendering.masks is not None else ()):
        inside = mask.copy()
        inside[1:-1, 1:-1] &= mask[:-2, 1:-1] & mask[2:, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:]
        rim = mask & ~inside
        image[rim] = (image[rim] * 0.4 + np.array(_TINTS[index % len(_TINTS)]) * 0.6).astype(np.uint8)
    return image


def _label(draw: ImageDraw.ImageDraw, box: np.ndarray, name: str, tint: tuple[int, int, int]) -> None:
    """Draw a box with its name on a tab at the top left, inside the image."""
    if not box.any():
        return
    width, height = draw.im.size
    left, top, right, bottom = box * (width, height, width, height)
    draw.rectangle((left, top, right - 1, bottom - 1), outline=tint, width=2)
    font = ImageFont.load_default(11)
    wide = draw.textlength(name, font=font) + 6
    x, y = max(0.0, min(left, width - wide)), max(0.0, top - 13)
    draw.rectangle((x, y, x + wide, y + 13), fill=tint)
    draw.text((x + 3, y), name, fill="white" if lightness(tint) < 160 else "black", font=font)


def _caption(draw: ImageDraw.ImageDraw, rendering: Rendering, x: int, y: int) -> None:
    scene = rendering.scene
    head = f"{scene.split} {scene.seed}" + (f" · {scene.style}: {scene.variant}" if scene.style != "plain" else "")
    draw.text((x, y), f"{head} · {scene.background}", fill=_QUIET, font=ImageFont.load_default(12))
    text = long_caption(scene, random.Random(scene.seed))
    lines = textwrap.wrap(text, 46, max_lines=TEXT_LINES - 1, placeholder=" …")
    for number, line in enumerate(lines):
        draw.text((x, y + (number + 1) * LINE), line, fill=_INK, font=ImageFont.load_default(13))
