"""Debian's openclipart: drawings as PNG from one package, titles, tags, artists and licences from the SVG files of the other."""

import hashlib
import html
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

from corpora_fetch import members
from corpora_table import HELD_OUT, Row, fraction, kinds, part_of, save_on_white

from percept.core.report import track
from percept.world.objects import CATEGORIES

FOLDERS = ("usr/share/openclipart/svg/", "usr/share/openclipart/png/")
LEFT_OUT = ("shapes/stars/", "special/")
"""Folders of generated stars, colour gradients, patterns and programs' examples."""
NO_THINGS = ("computer/", "signs_and_symbols/", "transportation/roadsigns/", "transportation/aiga-symbols/")
"""Folders of icons and signs, which show more or less than the thing in their title: they get no category."""
SIGNS = ("stop sign", "traffic light", "flag")
"""Categories that folders of signs do show."""
PUBLIC_DOMAIN = re.compile("public ?domain", re.IGNORECASE)
COLLECTION = re.compile("clipart by|part of|various", re.IGNORECASE)
"""Begins titles that name a collection."""
TAIL = re.compile(r"\b(with|on|in|of|for|from|drawn|by|at)\b|[,:;/&+#]|\d| - ")
"""Ends the words that say what is drawn."""


@dataclass(frozen=True, kw_only=True)
class Description:
    """What the SVG file of a drawing says about it."""

    title: str
    tags: str
    artist: str
    licence: str


def words(text: str) -> list[str]:
    """Return the words of a title or a file name, in lower case.

    >>> words("two_Cats 01")
    ['two', 'cats']
    """
    return re.findall("[^\\W\\d_]+", text.lower())


def describe(stem: str, svg: str) -> Description:
    """Read the metadata of an SVG file; a title that names a whole collection is replaced by the name of the file."""
    found = re.search("<metadata.*?</metadata>", svg, re.DOTALL)
    metadata = found[0] if found else ""
    title = _first("<dc:title>(.*?)</dc:title>", metadata)
    if COLLECTION.match(title) or not set(words(title)) & set(words(stem)):
        title = stem
    tags = [_plain(tag) for tag in re.findall("<rdf:li>(.*?)</rdf:li>", metadata, re.DOTALL)]
    artist = _first("<dc:creator>.*?<dc:title>(.*?)</dc:title>", metadata)
    return Description(
        title=re.sub(r"[_\s]+", " ", title).strip(),
        tags=", ".join(dict.fromkeys(tag for tag in tags if tag)),
        artist=artist or "unknown",
        licence=_first('<cc:license rdf:resource="(.*?)"', metadata),
    )


def head(title: str) -> list[str]:
    """Return the words of a title that say what is drawn, without what follows.

    >>> head("Dog 01 Drawn With Straight Lines"), head("Rubber Duck (Open Bill)")
    (['dog'], ['rubber', 'duck'])
    """
    text = re.sub(r"\(.*?\)", " ", title.lower())
    return words(TAIL.split(text, maxsplit=1)[0])


def category_of(file: str, title: str) -> str:
    """Return the category of the labelled world that a title names, or an empty string.

    >>> category_of("food/fruit/a.png", "Two red apples"), category_of("food/fruit/b.png", "Simple apple")
    ('', 'apple')
    """
    ending = head(title)
    label = next((found for first in range(len(ending)) if (found := _named().get(tuple(ending[first:])))), "")
    hidden = (
        file.startswith("computer/" if label in SIGNS else NO_THINGS)
        or file.removesuffix(".png") in kinds()["not shown"]
    )
    return "" if hidden else label


@lru_cache
def _named() -> dict[tuple[str, ...], str]:
    """Return the category of every name that may end a title."""
    names = kinds()["names in titles"]
    return {tuple(words(name)): label for label in CATEGORIES for name in names.get(label, [label])}


def build(svg: Path, png: Path, version: str, folder: Path) -> tuple[list[Row], Counter[str]]:
    """Write the drawings into a folder; return their rows, and how many files were left out for each reason."""
    described = dict(_descriptions(svg))
    rows, left_out, seen = [], Counter[str](), set[bytes]()
    prefix = FOLDERS[1]
    files = members(png, lambda name: name.startswith(prefix) and name.endswith(".png"))
    for name, data in track(files, "openclipart", total=len(described)):
        file = name.removeprefix(prefix)
        digest = hashlib.sha256(data).digest()
        if reason := _reason(file, described.get(file), digest in seen):
            left_out[reason] += 1
            continue
        seen.add(digest)
        if save_on_white(data, folder / "images" / file, square=True):
            rows.append(_row(file, described[file], version))
        else:
            left_out["broken, empty or very large image"] += 1
    return sorted(rows, key=lambda row: row.path), left_out


def _reason(file: str, found: Description | None, repeated: bool) -> str | None:
    """Return why a drawing is left out, or None."""
    if file.startswith(LEFT_OUT):
        return "generated or no drawing"
    if found is None:
        return "no description"
    if not PUBLIC_DOMAIN.search(found.licence):
        return "not public domain"
    if not head(found.title):
        return "no title"
    return "same image again" if repeated else None


def _descriptions(svg: Path) -> Iterator[tuple[str, Description]]:
    prefix = FOLDERS[0]
    for name, data in members(svg, lambda name: name.startswith(prefix) and name.endswith(".svg")):
        file = PurePosixPath(name.removeprefix(prefix))
        yield str(file.with_suffix(".png")), describe(file.stem, data.decode(errors="replace"))


def _row(file: str, found: Description, version: str) -> Row:
    label = category_of(file, found.title)
    concept = label or head(found.title)[-1]
    held_out = fraction(found.artist) < HELD_OUT
    return Row(
        path=f"images/{file}",
        caption=found.title,
        keywords=found.tags,
        concept=concept,
        label=label,
        vendor="openclipart",
        artist=found.artist,
        licence=found.licence,
        version=version,
        part=part_of(concept, known=bool(label), artist_held_out=held_out),
    )


def _first(pattern: str, text: str) -> str:
    found = re.search(pattern, text, re.DOTALL)
    return _plain(found[1]) if found else ""


def _plain(text: str) -> str:
    return html.unescape(html.unescape(text)).strip()
