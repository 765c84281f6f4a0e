"""Folders of images and videos: find the files, read them in parallel, and name the ones that cannot be read."""

import os
import re
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

from percept.core.errors import PerceptError
from percept.core.report import notice
from percept.data import heif
from percept.data.guard import reason
from percept.data.inputs import STANDARD_INPUT, is_pipe, peek, read_bytes
from percept.data.magic import image_format, is_transport_stream, looks_like

S = TypeVar("S")
T = TypeVar("T")
Made = TypeVar("Made")
PathLike = str | os.PathLike[str]

SUFFIXES = frozenset(
    [
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".gif", ".webp", ".avif"),
        *(".tif", ".tiff", ".bmp", ".dib", ".ppm", ".pgm", ".pbm", ".pnm", ".qoi"),
    ]
)
"""Files with these endings (in either case) are images of a folder; a file named outright is always tried."""

HEIF_SUFFIXES = frozenset([".heic", ".heif", ".hif"])
"""Images too, where the extra `heif` is installed."""

VIDEO_SUFFIXES = frozenset(
    [
        *(".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".mkv", ".webm", ".avi", ".divx", ".wmv", ".asf", ".flv"),
        *(".ogv", ".mpg", ".mpeg", ".m2v", ".vob", ".mts", ".m2ts", ".m2t", ".mxf"),
    ]
)
"""Files with these endings are videos. A .ts file is one if it begins like a transport stream; most are TypeScript."""

NOT_READ = frozenset(
    [
        *(".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".raf", ".rw2", ".eps", ".psd", ".svg", ".xcf"),
        *(
            ".jp2",
            ".j2k",
            ".jpx",
            ".jxl",
            ".jxr",
            ".ico",
            ".cur",
            ".icns",
            ".tga",
            ".pcx",
            ".sgi",
            ".dds",
            ".exr",
            ".hdr",
        ),
    ]
)
"""Endings of images that are not read; their number is reported when a folder is searched."""

LIST_BYTES = 1 << 28
"""Largest list of paths in bytes."""


@dataclass(frozen=True)
class BadFile:
    """A file that could not be used, and why."""

    path: Path
    reason: str


def find_images(paths: PathLike | Iterable[PathLike]) -> list[Path]:
    """List image files: files as given, folders searched with their subfolders, in natural order, each once.

    A file that is reached by two names of its folder counts once, under the first of them. Hidden files and folders are
    skipped, and links to folders are not followed. `@FILE` is replaced by the paths that FILE holds, one on a line or
    separated by zero bytes; `-` stands for such a list on standard input, or for an image there.

    Raises:
        PerceptError: a path that does not exist, a list that cannot be read, or no image anywhere.
    """
    return _find(paths, image_suffixes(), "images")


def find_media(paths: PathLike | Iterable[PathLike]) -> list[Path]:
    """List image and video files, as `find_images` does; `is_video` says which is which.

    Raises:
        PerceptError: a path that does not exist, a list that cannot be read, or neither images nor videos anywhere.
    """
    return _find(paths, image_suffixes() | VIDEO_SUFFIXES | {".ts"}, "images or videos")


def image_suffixes() -> frozenset[str]:
    """Return the endings that are taken for images of a folder here."""
    return SUFFIXES | HEIF_SUFFIXES if heif.is_installed() else SUFFIXES


def is_video(path: PathLike) -> bool:
    """True if a file's ending is that of a video, or if it is .ts and holds a transport stream; a GIF is an image.

    >>> is_video("walk.MP4"), is_video("walk.gif")
    (True, False)
    """
    suffix = Path(path).suffix.lower()
    return suffix in VIDEO_SUFFIXES or (suffix == ".ts" and is_transport_stream(peek(path)))


def read_list(source: PathLike) -> list[Path]:
    """Return the paths that a file, standard input (`-`) or a pipe holds: one on a line, or separated by zero bytes.

    Raises:
        PerceptError: it cannot be read, or holds no list of paths.
    """
    data = read_bytes(source, kind="list", max_bytes=LIST_BYTES).removeprefix(b"\xef\xbb\xbf")
    kind = image_format(data)
    if kind is not None or (b"\0" in data and looks_like(data) is not None):
        raise PerceptError(
            f"{source} is not a list of paths: it holds {kind or 'other data'}. Give one path on a line."
        )
    rows = data.split(b"\0") if b"\0" in data else [line.rstrip(b"\r") for line in data.split(b"\n")]
    return [Path(os.fsdecode(row)) for row in rows if row.strip()]


def _find(paths: PathLike | Iterable[PathLike], suffixes: frozenset[str], things: str) -> list[Path]:
    named = named_paths(paths)
    if not named:
        raise PerceptError("no path was given. Name at least one folder or file.")
    passed_over: Counter[str] = Counter()
    files: dict[tuple[str, str], Path] = {}
    folders: dict[str, str] = {}
    for path in named:
        for file in _files_at(path, suffixes, passed_over):
            files.setdefault(_key(file, folders), file)
    if passed_over:
        notice(not_read(passed_over))
    if not files:
        looked = ", ".join(str(path) for path in named[:5]) + (", ..." if len(named) > 5 else "")
        raise PerceptError(f"no {things} in {looked}; looked for names ending in {' '.join(sorted(suffixes))}")
    return list(files.values())


def named_paths(paths: PathLike | Iterable[PathLike]) -> list[Path]:
    """Return the files and folders that arguments name: a list of paths (`@FILE` or `-`) is replaced by its entries.

    Raises:
        PerceptError: an argument that does not exist, or a list that cannot be read.
    """
    arguments = [paths] if isinstance(paths, str | os.PathLike) else paths
    return [path for argument in arguments for path in _expanded(argument)]


def _expanded(entry: PathLike) -> list[Path]:
    """Return the paths that one argument stands for."""
    name = os.fspath(entry)
    if name == STANDARD_INPUT or is_pipe(name):
        return [Path(name)] if image_format(peek(name)) is not None else read_list(name)
    if name.startswith("@") and not os.path.lexists(name):
        return read_list(name[1:])
    if not os.path.lexists(name):
        raise PerceptError(f"there is no file or folder {name}")
    return [Path(entry)]


def _key(path: Path, folders: dict[str, str]) -> tuple[str, str]:
    """Return what all names of one file share: the real path of its folder, and its own name.

    `folders` remembers real paths.
    """
    folder = os.path.dirname(path)
    if folder not in folders:
        folders[folder] = os.path.realpath(folder)
    return folders[folder], path.name


def not_read(endings: Counter[str]) -> str:
    """Return the remark about files that are not read here, by their endings."""
    listed = ", ".join(f"{number} {ending}" for ending, number in sorted(endings.items()))
    hint = "; for HEIC: pip install 'percept-models[heif]'" if HEIF_SUFFIXES & endings.keys() else ""
    return f"skipped, not read here: {listed}{hint}"


def _files_at(path: Path, suffixes: frozenset[str], passed_over: Counter[str]) -> list[Path]:
    """Return the file itself or the files of a folder, and count those that a user may miss."""
    if not path.is_dir():
        return [path]
    files = []
    for folder, subfolders, names in os.walk(path, onerror=lambda error: notice(f"skipped a folder: {error}")):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for file in (Path(folder, name) for name in names if not name.startswith(".")):
            suffix = file.suffix.lower()
            if suffix in suffixes and (suffix != ".ts" or is_video(file)):
                files.append(file)
            elif suffix in NOT_READ | HEIF_SUFFIXES | VIDEO_SUFFIXES:
                passed_over[suffix] += 1
    return sorted(files, key=natural_order)


def natural_order(path: Path) -> list[list[tuple[int, int | str]]]:
    """Return a sort key that puts `photo 2` before `photo 10`, whatever the case.

    >>> sorted([Path("b10"), Path("B2"), Path("a/z")], key=natural_order)[1:]
    [PosixPath('B2'), PosixPath('b10')]
    """

    def pieces(part: str) -> list[tuple[int, int | str]]:
        split = re.split(r"([0-9]+)", part.lower())
        return [(0, int(piece)) if piece[0] in "0123456789" else (1, piece) for piece in split if piece]

    return [pieces(part) for part in path.parts]


def as_text(name: PathLike) -> str:
    """Return a file name as text that any file can hold: bytes that are not UTF-8 become �."""
    return os.fsencode(name).decode("utf-8", errors="replace")


def reason_without_path(error: Exception, path: PathLike) -> str:
    """Shorten a message that begins with the path, for lists that show both."""
    message = str(error)
    return message.removeprefix(f"{os.fspath(path)} ") if os.fspath(path) else message


def read_each(
    paths: Iterable[Path], read: Callable[[Path], Made], *, threads: int | None = None
) -> Iterator[Made | BadFile]:
    """Yield what `read` makes of each file, in order, computed by threads; a BadFile where it raises.

    Only a few results are kept ahead of the caller. Whatever `read` raises for a file is that file's reason and never ends
    the others; where it is not a PerceptError, the reason names the kind of error.

    >>> results = read_each([Path("a.png"), Path("none.png")], lambda path: 1 / (path.stem == "a"))
    >>> [getattr(result, "reason", result) for result in results]
    [1.0, 'failed with ZeroDivisionError: division by zero']
    """

    def attempt(path: Path) -> Made | BadFile:
        try:
            return read(path)
        except PerceptError as error:
            return BadFile(path, reason_without_path(error, path))
        except MemoryError as error:
            return BadFile(path, reason(error))
        except Exception as error:
            return BadFile(path, f"failed with {type(error).__name__}: {' '.join(str(error).split())}")

    return in_order(attempt, paths, threads=threads)


def in_order(function: Callable[[S], T], items: Iterable[S], *, threads: int | None = None) -> Generator[T]:
    """Apply `function` in parallel threads; results come in the order of `items`, only a few ahead of the caller."""
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
