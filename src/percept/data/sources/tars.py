"""Rows of WebDataset shards: tar files in which consecutive members with one name before the first dot make a sample.

Nothing is extracted: an index of the members' places lets single samples be read.
"""

import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from percept.core.errors import PerceptError
from percept.core.report import notice
from percept.data.files import VIDEO_SUFFIXES, image_suffixes
from percept.data.sources.conversation import has_conversation, turns_of
from percept.data.sources.fields import texts_of
from percept.data.sources.index import Arrays, Index
from percept.data.sources.jsonl import json_object
from percept.data.sources.sample import BadSample, Sample, check_index

NAME = re.compile(r"((?:.*/)?[^/.]+)\.([^/]+)")
"""Key and ending of a member's name, as the `webdataset` library splits it."""
COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstandard"}


@dataclass(frozen=True)
class Member:
    """A file within a shard."""

    key: str
    ending: str
    offset: int
    size: int


@dataclass(frozen=True, kw_only=True)
class TarRows:
    """The samples of one shard."""

    name: str
    index: Index
    count: int

    @classmethod
    def open(cls, file: Path, name: str) -> "TarRows":
        """Find the samples of a shard.

        Raises:
            PerceptError: it cannot be read, is compressed, or not a tar file.
        """
        index = Index.of(file, "members", member_arrays)
        arrays = index.arrays(name)
        if not arrays["whole"][0]:
            notice(f"{file} is cut or damaged at byte {arrays['whole'][1]}; the samples before it are used")
        return cls(name=name, index=index, count=len(arrays["first"]) - 1)

    def __len__(self) -> int:
        return self.count

    def key(self, index: int) -> str:
        """Return the shard and the name of the sample in it."""
        arrays = self.index.arrays(f"{self.name}/{index}")
        return f"{self.name}/{_text(arrays, 'key', index)}"

    def read(self, index: int) -> Sample:
        """Read the members of a sample.

        Raises:
            BadSample: the shard ends before the sample does, or a text or json member cannot be read.
        """
        check_index(self, index)
        key = self.key(index)
        arrays, size = self.index.arrays(key), self.index.stamp.size
        images, video, record, texts = [], None, {}, {}
        with self.index.file.open("rb") as opened:
            for ending, offset, length in _members(arrays, index):
                suffix = f".{ending.rpartition('.')[2].lower()}"
                if offset + length > size:
                    raise BadSample("tar cut", key, f"{ending} ends at byte {offset + length} of {size}")
                opened.seek(offset)
                if suffix in image_suffixes():
                    images.append(opened.read(length))
                elif suffix in VIDEO_SUFFIXES:
                    video = opened.read(length)
                elif suffix == ".json":
                    record |= _nested(ending, json_object(opened.read(length), key))
                elif suffix in (".txt", ".text", ".caption", ".cls", ".label"):
                    texts[_field(ending)] = _utf8(opened.read(length), key)
        return _sample(key, tuple(images), video, record, texts)

    def member(self, index: int, wanted: str) -> bytes | None:
        """Return the content of the first member of a sample with an ending, such as `npy`; None if there is none.

        Raises:
            BadSample: the shard ends before the member does.
        """
        arrays, size = self.index.arrays(self.key(index)), self.index.stamp.size
        for ending, offset, length in _members(arrays, index):
            if ending.rpartition(".")[2].lower() == wanted:
                if offset + length > size:
                    raise BadSample("tar cut", self.key(index), f"{ending} ends at byte {offset + length} of {size}")
                with self.index.file.open("rb") as opened:
                    opened.seek(offset)
                    return opened.read(length)
        return None


def _sample(
    key: str, images: tuple[bytes, ...], video: bytes | None, record: dict[str, Any], texts: dict[str, str]
) -> Sample:
    label = texts.pop("cls", None) or texts.pop("label", None) or record.get("label")
    captions = {**texts_of(record), **{name: (text,) for name, text in texts.items()}}
    if has_conversation(record):
        record = record | {"conversations": turns_of(key, record)}
    label = str(label) if isinstance(label, str | int) else None
    return Sample(key=key, images=images, video=video, captions=captions, label=label, record=record)


def _field(ending: str) -> str:
    """Return the name of a text: `txt` of 1.txt, `short` of 1.short.txt.

    >>> _field("txt"), _field("short.txt")
    ('txt', 'short')
    """
    return ending.rpartition(".")[0] or ending


def _nested(ending: str, record: dict[str, Any]) -> dict[str, Any]:
    return record if "." not in ending else {_field(ending): record, **record}


def _utf8(data: bytes, key: str) -> str:
    try:
        return data.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise BadSample("not UTF-8", key) from None


def member_arrays(file: Path) -> Arrays:
    """Return the index of a shard: for each sample its key and its first member, for each member ending, offset and size.

    Raises:
        PerceptError: it is not a tar file, or a compressed one.
    """
    members: list[Member] = []
    end = _list(file, members)
    first = [place for place, member in enumerate(members) if not place or _is_new(members, place)]
    first = _split_repeated(members, first)
    endings = list(dict.fromkeys(member.ending for member in members))
    number = {ending: place for place, ending in enumerate(endings)}
    return {
        "first": np.array([*first, len(members)], np.int64),
        "ending": np.array([number[member.ending] for member in members], np.int32),
        "offset": np.array([member.offset for member in members], np.int64),
        "size": np.array([member.size for member in members], np.int64),
        "whole": np.array([end is None, end or 0], np.int64),
        **_texts_arrays("key", [members[place].key for place in first]),
        **_texts_arrays("endings", endings),
    }


def _is_new(members: Sequence[Member], place: int) -> bool:
    return members[place].key != members[place - 1].key


def _split_repeated(members: Sequence[Member], first: list[int]) -> list[int]:
    """Begin a new sample where an ending occurs again under one key."""
    starts, seen = set(first), set()
    for place, member in enumerate(members):
        if place in starts:
            seen.clear()
        if member.ending in seen:
            starts.add(place)
            seen.clear()
        seen.add(member.ending)
    return sorted(starts)


def _list(file: Path, members: list[Member]) -> int | None:
    """List the members that belong to samples; return the byte at which the file is cut or damaged, or None.

    Archives that follow each other in one file, as `cat` joins them, are all read.
    """
    start, reached = 0, 0
    try:
        with file.open("rb") as opened:
            while start is not None:
                opened.seek(start)
                with tarfile.open(fileobj=opened, mode="r:") as tar:
                    members += filter(None, map(_member, _headers(tar)))
                    reached = tar.offset
                start = _following(opened, reached)
                if start == reached:
                    return min(reached, file.stat().st_size)
    except (tarfile.TarError, OSError) as error:
        if start:
            return start
        raise PerceptError(f"{file} {_why(file, error)}") from None
    size = file.stat().st_size
    cut = bool(members) and members[-1].offset + members[-1].size > size
    return min(reached, size) if cut else None


def _member(header: tarfile.TarInfo) -> Member | None:
    """Return the member of a sample that a header describes; None for folders, links, hidden files and names without an ending."""
    match = NAME.fullmatch(header.name) if header.isreg() else None
    if match is None or header.name.rpartition("/")[2].startswith((".", "__")):
        return None
    return Member(match[1].removeprefix("./"), match[2], header.offset_data, header.size)


def _following(file: BinaryIO, place: int) -> int | None:
    """Return where the first block from `place` on begins that is not empty; None if there is none."""
    file.seek(place)
    while data := file.read(tarfile.RECORDSIZE):
        if (used := np.frombuffer(data, np.uint8) != 0).any():
            return place + int(used.argmax()) // tarfile.BLOCKSIZE * tarfile.BLOCKSIZE
        place += len(data)
    return None


def _headers(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield headers until the end, or until one that cannot be read."""
    while True:
        try:
            member = tar.next()
        except tarfile.ReadError:  # the file ends within a member
            return
        if member is None:
            return
        tar.members = []  # type: ignore[attr-defined] - the library keeps all of them
        yield member


def _why(file: Path, error: Exception) -> str:
    if isinstance(error, OSError):
        return f"cannot be read: {(error.strerror or str(error)).lower()}. Check the path."
    with file.open("rb") as opened:
        start = opened.read(8)
    if not start:
        return "is empty (0 bytes). Write the shard again."
    for mark, kind in COMPRESSED.items():
        if start.startswith(mark):
            return f"is compressed with {kind}, so single samples cannot be read. Decompress it; images do not get smaller."
    return f"is not a tar file: {error}. Give shards that end in .tar."


def _texts_arrays(name: str, texts: Sequence[str]) -> dict[str, np.ndarray]:
    data = [text.encode("utf-8", "surrogateescape") for text in texts]
    return {
        f"{name}_text": np.frombuffer(b"".join(data), np.uint8),
        f"{name}_end": np.cumsum([0, *map(len, data)], dtype=np.int64),
    }


def _text(arrays: Arrays, name: str, index: int) -> str:
    begin, end = arrays[f"{name}_end"][index : index + 2]
    return arrays[f"{name}_text"][begin:end].tobytes().decode("utf-8", "replace")


def _members(arrays: Arrays, index: int) -> list[tuple[str, int, int]]:
    """Return ending, offset and size of a sample's members."""
    span = slice(int(arrays["first"][index]), int(arrays["first"][index + 1]))
    columns = (arrays[name][span].tolist() for name in ("ending", "offset", "size"))
    return [(_text(arrays, "endings", ending), offset, size) for ending, offset, size in zip(*columns, strict=True)]
