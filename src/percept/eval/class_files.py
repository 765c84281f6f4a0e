"""Files of a folder in which every subfolder is a class, and those of equal content."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

from percept.core.errors import PerceptError
from percept.core.io import file_hash
from percept.data.files import BadFile, find_media, read_each
from percept.data.sources.folder import SPLITS
from percept.eval.sets.folders import subfolders


@dataclass(frozen=True, kw_only=True)
class Folders:
    """Files by class."""

    path: Path
    classes: tuple[str, ...]
    """Names of the folders, with spaces for _."""
    files: tuple[Path, ...]
    labels: tuple[int, ...]
    outside: int
    """Files that are in no folder of a class."""


def class_files(path: Path) -> Folders:
    """Return the files of a folder in which every subfolder is a class.

    Raises:
        PerceptError: the folder has no class folders, holds splits, or has fewer than two classes.
    """
    if not path.is_dir():
        raise PerceptError(f"{path} is not a folder. Give a folder with one subfolder of images for each class.")
    everything = find_media(path)
    by_class: dict[str, list[Path]] = defaultdict(list)
    for file in everything:
        inside = file.relative_to(path).parts
        if len(inside) > 1:
            by_class[inside[0]].append(file)
    folders = [folder for folder in subfolders(path) if folder in by_class]
    if folders and {folder.lower() for folder in folders} <= SPLITS:
        raise PerceptError(f"{path} holds the splits {', '.join(folders)}. Name one, such as {path / folders[0]}.")
    if len(folders) < 2:
        raise PerceptError(
            f"{path} has {len(folders)} folders of images. Give a folder with one subfolder of images for each of two or more classes."
        )
    names = [folder.replace("_", " ").strip() or folder for folder in folders]
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise PerceptError(
            f"two folders of {path} are called {repeated[0]!r}. Join them, or give them different names."
        )
    return Folders(
        path=path, classes=tuple(names), files=tuple(file for folder in folders for file in by_class[folder]),
        labels=tuple(number for number, folder in enumerate(folders) for _ in by_class[folder]),
        outside=len(everything) - sum(len(by_class[folder]) for folder in folders),
    )  # fmt: skip


def different_contents(
    found: Folders,
) -> tuple[list[Path], tuple[tuple[Path, Path], ...], tuple[tuple[Path, ...], ...]]:
    """Return one file of every content, the copies in one class, and the files whose content is in several classes."""
    labels = dict(zip(found.files, found.labels, strict=True))
    by_hash: dict[str, list[Path]] = defaultdict(list)
    for path, digest in zip(found.files, read_each(found.files, file_hash), strict=True):
        by_hash[f"{path}" if isinstance(digest, BadFile) else digest].append(path)  # reported when it is encoded
    different, copies, conflicts = [], [], []
    for paths in by_hash.values():
        if len({labels[path] for path in paths}) > 1:
            conflicts.append(tuple(paths))
        else:
            different.append(paths[0])
            copies += [(paths[0], copy) for copy in paths[1:]]
    return different, tuple(copies), tuple(conflicts)
