"""An evaluation set: what it holds, and how one sample of it is read."""

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from percept.core.errors import PerceptError
from percept.core.seed import derive
from percept.core.words import count
from percept.data.sources.sample import BadSample, Media

COMMANDS = {
    "class": "percept eval zeroshot",
    "classes": "percept eval multilabel",
    "captions": "percept eval retrieval",
}
"""What the samples of a set hold: the command that measures it."""
HELD = {"class": "one class each", "classes": "several classes each", "captions": "captions"}
NEEDED = {
    "class": "one class per sample, such as folders of classes",
    "classes": "several classes per image, such as a COCO instances file or a table with a column labels",
    "captions": "captions, such as a Karpathy json file or a table with a column caption",
}


class UnknownClass(BadSample):
    """A sample of a class that has no name: the list of classes belongs to other data."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One sample, read but not decoded."""

    key: str
    """Identifies the sample within its set; the same in every run."""
    media: Media
    """An image, or a video, as it is stored."""
    labels: tuple[int, ...] = ()
    """Numbers of its true classes."""
    captions: tuple[str, ...] = ()
    window: tuple[float, float] | None = None
    """Start and end in seconds of the part of a video that counts; None for all of it."""


@dataclass(frozen=True, kw_only=True)
class EvaluationSet:
    """Random access to the samples of a set."""

    name: str
    path: str
    layout: str
    """How the files are arranged, in words."""
    holds: Collection[str]
    """Of class, classes (several per image), captions."""
    count: int
    key: Callable[[int], str]
    """Returns the key of a sample without reading it."""
    read: Callable[[int], Item]
    """Reads a sample; raises `BadSample` if it cannot be read."""
    where: Callable[[int], str] | None = None
    """Returns the name of a sample in messages: its key, and its place in the file that lists it. Without it, the key."""
    classes: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()
    """Prompts that come with the set, with {} in place of the class name; used literally."""
    video: bool = False
    border: int = 0
    """Pixels that are cut off on each side of an image."""
    remark: str = ""
    """What else a reader of the numbers must know, such as how many classes were left out."""

    def __len__(self) -> int:
        return self.count

    @property
    def remarks(self) -> str:
        """The remark, and which classes cannot be told apart by their names."""
        equal = [name for name, number in Counter(self.classes).items() if number > 1]
        shown = [
            f"Classes of equal name, such as {name}, cannot be told apart: their images count as wrong."
            for name in equal[:1]
        ]
        return " ".join(filter(None, [self.remark, *shown]))

    def check(self, *wanted: str) -> "EvaluationSet":
        """Return the set if it holds one of the things an evaluation needs.

        Raises:
            PerceptError: it does not, or it has no samples.
        """
        if not self.count:
            raise PerceptError(f"{self.path} holds no samples. Give a folder or file with at least one.")
        if not set(wanted) & set(self.holds):
            found = " and ".join(HELD.get(each, each) for each in self.holds) or "neither classes nor captions"
            commands = [COMMANDS[each] for each in self.holds]
            instead = f"Use {' or '.join(commands)}, or give" if commands else "Give"
            needed = " or ".join(NEEDED[each] for each in wanted)
            raise PerceptError(
                f"{self.path} ({self.layout}) holds {count(self.count, 'sample')} with {found}. {instead} {needed}."
            )
        if "class" in set(wanted) & set(self.holds) and len(self.classes) == 1:
            raise PerceptError(
                f"{self.path} has the single class {self.classes[0]!r}, so every answer is right. Give at least two classes."
            )
        return self

    def limited(self, limit: int | None, seed: int) -> "EvaluationSet":
        """Return a random part of at most `limit` samples, in the order of the set.

        Raises:
            PerceptError: `limit` is below 1.
        """
        if limit is not None and limit < 1:
            raise PerceptError(f"limit must be at least 1, got {limit}. Give the number of samples to measure.")
        if limit is None or limit >= self.count:
            return self
        rng = np.random.default_rng(derive(seed, "limit"))
        rows = np.sort(rng.choice(self.count, limit, replace=False)).tolist()
        key, read, where = self.key, self.read, self.where
        return replace(
            self, count=limit, key=lambda number: key(rows[number]), read=lambda number: read(rows[number]),
            where=None if where is None else lambda number: where(rows[number]),
            remark=" ".join(filter(None, [self.remark, f"{limit:,} of {self.count:,} samples, drawn at random."])),
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Request:
    """Which set is wanted, as a person names it."""

    path: str
    """Folder, file or pattern."""
    media: Path | None = None
    """Folder of the images or videos of a file; the folder of the file if None."""
    classes: Path | None = None
    """File with class names."""
    templates: Path | None = None
    """File with prompts."""
    subset: str | None = None
    """Split, such as test; where None, test if there is one."""
    limit: int | None = None
    """Samples drawn at random; all if None."""
    seed: int = 0
    sampling: Any = field(default=None, compare=False)
    """`percept.infer.clips.Sampling` of videos; 8 frames if None."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain data from which the same set can be opened again."""
        values = {
            "path": self.path,
            "media": self.media,
            "classes": self.classes,
            "subset": self.subset,
            "limit": self.limit,
        }
        given = {name: str(value) if isinstance(value, Path) else value for name, value in values.items() if value}
        return given | ({"seed": self.seed} if self.limit else {})
