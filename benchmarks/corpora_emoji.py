"""Emoji drawn by four vendors, with names and keywords in many languages: from packages of npm to rows of a table."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TypeAlias

from corpora_fetch import Package, members
from corpora_table import Row, kinds, part_of, save_on_white

from percept.core.report import track

LANGUAGES = (
    *("en", "de", "fr", "es", "it", "pt", "nl", "sv", "fi", "pl", "cs", "ru", "uk", "tr", "ar", "he", "fa", "hi"),
    *("bn", "th", "vi", "id", "sw", "ja", "ko", "zh"),
)  # fmt: skip
SKIN_TONES = {f"1f3f{digit}" for digit in "bcdef"}
CLDR = (
    Package(name="cldr-annotations-full", version="48.2.0", licence="Unicode-3.0", author="Unicode, Inc."),
    Package(name="cldr-annotations-derived-full", version="48.2.0", licence="Unicode-3.0", author="Unicode, Inc."),
)

Names: TypeAlias = Mapping[str, Mapping[str, tuple[str, str]]]
"""Language → emoji → name and keywords."""
Rasterise: TypeAlias = Callable[[Mapping[str, bytes], Path], None]
"""Draws SVG files by name and writes them into a folder as PNG."""


@dataclass(frozen=True, kw_only=True)
class Vendor:
    """A set of drawings."""

    name: str
    package: Package
    folder: str
    """Folder of the drawings within the package; the names of files are code points."""
    held_out: bool = False
    """True if nothing is trained on it."""


VENDORS = (
    Vendor(
        name="google",
        folder="package/img/google/64/",
        package=Package(
            name="emoji-datasource-google", version="16.0.0", licence="Apache-2.0", author="Google (Noto Emoji)"
        ),
    ),
    Vendor(
        name="twitter",
        folder="package/img/twitter/64/",
        package=Package(
            name="emoji-datasource-twitter", version="16.0.0", licence="CC-BY-4.0", author="Twitter (Twemoji)"
        ),
    ),
    Vendor(
        name="fluent",
        folder="package/assets/",
        package=Package(
            name="@lobehub/fluent-emoji-3d", version="1.1.0", licence="MIT", author="Microsoft (Fluent Emoji)"
        ),
    ),
    Vendor(
        name="openmoji",
        folder="package/color/svg/",
        package=Package(name="openmoji", version="17.0.0", licence="CC-BY-SA-4.0", author="OpenMoji"),
        held_out=True,
    ),
)


def code_of(emoji: str) -> str:
    """Return the code points of an emoji as in the names of files, without variation selectors.

    >>> code_of("❤️"), code_of("🐈‍⬛")
    ('2764', '1f408-200d-2b1b')
    """
    return "-".join(f"{ord(letter):04x}" for letter in emoji if letter != "\ufe0f")


def code_in(file: str) -> str:
    """Return the code points in the name of a file, without variation selectors."""
    return "-".join(code for code in PurePosixPath(file).stem.lower().split("-") if code != "fe0f")


def read_names(archives: Sequence[Path], languages: Sequence[str] = LANGUAGES) -> Names:
    """Read the names and keywords of emoji, by code, from the packages of CLDR."""
    names: dict[str, dict[str, tuple[str, str]]] = {language: {} for language in languages}
    for archive in archives:
        for file, data in members(archive, lambda name: name.endswith("/annotations.json")):
            if (language := PurePosixPath(file).parent.name) in names:
                content = json.loads(data)
                content = next(value for key, value in content.items() if key.startswith("annotations"))["annotations"]
                for emoji, each in content.items():
                    if each.get("tts"):
                        names[language][code_of(emoji)] = each["tts"][0], ", ".join(each.get("default", ()))
    return names


def concept_of(name: str) -> str:
    """Return what an emoji shows; men, women and persons who do the same are one concept.

    >>> concept_of("woman running"), concept_of("cat face")
    ('running', 'cat face')
    """
    return re.sub(r"^(person|people|man|woman|men|women)\b:? ?", "", name) or name


def build(archives: Mapping[str, Path], names: Names, folder: Path, rasterise: Rasterise) -> list[Row]:
    """Write the drawings of all vendors into a folder and return their rows.

    Args:
        archives: vendor → archive of its package.
        names: see `read_names`; emoji without an English name, and variants with a skin tone, are left out.
        folder: where the images go, one subfolder per vendor.
        rasterise: draws SVG files.
    """
    labels = {code_of(emoji): label for label, drawn in kinds()["emoji"].items() for emoji in drawn.split()}
    rows = []
    for vendor in VENDORS:
        if vendor.name in archives:
            artists = _artists(archives[vendor.name]) if vendor.name == "openmoji" else {}
            codes = _write(archives[vendor.name], vendor, names["en"], folder / vendor.name, rasterise)
            rows += [_row(code, vendor, labels.get(code, ""), names, artists) for code in codes]
    return rows


def _write(archive: Path, vendor: Vendor, english: Mapping[str, object], folder: Path, draw: Rasterise) -> list[str]:
    """Write the drawings of a vendor and return their codes."""
    drawings: dict[str, bytes] = {}
    for file, data in track(members(archive, partial(_is_wanted, vendor, english)), vendor.name, total=len(english)):
        drawings.setdefault(code_in(file), data)
    if vendor.folder.endswith("/svg/"):
        draw(drawings, folder)
    else:
        drawings = {code: data for code, data in drawings.items() if save_on_white(data, folder / f"{code}.png")}
    return sorted(drawings)


def _is_wanted(vendor: Vendor, english: Mapping[str, object], file: str) -> bool:
    code = code_in(file)
    return file.startswith(vendor.folder) and code in english and not SKIN_TONES & set(code.split("-"))


def _artists(archive: Path) -> dict[str, str]:
    """Return the artist of each drawing of openmoji."""
    data = next((data for _, data in members(archive, lambda name: name == "package/data/openmoji.json")), b"[]")
    return {code_in(each["hexcode"]): each.get("openmoji_author") or "" for each in json.loads(data)}


def _row(code: str, vendor: Vendor, label: str, names: Names, artists: Mapping[str, str]) -> Row:
    name, keywords = names["en"][code]
    concept = label or concept_of(name)
    return Row(
        path=f"{vendor.name}/{code}.png",
        caption=name,
        keywords=keywords,
        concept=concept,
        label=label,
        vendor=vendor.name,
        artist=artists.get(code) or vendor.package.author,
        licence=vendor.package.licence,
        version=f"{vendor.package.name}@{vendor.package.version}",
        part=part_of(concept, known=bool(label), artist_held_out=vendor.held_out),
        texts=dict(_translations(code, names)),
    )


def _translations(code: str, names: Names) -> Iterator[tuple[str, str]]:
    for language, known in names.items():
        if language != "en":
            name, keywords = known.get(code, ("", ""))
            yield f"caption_{language}", name
            yield f"keywords_{language}", keywords
