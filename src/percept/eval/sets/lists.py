"""Files that list images or videos: Karpathy's json of COCO and Flickr, and the csv files of Kinetics."""

import csv
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from percept.core.errors import PerceptError
from percept.eval.sets.classes import class_file, templates_of
from percept.eval.sets.item import EvaluationSet, Item, Request
from percept.eval.sets.places import MEDIA, SPLITS, Locator, absent, chosen_split

CAPTIONS = 5
"""Captions of an image that are used; a few images of COCO have six or seven."""
CLIPS = ("youtube_id", "time_start", "time_end")
"""Columns of the files of Kinetics, besides label and split."""


def karpathy(file: Path, value: Mapping[str, Any], request: Request, *, advice: str = MEDIA) -> EvaluationSet:
    """Open a json file of Karpathy's splits: images with about five captions each.

    Args:
        advice: what to do where images are missing.

    Raises:
        PerceptError: an entry lacks a field, there is no such split, or the images are not there.
    """
    try:
        split = chosen_split(file, (image["split"] for image in value["images"]), request.subset)
        entries = [image for image in value["images"] if image["split"] == split]
        texts = [tuple(str(each["raw"]).strip() for each in image["sentences"][:CAPTIONS]) for image in entries]
        names = [
            f"{image['filepath']}/{image['filename']}" if image.get("filepath") else image["filename"]
            for image in entries
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise PerceptError(
            f"{file} has an image without {error}. Images need filename, split, and sentences with raw, as in dataset_coco.json."
        ) from None
    folder = request.media or file.parent
    locate = Locator(folder)
    paths = [locate(name) for name in names]
    if missing := [name for name, path in zip(names, paths, strict=True) if path is None]:
        raise absent(file, folder, len(missing), len(names), missing[0], f"images of the split {split}", advice)
    found = [path for path in paths if path is not None]
    return EvaluationSet(
        name=f"{value.get('dataset') or file.stem} {split}", path=str(file), layout="Karpathy json", holds=("captions",),
        count=len(names), key=lambda number: names[number],
        read=lambda number: Item(key=names[number], media=found[number], captions=texts[number]),
    )  # fmt: skip


def karpathy_content(file: Path) -> Mapping[str, Any] | None:
    """Return the content of a Karpathy json file; None for other files."""
    with file.open("rb") as opened:
        if opened.read(64).lstrip()[:1] != b"{":
            return None
    try:
        value = json.loads(file.read_bytes())
    except (ValueError, RecursionError):  # json lines, for example
        return None
    images = value.get("images")
    return value if isinstance(images, list) and images and "sentences" in images[0] else None


def is_kinetics(file: Path) -> bool:
    """True for a csv file with the columns of Kinetics."""
    with file.open(encoding="utf-8-sig", errors="replace", newline="") as opened:
        return set(CLIPS) <= set(next(csv.reader(opened), []))


def kinetics(file: Path, request: Request) -> EvaluationSet:
    """Open a csv file of Kinetics: label, youtube_id, time_start, time_end, split.

    A video is looked for as `ID_000010_000020.mp4`, cut already, and as `ID.mp4`, of which the time counts. Videos that are
    missing, as many are by now, are counted and left out.

    Raises:
        PerceptError: a row lacks a cell, there is no such split, or none of the videos are there.
    """
    rows = _kinetics_rows(file)
    split = chosen_split(file, (row.get("split") or "test" for row in rows), request.subset)
    rows = [row for row in rows if (row.get("split") or "test") == split]
    folder = request.media or file.parent
    locate = Locator(folder)
    items = [(row["label"], _clip(file, row, locate)) for row in rows]
    there = [(label, item) for label, item in items if item is not None]
    if not there:
        example = f"{rows[0]['youtube_id']}.mp4"
        raise absent(file, folder, len(items), len(items), example, "videos")
    classes = class_file(request.classes, file.parent)
    names = classes.names if classes is not None else tuple(sorted({row["label"] for row in rows}))
    numbers = {name: number for number, name in enumerate(names)}
    if unknown := Counter(label for label, _ in there if label not in numbers):
        raise PerceptError(
            f"{file} has the label {next(iter(unknown))!r}, which is not among the {len(names)} classes. Add it to the class file."
        )

    def read(number: int) -> Item:
        label, item = there[number]
        return Item(key=item.key, media=item.media, window=item.window, labels=(numbers[label],))

    missing = len(items) - len(there)
    return EvaluationSet(
        name=f"{file.resolve().parent.name} {file.stem}" if file.stem in SPLITS else file.stem, path=str(file), layout="Kinetics csv", holds=("class",), count=len(there), video=True,
        key=lambda number: there[number][1].key, read=read, classes=names,
        templates=templates_of(request.templates, file.parent),
        remark=f"{missing:,} of {len(items):,} videos are missing." if missing else "",
    )  # fmt: skip


def _kinetics_rows(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8-sig", newline="") as opened:
        rows = list(csv.DictReader(opened))
    needed = ("label", *CLIPS)
    for number, row in enumerate(rows, 2):
        if lacking := [name for name in needed if not row.get(name)]:
            raise PerceptError(f"{file}, line {number}, has no {lacking[0]}. Each line needs {', '.join(needed)}.")
    if not rows:
        raise PerceptError(f"{file} has no rows below its column names. Give a file with at least one video.")
    return rows


def _clip(file: Path, row: Mapping[str, str], locate: Locator) -> Item | None:
    try:
        start, end = float(row["time_start"]), float(row["time_end"])
    except ValueError:
        raise PerceptError(
            f"{file}: the times {row['time_start']!r} and {row['time_end']!r} of {row['youtube_id']} are not seconds. Give numbers."
        ) from None
    name = row["youtube_id"]
    key = f"{name}_{int(start):06d}_{int(end):06d}"
    if (path := locate(f"{key}.mp4", key)) is not None:
        return Item(key=key, media=path)
    path = locate(f"{name}.mp4", name)
    return None if path is None else Item(key=key, media=path, window=(start, end))
