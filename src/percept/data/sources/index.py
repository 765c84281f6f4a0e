"""Small index files: arrays that say where the rows of a large file are, written once and then mapped into memory."""

import hashlib
import json
import mmap
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from percept.core.errors import PerceptError
from percept.core.io import replacing
from percept.data.sources.sample import BadSample

FORMAT = 2
"""Changes with the content of index files, so that older ones are written again."""
ALIGNMENT = 64
OPEN = 128
"""Index files that a process keeps mapped; each takes a file descriptor."""

Arrays: TypeAlias = Mapping[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Stamp:
    """What identifies the content of a file: an index is made again when it changes."""

    size: int
    modified: int
    """Nanoseconds."""

    @classmethod
    def of(cls, file: Path) -> "Stamp":
        """Return the stamp of a file.

        Raises:
            PerceptError: it does not exist, or cannot be read.
        """
        try:
            status = file.stat()
        except OSError as error:
            raise PerceptError(
                f"{file} cannot be read: {(error.strerror or str(error)).lower()}. Check the path."
            ) from None
        return cls(size=status.st_size, modified=status.st_mtime_ns)


def cache_home() -> Path:
    """Return where indexes of folders that cannot be written are kept: $PERCEPT_CACHE, or the user's cache folder."""
    return Path(os.environ.get("PERCEPT_CACHE") or Path.home() / ".cache" / "percept") / "sources"


@dataclass(frozen=True, kw_only=True)
class Index:
    """The index of one file: read from its folder or from the cache if it is up to date, made and stored there otherwise."""

    file: Path
    kind: str
    """Names what the index holds."""
    make: Callable[[Path], Arrays]
    """Returns the arrays, which have one axis each; a function at the top level of a module."""
    stamp: Stamp
    """The file when it was opened."""

    @classmethod
    def of(cls, file: Path, kind: str, make: Callable[[Path], Arrays]) -> "Index":
        """Return the index of a file, made if need be.

        Raises:
            PerceptError: the file cannot be read.
        """
        index = cls(file=file, kind=kind, make=make, stamp=Stamp.of(file))
        index._arrays()
        return index

    def arrays(self, key: str) -> Arrays:
        """Return the arrays, mapped into memory.

        Raises:
            BadSample: the file has changed since it was opened, or it is gone; `key` is the row that is read.
        """
        try:
            now = Stamp.of(self.file)
        except PerceptError as error:
            raise BadSample("missing file", key, str(error)) from None
        if now != self.stamp:
            raise BadSample("file changed", key, f"{self.file} was written while it was read; start again")
        return self._arrays()

    def _arrays(self) -> Arrays:
        if self in _unstored:
            return _unstored[self]
        places = _places(self.file, self.kind)
        for place in places:
            with suppress(OSError, ValueError, KeyError, TypeError):
                if (found := _load(place, place.stat().st_mtime_ns, self.stamp)) is not None:
                    return found
        arrays = {name: np.ascontiguousarray(array) for name, array in self.make(self.file).items()}
        for place in places:
            with suppress(OSError):
                _store(place, self.stamp, arrays)
                return arrays
        return _unstored.setdefault(self, arrays)


_unstored: dict[Index, Arrays] = {}
"""Indexes that could be written nowhere, for this process alone."""


def read_span(file: Path, start: int, stop: int) -> bytes:
    """Return some bytes of a file."""
    with file.open("rb") as opened:
        opened.seek(start)
        return opened.read(stop - start)


def line_at(name: str, index: Index, span: int) -> str:
    """Return the line of a text file in which a span begins, counted from 1, for messages; everything before it is read."""
    start = int(index.arrays(name)["start"][span])
    line = read_span(index.file, 0, start).count(b"\n") + 1
    return f"{name}, line {line}"


@lru_cache(maxsize=OPEN)
def _places(file: Path, kind: str) -> tuple[Path, Path]:
    name = hashlib.blake2b(os.fsencode(file.resolve()), digest_size=12).hexdigest()
    return file.with_name(f".{file.name}.{kind}.index"), cache_home() / f"{name}.{kind}.index"


def _store(place: Path, stamp: Stamp, arrays: Arrays) -> None:
    """Write a line of json and the arrays, each from a multiple of ALIGNMENT on."""
    header = {"format": FORMAT, "stamp": vars(stamp), "arrays": {n: [a.dtype.str, len(a)] for n, a in arrays.items()}}
    with replacing(place) as temporary, temporary.open("wb") as file:
        file.write(json.dumps(header).encode() + b"\n")
        for array in arrays.values():
            file.write(bytes(-file.tell() % ALIGNMENT))
            file.write(array.tobytes())


@lru_cache(maxsize=OPEN)
def _load(place: Path, modified: int, stamp: Stamp) -> Arrays | None:
    """Map the arrays of an index; None if it is of another file, another format, or damaged.

    `modified` is the time of the index itself, so that a new one replaces what is mapped.
    """
    with place.open("rb") as file:
        header: dict[str, Any] = json.loads(file.readline())
        if header["format"] != FORMAT or header["stamp"] != vars(stamp):
            return None
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        at, arrays = file.tell(), {}
    for name, (kind, length) in header["arrays"].items():
        at += -at % ALIGNMENT
        arrays[name] = np.frombuffer(data, np.dtype(kind), length, at)  # ValueError if the file is cut
        at += arrays[name].nbytes
    return arrays
