"""Folders of classes: plain ones, ImageNet and its variants (WordNet ids or numbers), and ObjectNet."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from percept.core.errors import PerceptError
from percept.core.words import count
from percept.data.sources.folder import FolderRows
from percept.eval.sets.classes import FORMS, WORDNET, ClassFile, class_file, read_mapping, templates_of
from percept.eval.sets.item import EvaluationSet, Item, Request
from percept.eval.sets.places import check_no_split

BORDER = 2
"""Pixels of the red frame around the images of ObjectNet."""
FOLDERS, SUBSET = "mappings/folder_to_objectnet_label.json", "mappings/objectnet_to_imagenet_1k.json"
"""Files of ObjectNet: {folder: class}, and {class: classes of ImageNet}."""


def class_folders(
    path: Path, request: Request, *, known: ClassFile | None = None, folders: Sequence[str] | None = None
) -> EvaluationSet:
    """Open a folder in which every subfolder is a class.

    Args:
        path: the folder.
        request: names the class and template files.
        known: classes, in place of a file.
        folders: candidate classes by the names of their folders; those of `path` if None.

    Raises:
        PerceptError: the classes cannot be named.
    """
    check_no_split(path, request.subset)
    rows = FolderRows.open([path], str(path))
    present = subfolders(path)
    classes = known or class_file(request.classes, path, path.parent)
    candidates = list(folders or present)
    names = named_folders(path, candidates, classes)
    numbers = {folder: number for number, folder in enumerate(names)}
    if unknown := [folder for folder in rows.classes if folder not in numbers]:
        raise PerceptError(
            f"{path} has the folder {unknown[0]}, which is not among the {count(len(numbers), 'class', 'classes')}. Name it in the class file."
        )
    files = [file for file in rows.files if "/" in file]
    loose = [file for file in rows.files if "/" not in file]

    def read(number: int) -> Item:
        key = files[number]
        return Item(key=key, media=path.absolute() / key, labels=(numbers[key.partition("/")[0]],))

    return EvaluationSet(
        name=path.name, path=str(path), layout="folders of classes", holds=("class",), count=len(files),
        key=files.__getitem__, read=read, classes=tuple(names.values()),
        templates=templates_of(request.templates, path, path.parent), video=_all_videos(rows),
        remark=f"{count(len(loose), 'file')} outside of the class folders left out, such as {loose[0]}." if loose else "",
    )  # fmt: skip


def subfolders(path: Path) -> list[str]:
    """Return the names of the folders in a folder, sorted; hidden ones are left out."""
    return sorted(each.name for each in path.iterdir() if each.is_dir() and not each.name.startswith("."))


def named_folders(path: Path, folders: Sequence[str], classes: ClassFile | None) -> dict[str, str]:
    """Return the candidate classes in order: {folder: name}.

    Folders that are numbers, as in ImageNet-V2, are positions in the class file. With ids in the file, the candidates are
    the folders; without, the names belong to the sorted folders.

    Raises:
        PerceptError: the folders need a class file, or do not match the one given.
    """
    if all(folder.isdecimal() for folder in folders):
        return _numbered(path, folders, classes)
    if classes is None:
        if all(map(WORDNET.fullmatch, folders)):
            raise PerceptError(
                f"the folders of {path} are WordNet ids such as {folders[0]}, which no text encoder understands. Give their names with "
                f"--classes FILE. {FORMS}."
            )
        return {folder: folder.replace("_", " ") for folder in folders}
    if classes.ids:
        return _by_id(path, folders, classes)
    if len(classes.names) != len(folders):
        raise PerceptError(
            f"{classes.path} has {count(len(classes.names), 'name')} without ids, but {path} has {count(len(folders), 'class folder')}. Give a file with "
            f"an id in each line, such as '{folders[0]} NAME'."
        )
    return dict(zip(sorted(folders), classes.names, strict=True))


def _numbered(path: Path, folders: Sequence[str], classes: ClassFile | None) -> dict[str, str]:
    last = max(map(int, folders))
    if classes is None or len(classes.names) <= last:
        found = (
            "there is no class file" if classes is None else f"{classes.path} has {count(len(classes.names), 'name')}"
        )
        raise PerceptError(
            f"the folders of {path} are numbers up to {last}, but {found}. Give the names of at least "
            f"{count(last + 1, 'class', 'classes')}, in order, with --classes FILE."
        )
    wide = {int(folder): folder for folder in folders}
    return {wide.get(number, str(number)): name for number, name in enumerate(classes.names)}


def _by_id(path: Path, folders: Sequence[str], classes: ClassFile) -> dict[str, str]:
    names = {folder: classes.name_of(folder) for folder in folders}
    if unnamed := [folder for folder, name in names.items() if name is None]:
        raise PerceptError(
            f"{classes.path} does not name {len(unnamed)} of the {len(folders)} folders of {path}, such as {unnamed[0]}. "
            f"The file begins with {classes.ids[0]}. Give the class file of this set."
        )
    order = {each: number for number, each in enumerate(classes.ids)}
    return {folder: str(names[folder]) for folder in sorted(folders, key=order.__getitem__)}


def _all_videos(rows: FolderRows) -> bool:
    """True if the files are videos; a folder of both is refused."""
    from percept.data.files import is_video

    videos = sum(is_video(rows.folder / file) for file in rows.files)
    if 0 < videos < len(rows.files):
        raise PerceptError(
            f"{rows.name} holds {count(videos, 'video')} and {count(len(rows.files) - videos, 'image')}. Put them into different folders."
        )
    return bool(videos)


def is_objectnet(path: Path) -> bool:
    """True for a folder of ObjectNet as it is distributed."""
    return os.path.isfile(path / FOLDERS)


def objectnet(path: Path, request: Request) -> EvaluationSet:
    """Open ObjectNet: the classes that ImageNet has too, among each other, without the red frame of the images.

    All classes are candidates if the file of those classes is missing.

    Raises:
        PerceptError: there are no images, or a folder is not in the mapping file.
    """
    check_no_split(path, request.subset)
    labels = read_mapping(path / FOLDERS)
    images = path / "images" if (path / "images").is_dir() else path
    shared = read_mapping(path / SUBSET) if (path / SUBSET).is_file() else None
    present = [folder for folder in subfolders(images) if folder != "mappings"]
    if unnamed := [folder for folder in present if folder not in labels]:
        raise PerceptError(f"{path / FOLDERS} does not name the folder {unnamed[0]} of {images}. Fetch the file again.")
    chosen = {folder: labels[folder] for folder in present if shared is None or labels[folder] in shared}
    if not chosen:
        raise PerceptError(f"no folder of {images} is a class of {path / SUBSET}. Check that the images are unpacked.")
    return _objectnet_set(path, images, chosen, request, of=len(present))


def _objectnet_set(path: Path, images: Path, chosen: Mapping[str, str], request: Request, *, of: int) -> EvaluationSet:
    rows = FolderRows.open([images], str(images))
    numbers = {folder: number for number, folder in enumerate(chosen)}
    known = tuple(file for file in rows.files if file.partition("/")[0] in numbers)

    def read(number: int) -> Item:
        key = known[number]
        return Item(key=key, media=rows.folder / key, labels=(numbers[key.partition("/")[0]],))

    return EvaluationSet(
        name=path.name, path=str(path), layout="ObjectNet", holds=("class",), count=len(known),
        key=lambda number: known[number], read=read, classes=tuple(chosen.values()),
        templates=templates_of(request.templates, path), border=BORDER, remark=f"{len(chosen)} of {of} classes.",
    )  # fmt: skip
