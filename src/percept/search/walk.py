"""Finding the images and videos of folders, with the size and time that show a change, without opening a file."""

import os
import re
import stat
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from fnmatch import translate
from pathlib import Path

from percept.core.report import notice
from percept.data.files import (
    HEIF_SUFFIXES,
    NOT_READ,
    VIDEO_SUFFIXES,
    image_suffixes,
    is_video,
    natural_order,
    not_read,
)
from percept.search.store import FileState, Root

UNKNOWN = -1
"""Size of a file that the system refuses to describe; reading it gives the reason."""


class Selection:
    """Which files of a folder are taken: compiled patterns of a `Root`."""

    def __init__(self, root: Root) -> None:
        self.root = os.path.abspath(root.path)
        self.hidden = root.hidden
        self._include = _compiled(root.include)
        self._exclude = _compiled(root.exclude)

    def enters(self, folder: str) -> bool:
        """True if a folder inside the root is searched."""
        return not (self._exclude and self._exclude.fullmatch(self._relative(folder)))

    def takes(self, file: str) -> bool:
        """True if a file inside the root is taken."""
        name = self._relative(file)
        included = self._include is None or self._include.fullmatch(name) is not None
        return included and not (self._exclude and self._exclude.fullmatch(name))

    def _relative(self, path: str) -> str:
        return path[len(self.root) :].lstrip("/")


def _compiled(patterns: Sequence[str]) -> "re.Pattern[str] | None":
    """Return one expression for several patterns of the shell; each may begin at any folder."""
    parts = [part for pattern in patterns for part in (translate(pattern), translate(f"*/{pattern}"))]
    return re.compile("|".join(parts)) if parts else None


def walk(roots: Sequence[Root]) -> Iterator[FileState]:
    """Yield the images and videos of folders, in natural order, and the files named outright; each folder once.

    Links to folders are followed after the folders themselves, so that a loop of links ends. A root that does not exist
    yields nothing.
    """
    visited: set[tuple[int, int]] = set()
    passed_over: Counter[str] = Counter()
    for root in roots:
        path = os.path.abspath(root.path)
        if os.path.isdir(path):
            yield from _files_of(Selection(root), visited, passed_over)
        elif os.path.lexists(path):
            yield file_state(path)
    if passed_over:
        notice(not_read(passed_over))


def file_state(path: str | Path) -> FileState:
    """Return size and time of a file; UNKNOWN if the system refuses."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return FileState(path=Path(path), bytes=UNKNOWN, modified=UNKNOWN)
    return FileState(path=Path(path), bytes=status.st_size, modified=status.st_mtime_ns)


def is_gone(path: Path) -> bool:
    """True if nothing exists at `path`, not even a link; False if that cannot be determined."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _files_of(selection: Selection, visited: set[tuple[int, int]], passed_over: Counter[str]) -> Iterator[FileState]:
    """Yield the files of a root: those of its own folders first, then those behind links."""
    suffixes = image_suffixes() | VIDEO_SUFFIXES | {".ts"}
    missed = (NOT_READ | HEIF_SUFFIXES) - suffixes
    links = deque([selection.root])
    while links:
        folders = [links.popleft()]
        while folders:
            folder = folders.pop()
            if not _is_new(folder, visited):
                continue
            inner = []
            for entry in _entries(folder, selection):
                if entry.is_dir(follow_symlinks=False):
                    inner.append(entry.path)
                elif _is_linked_folder(entry):
                    links.append(entry.path)
                elif (suffix := os.path.splitext(entry.name)[1].lower()) in suffixes:
                    if selection.takes(entry.path) and (suffix != ".ts" or is_video(entry.path)):
                        yield file_state(entry.path)
                elif suffix in missed:
                    passed_over[suffix] += 1
            folders += reversed(inner)


def _is_new(folder: str, visited: set[tuple[int, int]]) -> bool:
    """True if a folder was not visited under another name; it counts as visited from now on."""
    try:
        status = os.stat(folder)
    except OSError as error:
        notice(f"skipped a folder: {error}")
        return False
    key = status.st_dev, status.st_ino
    if key in visited or not stat.S_ISDIR(status.st_mode):
        return False
    visited.add(key)
    return True


def _is_linked_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_symlink() and entry.is_dir()
    except OSError:  # a loop of links
        return False


def _entries(folder: str, selection: Selection) -> list[os.DirEntry[str]]:
    """Return the selected entries of a folder: files first, each in natural order."""
    try:
        with os.scandir(folder) as found:
            entries = [entry for entry in found if selection.hidden or not entry.name.startswith(".")]
    except OSError as error:
        notice(f"skipped a folder: {error}")
        return []
    entries = [entry for entry in entries if not entry.is_dir(follow_symlinks=False) or selection.enters(entry.path)]
    return sorted(entries, key=lambda entry: natural_order(Path(entry.name)))
