"""Adaptation on a person's own class folders: what was found, refusal of leakage, and the measurements of one or several methods.

Files of equal content count once; files of equal content in two classes are left out; images that look nearly the same as a training image
(64-bit hashes of their looks) are not tested on. With a test folder of its own, an image on both sides is an error.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from percept.core.errors import PerceptError
from percept.core.io import file_hash
from percept.data.check.similar import look_of, near_looks
from percept.data.files import BadFile, is_video, read_each
from percept.data.images import read_image
from percept.eval.folder_models import Task, open_task
from percept.eval.sets.folders import subfolders
from percept.eval.teach import class_files
from percept.eval.zeroshot import worst
from percept.methods.adaptation.few import LabelledSet
from percept.methods.adaptation.measure import Answers
from percept.methods.adaptation.texts import TEMPLATE, check_names

FEWEST = 4
"""Classes from which a base/new split is measured."""
LISTED = 12
"""Classes, and groups of files, that are listed one by one."""
COLUMNS = (
    ("base", "base", "base"),
    ("base", "new", "new"),
    ("base", "harmonic", "harmonic mean"),
    ("all", "all", "all"),
)
"""Columns of a table of scores: classes that are trained on, score, name."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Own:
    """A set from a person's folders, and what was found in them."""

    data: LabelledSet
    counts: dict[str, int]
    """Different training images of each class."""
    copies: int
    """Files that are copies of another one of their class; they are left out."""
    conflicts: tuple[tuple[Path, ...], ...]
    """Files of equal content in different classes; all are left out."""
    ignored: tuple[str, ...]
    """Folders without images, and files outside of the folders of classes."""
    similar: int
    """Training images that look nearly the same as a different one."""
    bad: tuple[BadFile, ...]

    @property
    def splits(self) -> tuple[str, ...]:
        """Splits that are measured: base, if there are enough classes, and all."""
        return ("base", "all") if len(self.data.classes) >= FEWEST else ("all",)

    @property
    def per_class(self) -> str:
        """Number of training images of each class, as text: of every class if there are few, otherwise of the smallest and the largest one."""
        if len(self.counts) <= LISTED:
            return ", ".join(f"{name} {count:,}" for name, count in self.counts.items())
        low, high = (choose(self.counts, key=lambda name: self.counts[name]) for choose in (min, max))
        return f"{self.counts[low]:,} ({low}) to {self.counts[high]:,} ({high}) of each"

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a person should know about the folder."""
        remarks = [f"ignored: {each}" for each in self.ignored]
        for files in self.conflicts[:LISTED]:
            remarks.append(f"left out, because equal images are in different classes: {', '.join(map(str, files))}")
        if len(self.conflicts) > LISTED:
            remarks.append(f"left out for the same reason: {len(self.conflicts) - LISTED:,} further groups of files")
        if len(self.splits) == 1:
            remarks.append(f"with {len(self.counts)} classes there is no split into base and new classes")
        return tuple(remarks)


def open_own(folder: Path | str, test: Path | str | None = None, *, template: str = TEMPLATE) -> Own:
    """Read class folders to train on, and others to test on; without these, the images that are not drawn are tested on.

    Raises:
        PerceptError: no classes, videos, classes that differ between both folders, an image in both, or no file can be read.
    """
    train = _task(folder)
    held = None if test is None else _task(test)
    if held is not None:
        check_same_classes(train, held)
        check_apart(train, held)
    names = check_names(train.found.classes)
    tasks = [train] if held is None else [train, held]
    paths = [path for task in tasks for path in task.paths]
    labels = np.concatenate([task.labels for task in tasks])
    first = len(train.paths)
    pool = np.arange(first)
    looks = train.looks if held is None else np.concatenate([train.looks, first + held.looks])
    data = LabelledSet(
        name=train.found.path.resolve().name, classes=names, image=lambda row: paths[row], labels=labels, template=template,
        keys=tuple(str(path) for path in paths), pool=pool, test=pool if held is None else np.arange(first, len(paths)), looks=looks,
    )  # fmt: skip
    counts = np.bincount(train.labels, minlength=len(names)).tolist()
    return Own(
        data=data, counts=dict(zip(names, counts, strict=True)),
        copies=sum(task.left_out - sum(map(len, task.conflicts)) for task in tasks),
        conflicts=tuple(files for task in tasks for files in task.conflicts), ignored=tuple(name for task in tasks for name in _ignored(task)),
        similar=_similar(train.looks), bad=tuple(file for task in tasks for file in task.bad),
    )  # fmt: skip


def _task(folder: Path | str) -> Task:
    found = class_files(Path(folder))
    if videos := [path for path in found.files if is_video(path)]:
        raise PerceptError(
            f"{videos[0]} is a video, and adaptation trains on images. Take the videos out, or save frames of them."
        )
    return open_task(folder)


def _ignored(task: Task) -> list[str]:
    """Return folders without images, and files outside of folders, as text."""
    path, used = task.found.path, {file.relative_to(task.found.path).parts[0] for file in task.found.files}
    empty = [f"{path / name}, a folder without images" for name in subfolders(path) if name not in used]
    return empty + ([f"{task.found.outside:,} files of {path} that are in no folder"] if task.found.outside else [])


def _similar(looks: Int[np.ndarray, " n"]) -> int:
    return sum(count for count in Counter(looks.tolist()).values() if count > 1)


def check_same_classes(train: Task, held: Task) -> None:
    """Raise a PerceptError unless both folders have the same classes."""
    one, other = set(train.found.classes), set(held.found.classes)
    if one != other:
        missing = sorted(one ^ other)
        raise PerceptError(
            f"{train.found.path} and {held.found.path} have different classes, such as {', '.join(missing[:4])}. Give both the same folders."
        )
    assert train.found.classes == held.found.classes  # both are sorted


def check_apart(train: Task, held: Task) -> None:
    """Raise a PerceptError if an image is in both folders: the same file content, or one that looks nearly the same."""
    known = {file_hash(path): path for path in train.paths}
    pairs = [(known[digest], path) for path in held.paths if (digest := file_hash(path)) in known]
    kind = "have the same content"
    if not pairs:
        pairs, kind = _alike(train.paths, held.paths), "look nearly the same"
    if pairs:
        many = (
            "1 test image is a training image" if len(pairs) == 1 else f"{len(pairs):,} test images are training images"
        )
        raise PerceptError(
            f"{many} too: {pairs[0][0]} and {pairs[0][1]} {kind}. Remove copies from one of the folders."
        )


def _alike(train: Sequence[Path], held: Sequence[Path]) -> list[tuple[Path, Path]]:
    """Return pairs of a training and a test image that look nearly the same."""

    def look(path: Path) -> int:
        return look_of(read_image(path, at_least=32)) or 0

    paths = [*train, *held]
    values = [0 if isinstance(each, BadFile) else each for each in read_each(paths, look)]
    groups = near_looks(np.array(values, dtype=np.uint64))
    first: dict[int, Path] = {}
    for path, group in zip(train, groups[: len(train)].tolist(), strict=True):
        first.setdefault(group, path)
    return [
        (first[group], path) for path, group in zip(held, groups[len(train) :].tolist(), strict=True) if group in first
    ]


def confusions(data: LabelledSet, answers: Answers) -> list[Any]:
    """Return the pairs of classes that were confused most, worst first."""
    import torch

    return list(worst(torch.from_numpy(answers.truth), torch.from_numpy(answers.guess), data.classes))
