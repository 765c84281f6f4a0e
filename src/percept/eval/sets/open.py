"""Opening an evaluation set: its layout is recognised from the files."""

from dataclasses import replace
from pathlib import Path

from percept.core.errors import PerceptError
from percept.data.files import VIDEO_SUFFIXES, image_suffixes
from percept.data.sources.places import KINDS, endings
from percept.eval.sets import folders, lists, shards
from percept.eval.sets.item import EvaluationSet, Request
from percept.eval.sets.places import SPLITS, chosen_split
from percept.eval.sets.tables import table

UNDERSTOOD = (
    "Evaluation sets are folders of classes, ImageNet and its variants, ObjectNet, CLIP-benchmark shards ({split}/0.tar), Karpathy "
    "json, Kinetics csv, and tables or shards with a column for the image or video and one for the class or caption"
)


def open_set(request: Request) -> EvaluationSet:
    """Open a set; a random part of it if the request has a limit.

    Raises:
        PerceptError: nothing is there, the layout is not recognised, or what it needs is missing; the message says what was found.
    """
    path = Path(request.path)
    if path.is_dir():
        opened = _folder(path, request)
    elif path.is_file():
        opened = _file(path, request)
    else:
        opened = table(request.path, request)
    return opened.limited(request.limit, request.seed)


def _file(path: Path, request: Request) -> EvaluationSet:
    if path.suffix.lower() not in KINDS:
        raise PerceptError(f"{path} is not an evaluation set. {UNDERSTOOD}.")
    return _special(path, request) or table(str(path), request)


def _special(path: Path, request: Request) -> EvaluationSet | None:
    """Open a file of Karpathy or Kinetics; None for other files."""
    if path.suffix.lower() == ".json" and (content := lists.karpathy_content(path)) is not None:
        return lists.karpathy(path, content, request)
    if path.suffix.lower() == ".csv" and lists.is_kinetics(path):
        return lists.kinetics(path, request)
    return None


def _folder(path: Path, request: Request) -> EvaluationSet:
    if folders.is_objectnet(path):
        return folders.objectnet(path, request)
    if shards.splits_of(path):
        return shards.shards(path, request)
    inside = folders.subfolders(path)
    if inside and set(inside) <= set(SPLITS):
        split = chosen_split(path, inside, request.subset)
        return replace(_folder(path / split, replace(request, subset=None)), name=f"{path.resolve().name} {split}")
    lists_there = [file for file in path.iterdir() if file.suffix.lower() in (".json", ".csv") and file.is_file()]
    if len(lists_there) == 1 and (special := _special(lists_there[0], request)) is not None:
        return special
    if len(lists_there) == 1 and not _media(path, 2):
        return table(str(lists_there[0]), request)
    if any(_media(path / folder, 3) for folder in inside):
        return folders.class_folders(path, request)
    if _media(path, 1) or any(file.suffix.lower() in KINDS for file in path.rglob("*")):
        return table(str(path), request)
    found = endings(file for file in path.rglob("*") if file.is_file()) or "no files"
    raise PerceptError(f"{path} holds {found}, which is not an evaluation set. {UNDERSTOOD}.")


def _media(path: Path, depth: int) -> bool:
    """True if a folder holds an image or video, at most `depth` folders deep."""
    endings_of_media = image_suffixes() | VIDEO_SUFFIXES
    for each in path.iterdir():
        if each.suffix.lower() in endings_of_media and not each.name.startswith("."):
            return True
        if depth > 1 and each.is_dir() and not each.name.startswith(".") and _media(each, depth - 1):
            return True
    return False
