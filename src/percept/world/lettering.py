"""Print words on a canvas. Rendered glyphs are cached."""

from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

from percept.world.elements import Word
from percept.world.palette import COLOURS, blend, lightness

Box = tuple[int, int, int, int]


@lru_cache(maxsize=64)
def _font(pixels: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(pixels)


@lru_cache(maxsize=1024)
def _glyphs(text: str, pixels: int, stroke: int) -> Image.Image:
    """Return the mask of a printed text, cropped to its bounding box."""
    font = _font(pixels)
    left, top, right, bottom = (round(edge) for edge in font.getbbox(text, stroke_width=stroke))
    image = Image.new("L", (right - left + 4, bottom - top + 4))
    ImageDraw.Draw(image).text((2 - left, 2 - top), text, fill=255, font=font, stroke_width=stroke)
    return image.crop(image.getbbox())


def printed(word: Word) -> str:
    """Return the text of a word in the case in which it is printed."""
    return {"lower": word.text, "upper": word.text.upper(), "title": word.text.title()}[word.case]


def print_word(canvas: Image.Image, word: Word, unit: float) -> tuple[Box, Box]:
    """Print a word; return the box of its ink and the box of all it covers, in canvas pixels.

    Args:
        canvas: image to print on, in-place.
        word: the word.
        unit: canvas pixels per unit of length.
    """
    bold = max(1, round(0.006 * unit))
    ink = _glyphs(printed(word), max(8, round(word.size * unit)), bold // 2)
    x = min(max(round(word.x * unit - ink.width / 2), 2), max(2, canvas.width - ink.width - 2))
    y = min(max(round(word.y * unit - ink.height / 2), 2), max(2, canvas.height - ink.height - 2))
    colour, box = COLOURS[word.colour], (x, y, x + ink.width, y + ink.height)
    covered = box
    if word.board:
        covered = _draw_board(canvas, box, word, unit)
    else:
        halo = (250, 250, 250) if lightness(colour) < 140 else (30, 30, 34)
        wide = _glyphs(printed(word), max(8, round(word.size * unit)), bold // 2 + max(1, round(0.012 * unit)))
        canvas.paste(halo, (x - (wide.width - ink.width) // 2, y - (wide.height - ink.height) // 2), wide)
    canvas.paste(colour, (x, y), ink)
    return box, covered


def _draw_board(canvas: Image.Image, ink: Box, word: Word, unit: float) -> Box:
    pad = round(0.32 * word.size * unit)
    box = (ink[0] - pad, ink[1] - pad, ink[2] + pad, ink[3] + pad)
    board = COLOURS[word.board]
    edge = blend(board, COLOURS[word.colour], 0.6)
    ImageDraw.Draw(canvas).rounded_rectangle(
        box, radius=pad // 2, fill=board, outline=edge, width=max(1, round(0.01 * unit))
    )
    return box
