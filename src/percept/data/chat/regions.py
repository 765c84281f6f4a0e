"""Boxes in text and drawn on images, as PLM writes and draws them (Cho et al. 2025, arXiv:2504.13180)."""

import math
import re
from collections.abc import Iterable

from PIL import Image, ImageDraw

from percept.core.errors import PerceptError
from percept.data.chat.conversation import Box, Number

LARGEST = 0.999
"""Largest normalised coordinate that three digits can hold."""
LINE = 4
"""Width in pixels of a drawn box."""
_BOX = re.compile(r"\[\s*(\d{1,4})\s*,\s*(\d{1,4})\s*,\s*(\d{1,4})\s*,\s*(\d{1,4})\s*\]")


def check_box(box: Iterable[Number], width: Number, height: Number) -> Box:
    """Return a box as four numbers; width and height are infinite while the image is not known.

    Raises:
        PerceptError: not four numbers, empty, or outside the image.
    """
    values = tuple(float(value) for value in box)
    if len(values) != 4 or not all(map(math.isfinite, values)):
        raise PerceptError(f"the box {list(values)} is not four finite numbers. Give x0, y0, x1, y1 in pixels.")
    x0, y0, x1, y1 = values
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        known = math.isfinite(width) and math.isfinite(height)
        place = f"in an image of {width:g} × {height:g} pixels" if known else "in any image"
        raise PerceptError(
            f"the box [{x0:g}, {y0:g}, {x1:g}, {y1:g}] does not lie {place}. Give x0, y0, x1, "
            "y1 in pixels with 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height."
        )
    return x0, y0, x1, y1


def box_text(box: Box, width: Number = 1, height: Number = 1) -> str:
    """Write a box as thousandths of width and height, three digits each; by default the box is in such shares itself.

    >>> box_text((0, 0, 640, 480), 640, 480), box_text((100, 50, 133, 71), 640, 480)
    ('[000,000,999,999]', '[156,104,207,147]')
    """
    shares = (value / side for value, side in zip(box, (width, height, width, height), strict=True))
    return "[" + ",".join(f"{int(min(max(share, 0.0), LARGEST) * 1000):03d}" for share in shares) + "]"


def parse_box(text: str) -> Box | None:
    """Return the first box in a text as shares of width and height in [0, 1); None if there is none.

    >>> parse_box("It is at [156,104,207,147].")
    (0.156, 0.104, 0.207, 0.147)
    """
    match = _BOX.search(text)
    if match is None:
        return None
    x0, y0, x1, y1 = (float(f"0.{digits}") for digits in match.groups())
    return x0, y0, x1, y1


def draw_box(image: Image.Image, box: Box, *, colour: str = "red", line: int = LINE) -> Image.Image:
    """Return a copy of an image with a box drawn on it."""
    copy = image.copy()
    ImageDraw.Draw(copy).rectangle(box, outline=colour, width=line)
    return copy
