"""Files that list images or videos: Karpathy's json of COCO and Flickr, and the csv files of Kinetics."""

import csv
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from percept.core.errors import PerceptError
from percept.data.sources.sample import BadSample
from percept.eval.sets.classes import class_file, templates_of
from percept.eval.sets.item import EvaluationSet, Item, Request, UnknownClass
from percept.eval.sets.places import MEDIA, SPLITS, Locator, check_files, chosen_split

CAPTIONS = 5
"""Captions of an image that are used; a few images of COCO have six or seven."""
CLIPS = ("youtube_id", "time_start", "time_end")
"""Columns of the files of Kinetics, besides label and split."""


def karpathy(file: Path, value: Mapping[str, Any], request: Request, *, advice: str = MEDIA) -> EvaluationSet:
    """Open a json file of Karpathy's splits: images with about five captions each.

    Args:
        file: the file.
        value: its content.
        request: names the folder of the images and the split.
        advice: what to do where images are missing.

    Raises:
        PerceptError: there is no such split, or more than half of its images are incomplete or missing.
    """
    given: list[Mapping[str, Any]] = [image if isinstance(image, dict) else {} for image in value["images"]]
    if not any(image.get("split") for image in given):
        raise PerceptError(
            f"{file} has no image with a split in its list images. Images need filename, split, and sentences with raw, as in dataset_coco.json."
        )
    split = chosen_split(file, (str(image["split"]) for image in given if image.get("split")), request.subset)
    entries = [image for image in given if str(image.get("split") or split) == split]
    locate = Locator(request.media or file.parent)

    def read(number: int) -> Item:
        image, key = entries[number], key_of(number)
        return Item(key=key, media=_image(image, key, locate), captions=_sentences(image, key))

    def key_of(number: int) -> str:
        parts = [str(part) for name in ("filepath", "filename") if (part := entries[number].get(name))]
        return "/".join(parts) or f"image {number + 1}"

    check_files(f"{file} (split {split})", "image", read, len(entries), advice)
    return EvaluationSet(
        name=f"{value.get('dataset') or file.stem} {split}", path=str(file), layout="Karpathy json", holds=("captions",),
        count=len(entries), key=key_of, read=read,
    )  # fmt: skip


def _sentences(image: Mapping[str, Any], key: str) -> tuple[str, ...]:
    try:
        return tuple(text for each in image["sentences"][:CAPTIONS] if (text := str(each["raw"]).strip()))
    except (KeyError, TypeError) as error:
        detail = f"its entry has no {error}" if isinstance(error, KeyError) else "sentences is not a list of objects"
        raise BadSample("no captions", key, detail) from None


def _image(image: Mapping[str, Any], key: str, locate: Locator) -> Path:
    """Return the file of an image. If its folder does not exist, it is searched for by its file name."""
    if not isinstance(image.get("filename"), str):
        raise BadSample("no filename", key)
    apart = not (locate.folder / key).parent.is_dir()
    return locate(key, image["filename"]) if apart else locate(key)


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
    return value if isinstance(images, list) and images and "annotations" not in value else None


def is_kinetics(file: Path) -> bool:
    """True for a csv file with the columns of Kinetics."""
    with file.open(encoding="utf-8-sig", errors="replace", newline="") as opened:
        return set(CLIPS) <= set(next(csv.reader(opened), []))


def kinetics(file: Path, request: Request) -> EvaluationSet:
    """Open a csv file of Kinetics: label, youtube_id, time_start, time_end, split.

    A video is looked for as `ID_000010_000020.mp4`, cut already, and as `ID.mp4`, of which the time counts. Videos that are
    missing, as many are by now, are counted and left out.

    Raises:
        PerceptError: there are no rows, there is no such split, or more than half of its videos are missing.
    """
    rows = _kinetics_rows(file)
    split = chosen_split(file, (row.get("split") or "test" for row in rows), request.subset)
    rows = [row for row in rows if (row.get("split") or "test") == split]
    locate = Locator(request.media or file.parent)
    check_files(file, "video", lambda number: _clip(rows[number], locate), len(rows))
    classes = class_file(request.classes, file.parent)
    names = classes.names if classes is not None else tuple(sorted({row["label"] for row in rows if row["label"]}))
    numbers = {name: number for number, name in enumerate(names)}

    def where(number: int) -> str:
        return f"{_key(rows[number])} ({file.name}, line {rows[number]['line']})"

    def read(number: int) -> Item:
        row = rows[number]
        item = _clip(row, locate)
        if row["label"] not in numbers:
            raise UnknownClass("unknown class", item.key, f"{row['label']!r} is not among the classes")
        return replace(item, labels=(numbers[row["label"]],))

    return EvaluationSet(
        name=f"{file.resolve().parent.name} {file.stem}" if file.stem in SPLITS else file.stem, path=str(file), layout="Kinetics csv", holds=("class",), count=len(rows), video=True,
        key=lambda number: _key(rows[number]), where=where, read=read, classes=names,
        templates=templates_of(request.templates, file.parent),
    )  # fmt: skip


def _kinetics_rows(file: Path) -> list[dict[str, str]]:
    """Return the rows of a file with their lines; missing cells are empty strings."""
    with file.open(encoding="utf-8-sig", newline="") as opened:
        reader = csv.DictReader(opened, restval="")
        rows = [{**row, "line": str(reader.line_num)} for row in reader]
    if not rows:
        raise PerceptError(f"{file} has no rows below its column names. Give a file with at least one video.")
    if "label" not in rows[0]:
        raise PerceptError(f"{file} has no column label. Each line needs {', '.join(('label', *CLIPS))}.")
    return rows


def _key(row: Mapping[str, str]) -> str:
    try:
        return f"{row['youtube_id']}_{int(float(row['time_start'])):06d}_{int(float(row['time_end'])):06d}"
    except ValueError:
        return row["youtube_id"] or f"line {row['line']}"


def _clip(row: Mapping[str, str], locate: Locator) -> Item:
    """Return the video of a row: a clip that is already cut, or a whole video with the span of the row.

    Raises:
        BadSample: a cell is missing or not a number, or there is no video.
    """
    name, key = row["youtube_id"], _key(row)
    if lacking := [each for each in ("label", *CLIPS) if not row[each]]:
        raise BadSample(f"no {lacking[0]}", key)
    try:
        start, end = float(row["time_start"]), float(row["time_end"])
    except ValueError:
        raise BadSample("its times are not seconds", key, f"{row['time_start']!r} and {row['time_end']!r}") from None
    path = locate(f"{key}.mp4", key, f"{name}.mp4", name)
    return Item(key=key, media=path, window=None if path.stem == key else (start, end))
