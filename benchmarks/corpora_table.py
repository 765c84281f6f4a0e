"""Rows of downloaded images, their parts for training and testing, the tables that hold them, and a sheet to look at."""

import csv
import hashlib
import io
import json
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageOps

from percept.core.io import replacing

KINDS = Path(__file__).with_suffix("").with_name("corpora") / "kinds.json"
"""Which drawings show a category of the labelled world."""
HELD_OUT = 0.2
"""Share of concepts, and of openclipart's artists, that training does not see."""
PARTS = ("train", "new_concept", "new_artist", "new_both")
MOST = 12
"""Most drawings of one category by one vendor in the tables of known categories."""
LARGEST = 256
"""Longest side of stored images in pixels."""
PIXELS = 30_000_000
"""Most pixels of an image that is read."""
CELL, COLUMNS = 104, 16
"""Of contact sheets: side of a cell in pixels, and cells in a row."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One image."""

    path: str
    """Within the folder of the table."""
    caption: str
    keywords: str
    """English, separated by commas."""
    concept: str
    """What is drawn; drawings of one concept are in the same part."""
    label: str
    """Category of the labelled world, empty for others."""
    vendor: str
    artist: str
    licence: str
    """SPDX identifier, or the address of the licence."""
    version: str
    """Package and version."""
    part: str
    """One of PARTS."""
    texts: dict[str, str] = field(default_factory=dict)
    """Names and keywords in other languages, by the name of the column."""

    def cells(self) -> dict[str, str]:
        """Return the columns of the table."""
        return {name: value for name, value in vars(self).items() if name != "texts"} | self.texts


def fraction(text: str) -> float:
    """Return a number in [0, 1) that depends on the text alone."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") / 2**64


def part_of(concept: str, *, known: bool, artist_held_out: bool, share: float = HELD_OUT) -> str:
    """Return the part of a drawing, one of PARTS: a pure function of its concept and of whether its artist is held out.

    `known` concepts are categories that the labelled world teaches; they are never held out as concepts.

    >>> part_of("cat", known=True, artist_held_out=False), part_of("cat", known=True, artist_held_out=True)
    ('train', 'new_artist')
    """
    new = not known and fraction(concept) < share
    return {(False, False): "train", (True, False): "new_concept", (False, True): "new_artist"}.get(
        (new, artist_held_out), "new_both"
    )


@lru_cache
def kinds() -> dict[str, Any]:
    """Return the content of KINDS."""
    return json.loads(KINDS.read_text(encoding="utf-8"))


def known(rows: Iterable[Row]) -> list[Row]:
    """Return the rows of known categories, at most MOST per category and vendor, chosen by their path alone."""
    counts: Counter[tuple[str, str]] = Counter()
    chosen = []
    for row in sorted((row for row in rows if row.label), key=lambda row: fraction(row.path)):
        counts[row.vendor, row.label] += 1
        if counts[row.vendor, row.label] <= MOST:
            chosen.append(row)
    return sorted(chosen, key=lambda row: (row.label, row.vendor, row.path))


def tables(rows: Sequence[Row]) -> Iterator[tuple[str, Sequence[Row]]]:
    """Yield the name and the rows of every table of a corpus; a table without rows is left out."""
    shown = known(rows)
    vendors = sorted({row.vendor for row in rows})
    named = [("all", rows), *((part, [row for row in rows if row.part == part]) for part in PARTS), ("kinds", shown)]
    if len(vendors) > 1:
        named += [(f"kinds_{vendor}", [row for row in shown if row.vendor == vendor]) for vendor in vendors]
    return ((name, chosen) for name, chosen in named if chosen)


def write_table(file: Path, rows: Sequence[Row]) -> None:
    """Write rows as csv with a line of column names."""
    columns = list(dict.fromkeys(name for row in rows for name in row.cells()))
    with replacing(file) as temporary, temporary.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.DictWriter(opened, columns, restval="")
        writer.writeheader()
        writer.writerows(row.cells() for row in rows)


def read_table(file: Path) -> list[dict[str, str]]:
    """Return the rows of a table as dictionaries."""
    with file.open(newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


def save_on_white(data: bytes, file: Path, *, square: bool = False) -> bool:
    """Write an image as PNG in RGB, drawn on white and at most LARGEST pixels wide and high.

    Returns False, and writes nothing, if it is broken, empty, or has more than PIXELS pixels. With `square`, transparent margins
    are cut and the rest is put in the middle of a white square.
    """
    drawn = _decoded(data)
    box = None if drawn is None else drawn.getchannel("A").getbbox()
    if drawn is None or box is None:
        return False
    paper = Image.new("RGBA", drawn.size, "white")
    paper.alpha_composite(drawn)
    small = (paper.crop(box) if square else paper).convert("RGB")
    small.thumbnail((LARGEST, LARGEST))
    if square:
        small = ImageOps.pad(small, (max(small.size), max(small.size)), color="white")
    file.parent.mkdir(parents=True, exist_ok=True)
    small.save(file, "PNG")
    return True


def _decoded(data: bytes) -> Image.Image | None:
    with warnings.catch_warnings(), suppress(OSError, ValueError, Image.DecompressionBombError):
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(io.BytesIO(data)) as image:
            return image.convert("RGBA") if image.width * image.height <= PIXELS else None
    return None


def write_sheet(file: Path, folder: Path, rows: Sequence[Row], columns: int = COLUMNS) -> None:
    """Write a contact sheet: every image with its category."""
    height = -(-len(rows) // columns)
    sheet = Image.new("RGB", (columns * CELL, height * (CELL + 8)), "#dddddd")
    pen = ImageDraw.Draw(sheet)
    for number, row in enumerate(rows):
        x, y = number % columns * CELL, number // columns * (CELL + 8)
        with Image.open(folder / row.path) as image:
            small = ImageOps.contain(image.convert("RGB"), (CELL - 12, CELL - 12))
        sheet.paste(small, (x + (CELL - small.width) // 2, y + 2))
        pen.text((x + 4, y + CELL - 8), row.label or row.concept[:16], fill="black")
    with replacing(file) as temporary:
        sheet.save(temporary, "PNG")
