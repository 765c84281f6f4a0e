"""Text on images: a font that has the letters, and lines that fit."""

from collections.abc import Iterable
from functools import lru_cache

from PIL import ImageDraw, ImageFont

from percept.core.report import printable

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

WIDE_FONTS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial Unicode.ttf", "Arial.ttf", "segoeui.ttf")
"""Tried for names that the font in Pillow, made for western languages, cannot write."""


def write_line(pen: ImageDraw.ImageDraw, at: tuple[int, int], text: str, size: int, colour: str, room: int) -> None:
    """Write one line; a text longer than `room` pixels is cut and ends in an ellipsis."""
    text = printable(text)
    font = font_for(text, size)
    if font.getlength(text) > room:
        while text and font.getlength(text + "…") > room:
            text = text[:-1]
        text += "…"
    pen.text(at, text, font=font, fill=colour)


def font_for(text: str, size: int) -> Font:
    """Return a font of `size` pixels that has the letters of a text, if one is installed."""
    plain = all(ord(letter) < 0x250 or letter in "“”…–’" for letter in text)
    return _load_font(() if plain else WIDE_FONTS, size)


@lru_cache
def _load_font(names: Iterable[str], size: int) -> Font:
    for name in names:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return ImageFont.load_default(size)
