"""A sheet of paper to print on: every printed text is recorded with its box, in reading order."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from percept.world.palette import Rgb
from percept.world.qa.pair import Box, Pair, as_row

Fact: TypeAlias = tuple[str, str, str]
"""Composition that a split allows or forbids, such as (chart, label, value)."""
INK: Rgb = (32, 32, 38)
QUIET: Rgb = (120, 122, 130)
_FINE = 2
"""Pixels of the canvas per pixel of the image, on each axis."""


@dataclass(frozen=True, kw_only=True)
class Text:
    """A printed text."""

    text: str
    box: Box
    """Box of its ink."""
    role: str
    """"title", "heading", "line", "key", "value", "label", "tick", "axis", "item", "price" or "word"."""
    fact: Fact | None = None
    """Composition that the text is part of."""
    paragraph: int = 0
    """Number of the paragraph or row that the text belongs to."""


@dataclass(frozen=True, kw_only=True)
class Document:
    """An image of a document with its text, its data and questions about it."""

    kind: str
    """A name of `DOCUMENTS`."""
    seed: int
    split: str
    image: UInt8[np.ndarray, "y x 3"]
    texts: tuple[Text, ...]
    """All printed texts in reading order."""
    data: dict[str, Any]
    """What the document says, as plain data: the fields of a form, the values of a chart."""
    pairs: tuple[Pair, ...]
    """Questions; `Pair.things` are (0, index) of the texts that contain the answer or lead to it."""

    @property
    def text(self) -> str:
        """All printed text in reading order: one line per paragraph or row."""
        rows: dict[int, list[str]] = {}
        for text in self.texts:
            rows.setdefault(text.paragraph, []).append(text.text)
        return "\n".join(" ".join(row) for row in rows.values())

    def record(self) -> dict[str, Any]:
        """Return everything but the image as plain data for json."""
        return {
            "kind": self.kind,
            "seed": self.seed,
            "split": self.split,
            "text": self.text,
            "texts": [
                {"text": each.text, "role": each.role, "box": [round(side, 4) for side in each.box]}
                for each in self.texts
            ],
            "data": self.data,
            "questions": [[pair.kind, pair.question, pair.answer] for pair in self.pairs],
        }

    def row(self, file: str) -> dict[str, Any]:
        """Return the questions as a conversation: a row of the json lines of Perception LM."""
        return as_row(self.pairs, [file], self.image.shape[1], self.image.shape[0])


@lru_cache(maxsize=64)
def _font(pixels: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(pixels)


class Paper:
    """A canvas whose lengths are in units of its width: x from 0 to 1, y from 0 to `height`."""

    def __init__(self, width: int, height: float, colour: Rgb) -> None:
        """Start an empty sheet of `width` pixels."""
        self.unit = width * _FINE
        self.height = height
        self.image = Image.new("RGB", (self.unit, round(height * width) * _FINE), colour)
        self.draw = ImageDraw.Draw(self.image)
        self.texts: list[Text] = []
        self.paragraph = 0

    def width_of(self, text: str, size: float, *, bold: bool = False) -> float:
        """Return the width of a text at a font size."""
        return self._font(size).getlength(text) / self.unit + (0.004 if bold else 0.0)

    def print(
        self,
        text: str,
        x: float,
        y: float,
        *,
        size: float,
        role: str,
        colour: Rgb = INK,
        bold: bool = False,
        anchor: str = "la",
        fact: Fact | None = None,
    ) -> int:
        """Print a text and record it; return its number.

        Args:
            text: one line.
            x: position of the anchor.
            y: position of the anchor.
            size: font size.
            role: role of the text.
            colour: colour of the ink.
            bold: prints thicker letters.
            anchor: anchor of Pillow, such as "la" for left and ascender, "mm" for the middle.
            fact: composition that the text is part of.
        """
        stroke = max(1, round(0.022 * size * self.unit)) if bold else 0
        place, font = (x * self.unit, y * self.unit), self._font(size)
        self.draw.text(place, text, fill=colour, font=font, anchor=anchor, stroke_width=stroke)
        left, top, right, bottom = self.draw.textbbox(place, text, font=font, anchor=anchor, stroke_width=stroke)
        left, top, right, bottom = math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom)
        box = (left / self.image.width, top / self.image.height, right / self.image.width, bottom / self.image.height)
        sides = [min(max(side, 0.0), 1.0) for side in box]
        self.texts.append(
            Text(
                text=text, box=(sides[0], sides[1], sides[2], sides[3]), role=role, fact=fact, paragraph=self.paragraph
            )
        )
        return len(self.texts) - 1

    def next_row(self) -> None:
        """Begin a new paragraph or row of text."""
        self.paragraph += 1

    def line(self, points: Sequence[tuple[float, float]], *, colour: Rgb = INK, width: float = 0.004) -> None:
        """Draw a line through points."""
        scaled = [(x * self.unit, y * self.unit) for x, y in points]
        self.draw.line(scaled, fill=colour, width=max(1, round(width * self.unit)), joint="curve")

    def box(self, sides: tuple[float, float, float, float], fill: Rgb | None, *, outline: Rgb | None = None) -> None:
        """Fill a rectangle, with a thin outline if a colour is given."""
        scaled = [side * self.unit for side in sides]
        self.draw.rectangle(scaled, fill=fill, outline=outline, width=max(1, round(0.004 * self.unit)))

    def polygon(self, points: Sequence[tuple[float, float]], fill: Rgb) -> None:
        """Fill a polygon."""
        self.draw.polygon([(x * self.unit, y * self.unit) for x, y in points], fill=fill)

    def finish(self) -> UInt8[np.ndarray, "y x 3"]:
        """Return the image."""
        size = (self.image.width // _FINE, self.image.height // _FINE)
        return np.array(self.image.resize(size, Image.Resampling.BOX))

    def _font(self, size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
        return _font(max(8, round(size * self.unit)))
