"""Results as one image: one or more rows per query, with the rank, score and name of each hit."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from percept.core.errors import PerceptError
from percept.core.io import replacing
from percept.core.report import printable
from percept.data.captions import font_for, write_line
from percept.search.hits import Answer, Hit
from percept.search.thumbnails import picture, thumbnail

PAPER, CARD, INK, SOFT, LINE = "#faf9f6", "#efede7", "#1f1f1d", "#6d6a63", "#e2dfd7"
ACCENT = "#1f6f78"
MOST_LINES = 4
"""Largest number of lines of a query; the last line is truncated."""


@dataclass(frozen=True, kw_only=True)
class Measures:
    """Sizes in pixels."""

    side: int = 168
    """Side of the square that contains an image."""
    gap: int = 18
    margin: int = 36
    query: int = 250
    """Width of the column with the query."""
    caption: int = 48
    """Height below an image."""
    columns: int = 8
    """Largest number of images side by side; not in pixels."""


def write_sheet(file: Path | str, answers: Sequence[Answer], *, title: str = "") -> None:
    """Write the contact sheet as PNG, whatever the extension of the file."""
    with replacing(file) as temporary:
        draw_sheet(answers, title=title).save(temporary, "PNG")


def draw_sheet(answers: Sequence[Answer], *, title: str = "", measures: Measures | None = None) -> Image.Image:
    """Draw a row per answer, or several rows if it has many hits.

    Raises:
        PerceptError: `answers` is empty.
    """
    if not answers:
        raise PerceptError("a contact sheet needs at least one answer.")
    m = measures or Measures()
    columns = max(1, *(min(len(answer.hits), m.columns) for answer in answers))
    lines = [max(1, -(-len(answer.hits) // columns)) for answer in answers]
    row, top = m.side + m.caption + m.gap, m.margin + (48 if title else 0)
    width = 2 * m.margin + m.query + columns * (m.side + m.gap)
    sheet = Image.new("RGB", (width, top + sum(lines) * row + m.margin - m.gap), PAPER)
    pen = ImageDraw.Draw(sheet)
    if title:
        write_line(pen, (m.margin, m.margin - 6), title, 26, INK, width - 2 * m.margin)
    for number, answer in enumerate(answers):
        y = top + sum(lines[:number]) * row
        _query(sheet, pen, (m.margin, y), answer, m)
        for place, hit in enumerate(answer.hits):
            line, column = divmod(place, columns)
            x = m.margin + m.query + m.gap + column * (m.side + m.gap)
            _result(sheet, pen, (x, y + line * row), hit, m)
    return sheet


def _query(sheet: Image.Image, pen: ImageDraw.ImageDraw, at: tuple[int, int], answer: Answer, m: Measures) -> None:
    x, y = at
    pen.line((x, y, x + m.query - m.gap, y), fill=LINE, width=1)
    y += 12
    image = answer.question.image
    if image is not None:
        side = m.side - 96 if answer.question.texts else m.side - 48
        _framed(sheet, pen, (x, y), thumbnail(image, side), side, missing=not os.path.exists(image))
        y += side + 8
    lines = _wrapped(printable(answer), 19, m.query - m.gap)
    if len(lines) > MOST_LINES:
        lines = [*lines[: MOST_LINES - 1], " ".join(lines[MOST_LINES - 1 :])]
    for line in lines:
        write_line(pen, (x, y), line, 19, INK, m.query - m.gap)
        y += 25
    write_line(pen, (x, y + 2), f"best {len(answer.hits)} of {answer.searched:,}", 13, SOFT, m.query)


def _result(sheet: Image.Image, pen: ImageDraw.ImageDraw, at: tuple[int, int], hit: Hit, m: Measures) -> None:
    x, y = at
    _framed(sheet, pen, at, picture(hit, m.side), m.side, missing=not os.path.exists(hit.path))
    y += m.side + 7
    write_line(pen, (x, y), str(hit.rank), 15, ACCENT if hit.rank == 1 else INK, 30)
    score = f"{hit.score:.3f}"
    write_line(pen, (x + m.side - round(font_for(score, 15).getlength(score)), y), score, 15, INK, m.side)
    name = hit.path.name if hit.span is None else f"{hit.span}  {hit.path.name}"
    write_line(pen, (x, y + 20), name, 12, SOFT, m.side)


def _framed(
    sheet: Image.Image,
    pen: ImageDraw.ImageDraw,
    at: tuple[int, int],
    small: Image.Image | None,
    side: int,
    *,
    missing: bool,
) -> None:
    x, y = at
    pen.rectangle((x, y, x + side - 1, y + side - 1), fill=CARD)
    if small is None:
        reason = "the file no longer exists" if missing else "cannot be shown"
        write_line(pen, (x + 12, y + side // 2 - 8), reason, 13, SOFT, side - 24)
        return
    if max(small.size) < side:  # small images are enlarged
        scale = side / max(small.size)
        small = small.resize((max(1, round(small.width * scale)), max(1, round(small.height * scale))))
    sheet.paste(small, (x + (side - small.width) // 2, y + (side - small.height) // 2))


def _wrapped(text: str, size: int, room: int) -> list[str]:
    font, lines = font_for(text, size), [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > room:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
