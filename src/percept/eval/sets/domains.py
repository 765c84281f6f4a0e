"""Several sets of the same classes: ImageNet and its five shifts, or one set per domain, such as per artist."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from percept.core.errors import PerceptError
from percept.core.words import count
from percept.data.files import image_suffixes
from percept.data.sources.places import KINDS, matching
from percept.eval.sets import folders
from percept.eval.sets.classes import WORDNET, ClassFile, class_file
from percept.eval.sets.item import EvaluationSet, Item, Request
from percept.eval.sets.open import open_set
from percept.eval.sets.places import SPLITS, check_no_split

SUITE: Mapping[str, tuple[str, ...]] = {
    "ImageNet": ("imagenet", "imagenet1k", "imagenetval", "val"),
    "ImageNet-V2": ("imagenetv2", "imagenetv2matchedfrequency", "imagenetv2matchedfrequencyformatval"),
    "ImageNet-A": ("imageneta",),
    "ImageNet-R": ("imagenetr",),
    "ImageNet-Sketch": ("imagenetsketch", "sketch"),
    "ObjectNet": ("objectnet", "objectnet10"),
}
"""The six sets whose mean top-1 is the robustness of the Perception Encoder (arXiv:2504.13181), and names of their folders,
without case, punctuation and a leading wds."""


def is_suite(names: Collection[str]) -> bool:
    """True if these are the names of ImageNet and its shifts, or of some of them."""
    return set(names) <= set(SUITE)


def open_domains(request: Request) -> dict[str, EvaluationSet]:
    """Open the sets of a folder, or of the tables that a pattern matches, by name; all have the same candidate classes.

    The sets of ImageNet keep their own classes, as in the paper: 200 of A and R, 113 of ObjectNet.

    Raises:
        PerceptError: there are fewer than two sets, or one cannot be opened.
    """
    root = Path(request.path)
    if root.is_dir() and (suite := _suite_folders(root)):
        return _suite(root, suite, request)
    parts = _parts(root, request)
    if root.is_dir() and all(
        path.is_dir() and not folders.subfolders(path) and _holds_images(path) for path in parts.values()
    ):
        raise PerceptError(
            f"{root} holds one folder per class, such as {next(iter(parts))}, but robustness compares several sets. Give a folder that has "
            "one such folder per domain, or use percept eval zeroshot."
        )
    opened = {name: _named(open_set(replace(request, path=str(path))), name) for name, path in parts.items()}
    for each in opened.values():
        each.check("class")
    return _of_equal_classes(opened)


def _holds_images(path: Path) -> bool:
    return any(file.suffix.lower() in image_suffixes() for file in path.iterdir())


def _of_equal_classes(opened: Mapping[str, EvaluationSet]) -> dict[str, EvaluationSet]:
    """Give all sets the classes that any of them has."""
    names = sorted({name for each in opened.values() for name in each.classes})
    numbers = {name: number for number, name in enumerate(names)}

    def renumbered(data: EvaluationSet) -> EvaluationSet:
        def read(number: int) -> Item:
            item = data.read(number)
            return replace(item, labels=tuple(numbers[data.classes[label]] for label in item.labels))

        return replace(data, classes=tuple(names), read=read)

    return {name: renumbered(data) for name, data in opened.items()}


def _suite_folders(root: Path) -> dict[str, Path]:
    """Return the folders of the six sets that are there, in their order; none if there is only one."""
    by_name = {_plain(folder): root / folder for folder in folders.subfolders(root)}
    present = {name: next((by_name[each] for each in known if each in by_name), None) for name, known in SUITE.items()}
    found = {name: path for name, path in present.items() if path is not None}
    return found if len(found) > 1 else {}


def _plain(name: str) -> str:
    """Return a folder's name without what differs between distributions.

    >>> _plain("wds_imagenet-v2"), _plain("ImageNet_R")
    ('imagenetv2', 'imagenetr')
    """
    return re.sub(r"[^a-z0-9]", "", name.lower().removeprefix("wds_"))


def _suite(root: Path, found: Mapping[str, Path], request: Request) -> dict[str, EvaluationSet]:
    check_no_split(root, request.subset)
    known = _with_ids(class_file(request.classes, root), found.get("ImageNet"))
    opened = {}
    for name, path in found.items():
        inner = replace(request, path=str(path), classes=None)
        opened[name] = _named(_member(path, inner, known, root), name).limited(request.limit, request.seed)
    return opened


def _member(path: Path, request: Request, known: ClassFile | None, root: Path) -> EvaluationSet:
    """Open one of the six sets; those of plain folders get the class names of the root, where they have none of their own."""
    own = class_file(None, path)
    inside = folders.subfolders(path)
    plain = own is None and known is not None and not folders.is_objectnet(path)
    if plain and all(each.isdecimal() or WORDNET.fullmatch(each) for each in inside):
        opened = folders.class_folders(path, request, known=known)
    elif plain and set(inside) <= set(SPLITS):
        split = next(each for each in SPLITS if each in inside)
        opened = folders.class_folders(path / split, request, known=known)
    else:
        opened = open_set(replace(request, limit=None, classes=own.path if own is not None else None))
    if opened.templates or request.templates is not None:
        return opened
    return replace(opened, templates=folders.templates_of(None, root))


def _with_ids(known: ClassFile | None, validation: Path | None) -> ClassFile | None:
    """Give names without ids the WordNet ids of ImageNet's own folders, whose sorted order is that of the classes."""
    if known is None or known.ids or validation is None:
        return known
    ids = [each for each in folders.subfolders(validation) if WORDNET.fullmatch(each)]
    return ClassFile(path=known.path, names=known.names, ids=tuple(ids)) if len(ids) == len(known.names) else known


def _named(data: EvaluationSet, name: str) -> EvaluationSet:
    return replace(data, name=name)


def _parts(root: Path, request: Request) -> dict[str, Path]:
    """Return the path of each domain: the subfolders of a folder, or the tables that a pattern matches.

    Raises:
        PerceptError: there are fewer than two.
    """
    if root.is_dir():
        paths = [root / each for each in folders.subfolders(root)]
    else:
        paths = [path for path in matching(request.path) if path.suffix.lower() in KINDS]
    if len(paths) < 2:
        raise PerceptError(
            f"{request.path} holds {count(len(paths), 'set')}, but robustness compares several. Give a folder with one folder of "
            f"classes per domain, a pattern such as '{root}/*.csv' with one table per domain, or a folder with some of "
            f"{', '.join(SUITE)}."
        )
    return dict(zip(_short([path.stem for path in paths]), paths, strict=True))


def _short(names: Sequence[str]) -> list[str]:
    """Return names without the part before an underscore that all share.

    >>> _short(["kinds_google", "kinds_twitter"]), _short(["photo", "sketch"])
    (['google', 'twitter'], ['photo', 'sketch'])
    """
    starts = {name.partition("_")[0] for name in names}
    return (
        [name.partition("_")[2] for name in names]
        if len(starts) == 1 and all("_" in name for name in names)
        else list(names)
    )
