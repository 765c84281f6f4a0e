"""Folders of pictures and videos: find the files, work on them in parallel, and name the ones that cannot be read."""

import os
import re
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

from percept.core.errors import PerceptError
from percept.core.report import notice

S = TypeVar("S")
T = TypeVar("T")

SUFFIXES = frozenset(
    [
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".gif", ".webp", ".avif"),
        *(".tif", ".tiff", ".bmp", ".dib", ".ppm", ".pgm", ".pbm", ".pnm", ".qoi"),
    ]
)
"""Names ending like this (in either case) are taken for pictures in a folder; a file named outright is always tried."""

VIDEO_SUFFIXES = frozenset(
    [
        *(".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".mkv", ".webm", ".avi", ".divx", ".wmv", ".asf", ".flv"),
        *(".ogv", ".mpg", ".mpeg", ".m2v", ".vob", ".mts", ".m2ts", ".mxf"),
    ]
)
"""Names ending like this are taken for videos. Not .ts, more often TypeScript than a transport stream."""


@dataclass(frozen=True)
class BadFile:
    """A file that could not be used, and why."""

    path: Path
    reason: str


ALIKE = VIDEO_SUFFIXES | {
    ".arw", ".cr2", ".cr3", ".dng", ".eps", ".heic", ".heif", ".jxl", ".nef", ".orf", ".psd", ".raf", ".svg", ".xcf",
}  # fmt: skip
"""Endings of what a person may take for a picture of the folder: said where it is not looked at."""


def find_images(paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[Path]:
    """List picture files: files as given, folders searched with their subfolders, in natural order, each once.

    Hidden files and folders are skipped, links to folders are not followed.

    Raises:
        PerceptError: a path that does not exist, or no picture anywhere.
    """
    return _find(paths, SUFFIXES, "pictures")


def find_media(paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[Path]:
    """List picture and video files, as `find_images` does; `is_video` tells which is which.

    Raises:
        PerceptError: a path that does not exist, or neither pictures nor videos anywhere.
    """
    return _find(paths, SUFFIXES | VIDEO_SUFFIXES, "pictures or videos")


def is_video(path: str | os.PathLike[str]) -> bool:
    """Tell by its name whether a file is a video; a GIF is a picture, its first frame.

    >>> is_video("walk.MP4"), is_video("walk.gif")
    (True, False)
    """
    return Path(path).suffix.lower() in VIDEO_SUFFIXES


def _find(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], suffixes: frozenset[str], things: str
) -> list[Path]:
    given = [Path(paths)] if isinstance(paths, str | os.PathLike) else [Path(path) for path in paths]
    found: dict[Path, None] = {}
    for path in given:
        found.update(dict.fromkeys(_files_at(path, suffixes | ALIKE)))
    left = Counter(path.suffix.lower() for path in found if path not in given and path.suffix.lower() not in suffixes)
    found = {path: None for path in found if path in given or path.suffix.lower() in suffixes}
    if left:
        endings = ", ".join(f"{count} {ending}" for ending, count in sorted(left.items()))
        notice(f"left alone, of a kind that is not read here: {endings}")
    if not found:
        if not given:
            raise PerceptError("no path was given; name at least one folder or picture file")
        looked = ", ".join(str(path) for path in given)
        raise PerceptError(f"no {things} in {looked}; looked for names ending in {' '.join(sorted(suffixes))}")
    return list(found)


def _files_at(path: Path, suffixes: frozenset[str]) -> list[Path]:
    if not os.path.lexists(path):
        raise PerceptError(f"there is no file or folder {path}")
    if not path.is_dir():
        return [path]
    found = []
    for folder, subfolders, names in os.walk(path, onerror=lambda error: notice(f"skipped a folder: {error}")):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        wanted = (name for name in names if not name.startswith(".") and Path(name).suffix.lower() in suffixes)
        found.extend(Path(folder, name) for name in wanted)
    return sorted(found, key=natural_order)


def natural_order(path: Path) -> list[list[tuple[int, int | str]]]:
    """Return a sort key that puts `photo 2` before `photo 10`, whatever the case.

    >>> sorted([Path("b10"), Path("B2"), Path("a/z")], key=natural_order)[1:]
    [PosixPath('B2'), PosixPath('b10')]
    """

    def pieces(part: str) -> list[tuple[int, int | str]]:
        split = re.split(r"([0-9]+)", part.lower())
        return [(0, int(piece)) if piece[0] in "0123456789" else (1, piece) for piece in split if piece]

    return [pieces(part) for part in path.parts]


def as_text(name: str | os.PathLike[str]) -> str:
    """Return a file name as text that any file can hold: bytes that are no UTF-8 become �."""
    return os.fsencode(name).decode("utf-8", errors="replace")


def reason_without_path(error: Exception, path: str | os.PathLike[str]) -> str:
    """Shorten a message that begins with the path, for lists which show the path beside it."""
    message = str(error)
    return message.removeprefix(f"{os.fspath(path)} ") if os.fspath(path) else message


def in_order(function: Callable[[S], T], items: Iterable[S], *, threads: int | None = None) -> Generator[T]:
    """Apply `function` in parallel threads; results come in the order of `items`, only a few ahead of the reader."""
    threads = threads or min(16, os.cpu_count() or 1)
    iterator = iter(items)
    with ThreadPoolExecutor(threads, thread_name_prefix="percept-read") as pool:
        ahead: deque[Future[T]] = deque(pool.submit(function, item) for item in islice(iterator, 2 * threads))
        try:
            while ahead:
                result = ahead.popleft().result()
                ahead.extend(pool.submit(function, item) for item in islice(iterator, 1))
                yield result
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
