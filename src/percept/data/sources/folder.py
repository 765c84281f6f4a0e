"""Rows of a folder of images or videos: the subfolder is the class, and a .txt or .json file of the same name the caption."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from percept.core.errors import PerceptError
from percept.data.files import find_media, is_video
from percept.data.sources.conversation import has_conversation, turns_of
from percept.data.sources.fields import texts_of
from percept.data.sources.jsonl import json_object
from percept.data.sources.sample import BadSample, Sample, check_index

SPLITS = {"train", "test", "val", "valid", "validation", "dev"}
"""Names of subfolders that are not classes."""


@dataclass(frozen=True, kw_only=True)
class FolderRows:
    """The images and videos of a folder and its subfolders, in natural order."""

    name: str
    folder: Path
    files: tuple[str, ...]
    """Paths within the folder."""

    @classmethod
    def open(cls, paths: Sequence[Path], name: str) -> "FolderRows":
        """Find the files of folders; files named outright are taken as they are.

        Raises:
            PerceptError: there are none, or they belong to several splits.
        """
        paths = [Path(os.path.abspath(path)) if ".." in path.parts else path for path in paths]
        parents = [(path if path.is_dir() else path.parent).absolute() for path in paths]
        folder = parents[0] if len(paths) == 1 else Path(os.path.commonpath([parent.parent for parent in parents]))
        files = tuple(path.absolute().relative_to(folder).as_posix() for path in find_media(paths))
        rows = cls(name=name, folder=folder, files=files)
        if len(paths) == 1 and len(rows.classes) > 1 and {label.lower() for label in rows.classes} <= SPLITS:
            raise PerceptError(
                f"{name} holds the splits {', '.join(rows.classes)}. Name one, such as {paths[0] / rows.classes[0]}."
            )
        return rows

    def __len__(self) -> int:
        return len(self.files)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the subfolders."""
        return tuple(sorted({label for file in self.files if (label := _label(file)) is not None}))

    def key(self, index: int) -> str:
        """Return the path within the folder."""
        return self.files[index]

    def read(self, index: int) -> Sample:
        """Read the files of the same name as an image or video; the image itself is read when it is decoded.

        Raises:
            BadSample: a .json file that does not hold an object, a .txt file that is not UTF-8, or one that cannot be read.
        """
        check_index(self, index)
        key = self.files[index]
        path, label = self.folder / key, _label(key)
        record, captions = self._described(path, key)
        if label is not None:
            captions.setdefault("label", (label.replace("_", " "),))
        video = path if is_video(path) else None
        images = () if video else (path,)
        return Sample(key=key, images=images, video=video, captions=captions, label=label, record=record)

    def _described(self, path: Path, key: str) -> tuple[dict[str, Any], dict[str, tuple[str, ...]]]:
        """Return the fields of the .json file, and its texts with that of the .txt file."""
        data = _optional(path.with_suffix(".json"), key)
        record = {} if data is None else json_object(data, key)
        captions = texts_of(record)
        if has_conversation(record):
            record = record | {"conversations": turns_of(key, record)}
        if (text := _optional(path.with_suffix(".txt"), key)) is not None:
            try:
                captions["txt"] = (text.decode("utf-8-sig").strip(),)
            except UnicodeDecodeError:
                raise BadSample("not UTF-8", key, f"{path.with_suffix('.txt')}") from None
        return record, captions


def _label(file: str) -> str | None:
    folder, slash, _ = file.partition("/")
    return folder if slash else None


def _optional(path: Path, key: str) -> bytes | None:
    """Return the bytes of a file; None if there is no such file.

    Raises:
        BadSample: there is one that cannot be read.
    """
    if not os.path.isfile(path):
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadSample("cannot be read", key, f"{path}: {error.strerror}") from None
