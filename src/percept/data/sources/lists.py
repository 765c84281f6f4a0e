"""The lists of COCO and MSR-VTT: one json object whose annotations name images or videos by their ids, as one row per image or video.

The rows are written once, as json lines, to the cache.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from percept.core.errors import PerceptError
from percept.core.io import replacing
from percept.data.sources.index import Stamp, cache_home

_LISTS = (("images", "annotations"), ("videos", "sentences"))
"""Names of the lists of COCO, and of MSR-VTT."""
_FORMAT = 1
"""Changes with the rows that are written, so that older ones are written again."""


def rows_of_lists(file: Path) -> Path | None:
    """Return the json lines that hold the images of a file of COCO, or the videos of one of MSR-VTT; None for other files.

    Images have `file_name`, `captions` (where the annotations are captions) and `objects` (where they are boxes: `category`, `bbox`
    and the other fields); videos have `video` and `captions`.

    Raises:
        PerceptError: an entry has no id or file name, or the rows cannot be written.
    """
    stamp = Stamp.of(file)
    name = f"{_FORMAT} {file.resolve()} {stamp}".encode("utf-8", "surrogateescape")
    lines = cache_home() / f"{hashlib.blake2b(name, digest_size=12).hexdigest()}.jsonl"
    if lines.is_file():
        return lines
    try:
        value = json.loads(file.read_bytes())
    except (ValueError, RecursionError):  # not one object
        return None
    if not any(all(isinstance(value.get(each), list) for each in names) for names in _LISTS):
        return None
    try:
        _write(lines, _images(value) if "images" in value else _videos(value))
    except (KeyError, TypeError, AttributeError) as error:
        raise PerceptError(
            f"{file} has an entry without {error}. Entries of images need id and file_name, those of annotations image_id."
        ) from None
    return lines


def media_folder(file: Path, lines: Path) -> Path:
    """Return the folder from which the paths of the rows start: the first of the usual ones in which the first file lies."""
    with lines.open(encoding="utf-8") as opened:
        first = json.loads(opened.readline() or "{}")
    name = first.get("file_name") or f"{first.get('video')}.mp4"
    subset = file.stem.rpartition("_")[2]  # instances_train2017
    above = file.parent.parent
    usual = (
        *(file.parent, above / subset, above / "images" / subset, above / "images", above, file.parent / subset),
        *(
            file.parent / "images",
            file.parent / "videos" / "all",
            file.parent / "videos",
            file.parent / "TrainValVideo",
        ),
    )
    return next((folder for folder in usual if (folder / name).is_file()), file.parent)


def _write(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    try:
        with replacing(file) as temporary, temporary.open("w", encoding="utf-8") as out:
            out.writelines(json.dumps(row) + "\n" for row in rows)
    except OSError as error:
        raise PerceptError(
            f"the rows {file} cannot be written: {error.strerror or error}. Free some space, or set PERCEPT_CACHE to a different folder."
        ) from None


def _images(value: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    names = {each["id"]: each["name"] for each in value.get("categories", ())}
    by_image = _grouped(value["annotations"], "image_id")
    for image in value["images"]:
        found = by_image.get(image["id"], [])
        captions = [each["caption"] for each in found if "caption" in each]
        objects = [each | {"category": names[each["category_id"]]} for each in found if "category_id" in each]
        row = {"file_name": image["file_name"], **image}
        yield row | ({"captions": captions} if captions else {}) | ({"objects": objects} if names else {})


def _videos(value: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    by_video = _grouped(value["sentences"], "video_id")
    for video in value["videos"]:
        captions = [each["caption"] for each in by_video.get(video["video_id"], [])]
        yield {"video": video["video_id"], "captions": captions, **video}


def _grouped(entries: Sequence[Mapping[str, Any]], name: str) -> dict[Any, list[Any]]:
    groups: dict[Any, list[Any]] = {}
    for each in entries:
        groups.setdefault(each[name], []).append(each)
    return groups
