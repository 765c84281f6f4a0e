"""From the fields of a row, as plain data, to a sample: which hold images, videos, texts, and a conversation."""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from percept.data.files import VIDEO_SUFFIXES
from percept.data.sources.conversation import has_conversation, turns_of
from percept.data.sources.sample import BadSample, Media, Sample

IMAGES = (
    *("image", "images", "image_path", "filepath", "file_path", "path", "file_name", "filename", "file", "img"),
    *("image_bytes", "bytes", "jpg", "jpeg", "png", "webp"),
)
VIDEOS = ("video", "videos", "video_path", "video_bytes", "mp4", "webm", "clip", "video_id")
"""Fields that are taken for the image or the video where none is named; the first one that a row has, whatever its case."""
KNOWN = f"Names of columns with images are {', '.join(IMAGES)}; with videos, {', '.join(VIDEOS)}."


@dataclass(frozen=True, kw_only=True)
class Fields:
    """Names of the fields that hold images and videos; None for the usual names."""

    image: str | None = None
    video: str | None = None
    root: Path | None = None
    """Folder from which paths start."""
    classes: Mapping[str, tuple[str, ...]] | None = None
    """Names of the classes by the name of a field that holds class numbers."""

    def image_in(self, names: Mapping[str, Any]) -> str | None:
        """Return the name of the field that holds the image, if there is one."""
        return self.image if self.image in names else _first(IMAGES, names) if self.image is None else None

    def video_in(self, names: Mapping[str, Any]) -> str | None:
        """Return the name of the field that holds the video, if there is one."""
        return self.video if self.video in names else _first(VIDEOS, names) if self.video is None else None

    def sample(self, key: str, record: Mapping[str, Any]) -> Sample:
        """Turn a row into a sample.

        Raises:
            BadSample: a field has the wrong type.
        """
        image, video = self.image_in(record), self.video_in(record)
        images = self._media(key, image, record[image]) if image else ()
        videos = self._media(key, video, record[video]) if video else ()
        if not videos and self.video is None:  # a column `path` may hold either
            videos = tuple(one for one in images if isinstance(one, Path) and one.suffix.lower() in VIDEO_SUFFIXES)
            images = tuple(one for one in images if one not in videos)
        used = {image, video}
        captions = texts_of(record, without=used)
        label, classes = self._label(key, record)
        rest = {name: value for name, value in record.items() if not (name in used and not _is_plain(value))}
        if has_conversation(record):
            rest["conversations"] = turns_of(key, record)
        return Sample(
            key=key,
            images=images,
            video=videos[0] if videos else None,
            captions=captions | classes,
            label=label,
            record=rest,
        )

    def _media(self, key: str, name: str | None, value: Any) -> tuple[Media, ...]:
        """Return what a field holds: a path, bytes, {bytes, path} as in Hugging Face datasets, or a list of these."""
        if value is None or value == "":
            return ()
        if isinstance(value, bytes | bytearray | memoryview):
            return (bytes(value),)
        if isinstance(value, str):
            return (self._path(value),)
        if isinstance(value, Mapping) and ("bytes" in value or "path" in value):
            return self._media(key, name, value.get("bytes") or value.get("path"))
        if isinstance(value, list | tuple):
            return tuple(one for each in value for one in self._media(key, name, each))
        raise BadSample("wrong type", key, f"field {name!r} holds {type(value).__name__}, not a path or bytes")

    def _path(self, value: str) -> Path:
        """Return a path below the root; a name without an ending may be that of a video."""
        path = (self.root or Path()) / value
        if not path.suffix and not os.path.exists(path):
            return next(
                (
                    other
                    for suffix in (".mp4", ".webm", ".avi", ".mkv")
                    if os.path.exists(other := path.with_suffix(suffix))
                ),
                path,
            )
        return path

    def _label(self, key: str, record: Mapping[str, Any]) -> tuple[str | None, dict[str, tuple[str, ...]]]:
        """Return the name of the class, and class names by the field that holds their number."""
        named: dict[str, tuple[str, ...]] = {}
        for field, names in (self.classes or {}).items():
            number = record.get(field)
            if isinstance(number, int) and 0 <= number < len(names):
                named[field] = (names[number],)
            elif number not in (None, -1):  # -1 where a data set hides its labels
                raise BadSample("wrong type", key, f"field {field!r} holds {number!r}, not a class number")
        first = next(iter(named.values()), None)
        plain = next((record[name] for name in ("label", "class", "cls") if name in record), None)
        plain = None if self.classes else plain
        label = first[0] if first else str(plain) if isinstance(plain, str | int) else None
        return label, named


def _first(names: tuple[str, ...], record: Mapping[str, Any]) -> str | None:
    lower = {name.lower(): name for name in reversed(list(record))}
    return next((lower[name] for name in names if name in lower), None)


def texts_of(record: Mapping[str, Any], *, without: Collection[str | None] = ()) -> dict[str, tuple[str, ...]]:
    """Return the fields of a row that hold a text or a list of texts."""
    texts = {name: _texts(value) for name, value in record.items() if name not in without}
    return {name: each for name, each in texts.items() if each is not None}


def _texts(value: Any) -> tuple[str, ...] | None:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list | tuple) and value and all(isinstance(each, str) for each in value):
        return tuple(value)
    return None


def _is_plain(value: Any) -> bool:
    """True for values that are worth keeping in the record: not the bytes of images."""
    if isinstance(value, Mapping):
        return all(map(_is_plain, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return not isinstance(value, bytes | bytearray | memoryview)
