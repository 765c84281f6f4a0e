"""Samples with labels for one task, and how they are divided into training, validation and test samples."""

from collections.abc import Callable, Container, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Int

from percept.core.errors import PerceptError

FEWEST, FEWEST_GROUPS = 5, 2
"""Minimum number of samples that can be divided, and minimum number of groups in each part."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Parts:
    """Numbers of the samples of each part."""

    train: Int[np.ndarray, " n"]
    validation: Int[np.ndarray, " m"]
    """On these the best layer is chosen."""
    test: Int[np.ndarray, " k"]
    """On these every layer is reported."""
    groups: Int[np.ndarray, " k"] | None = None
    """Number of each test sample's group, from 0, to resample groups; None if every sample stands alone."""

    def groups_without(self, bad: Container[int]) -> Int[np.ndarray, " k"] | None:
        """Return the groups of the test samples that are not in `bad`, numbered from 0; None if every sample stands alone."""
        if self.groups is None:
            return None
        kept = [number not in bad for number in self.test.tolist()]
        return np.unique(self.groups[kept], return_inverse=True)[1]


@dataclass(frozen=True, kw_only=True, eq=False)
class Labelled:
    """Labelled samples, read when they are asked for.

    A sample has one image, the frames of a clip (tracks) or two views (points). Its target is, by task: classes, the number of the class;
    captions, a text; masks, classes [y, x] with -1 for no label; depth, values [y, x] with 0 or NaN for none; boxes,
    `percept.eval.probes.boxes.Truth`; tracks, objects [t, y, x] with 0 for the background; points, places (x, y) in [0, 1] in both views;
    words, boxes xyxy in [0, 1] and their texts.
    """

    name: str
    task: str
    count: int
    images: Callable[[int], Sequence[Any]]
    """The images of a sample: paths, or uint8 arrays [y, x, 3]."""
    target: Callable[[int], Any]
    classes: tuple[str, ...] = ()
    unit: Literal["m", ""] = ""
    """Unit of depth."""
    given: tuple[range, range] | None = None
    """Training samples, and samples to hold out, where the data divide themselves."""
    group: Callable[[Sequence[int]], Sequence[Hashable]] | None = None
    """Returns the group of each of these samples: views of one room, frames of one scene, images that look nearly the same. Samples of one group
    stay in one part, and are resampled together. None if every sample stands alone."""

    def __len__(self) -> int:
        return self.count

    def parts(self, *, seed: int = 0, most: int | None = None, trains: bool = True) -> Parts:
        """Divide the samples: 60 % to train, 20 % to validate, 20 % to test, at random; a division in the data is kept.

        Samples with classes are divided class by class, and so are those that are used if there are more than `most`. Samples of one group stay in
        one part; the shares are then those nearest to these.

        Args:
            seed: of the division.
            most: samples that are used; all if None.
            trains: False for a measure without training: half to validate, half to test.

        Raises:
            PerceptError: there are too few samples, or too few groups of them.
        """
        if self.count < FEWEST:
            raise PerceptError(
                f"{self.name} has {self.count} samples with labels for {self.task}. At least {FEWEST} are needed to hold some out."
            )
        if most is not None and most < FEWEST:
            raise PerceptError(f"samples must be at least {FEWEST} to hold some out, got {most}.")
        rng = np.random.default_rng(seed)
        if self.given is not None and trains and min(map(len, self.given)) > 1:
            train, held = _given(self.given, rng, most)
            held, groups = self._together(held, rng, parts=2)
        else:
            order = self._stratified(rng.permutation(self.count), rng)[:most]
            order, groups = self._together(order, rng, parts=3 if trains else 2)
            first = _cut(groups, int(0.6 * len(order)), after=2) if trains else 0
            train, held, groups = order[:first], order[first:], groups[first:]
        middle = _cut(groups, len(held) // 2)
        test = np.unique(groups[middle:], return_inverse=True)[1]
        return Parts(
            train=train, validation=held[:middle], test=held[middle:], groups=test if test.max() + 1 < len(test) else None
        )  # fmt: skip

    def _stratified(self, order: Int[np.ndarray, " n"], rng: np.random.Generator) -> Int[np.ndarray, " n"]:
        """Sort samples with classes by `in_shares`."""
        if self.task != "classes":
            return order
        return in_shares(order, np.array([self.target(number) for number in order.tolist()]), rng)

    def _together(
        self, order: Int[np.ndarray, " n"], rng: np.random.Generator, *, parts: int
    ) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
        """Return samples ordered by group, the groups in random order, and the group number of each sample.

        Raises:
            PerceptError: some groups have several samples, and there are fewer than `FEWEST_GROUPS` for each part.
        """
        if self.group is None:
            return order, np.arange(len(order))
        members: dict[Hashable, list[int]] = {}
        for number, name in zip(order.tolist(), self.group(order.tolist()), strict=True):
            members.setdefault(name, []).append(number)
        if len(members) == len(order):
            return order, np.arange(len(order))
        if len(members) < parts * FEWEST_GROUPS:
            raise PerceptError(
                f"the {len(order)} samples of {self.name} are of only {len(members)} groups: views of one room, frames of one scene, or images that "
                f"look nearly the same. A group is not divided; give at least {parts * FEWEST_GROUPS} to hold some out."
            )
        by_first = {numbers[0]: numbers for numbers in members.values()}
        leaders = self._stratified(rng.permutation(list(by_first)), rng).tolist()
        sizes = [len(by_first[leader]) for leader in leaders]
        return np.concatenate([by_first[leader] for leader in leaders]), np.repeat(np.arange(len(sizes)), sizes)


def _cut(groups: Int[np.ndarray, " n"], wanted: int, *, after: int = 1) -> int:
    """Return the place nearest to `wanted` at which one group ends and the next begins.

    Args:
        groups: number of each sample's group; samples of one group side by side.
        wanted: samples before the cut.
        after: parts that are made of the rest. Where groups have several samples, each part keeps at least `FEWEST_GROUPS` of them.
    """
    ends = np.flatnonzero(np.diff(groups)) + 1
    least = 1 if len(ends) + 1 == len(groups) else FEWEST_GROUPS
    ends = ends[least - 1 : len(ends) + 1 - after * least]
    return int(ends[np.argmin(np.abs(ends - wanted))])


def in_shares(
    order: Int[np.ndarray, " n"], classes: Int[np.ndarray, " n"], rng: np.random.Generator
) -> Int[np.ndarray, " n"]:
    """Sort samples so that any part of the sorted order holds each class about in proportion.

    Sample k of the n samples of a class gets the place (k + u) / n in [0, 1), where u is drawn once per class, and samples are sorted by place.

    Args:
        order: numbers of the samples, already in random order.
        classes: class of each.
        rng: source of u.
    """
    places = np.empty(len(order))
    for number in np.unique(classes):
        (mine,) = np.nonzero(classes == number)
        places[mine] = (np.arange(len(mine)) + rng.random()) / len(mine)
    return order[np.argsort(places, kind="stable")]


def _given(
    given: tuple[range, range], rng: np.random.Generator, most: int | None
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " m"]]:
    """Return at most 60 % of `most` of the training samples, and held-out samples."""
    most = most or len(given[0]) + len(given[1])
    train = rng.permutation(np.array(given[0]))[: max(1, int(0.6 * most))]
    return train, rng.permutation(np.array(given[1]))[: max(2, most - len(train))]


def need_task(found: dict[str, Labelled], task: str, name: object) -> Labelled:
    """Return the labels for a task.

    Raises:
        PerceptError: the data have none.
    """
    if task not in found:
        kinds = ", ".join(found) or "no task"
        raise PerceptError(f"{name} has labels for {kinds}, but not for {task}. {NEEDED[task]}")
    return found[task]


NEEDED = {
    "classes": "Give a folder with a subfolder of images per class, or a table with the column label.",
    "captions": "Give a folder with a text file of the same name for each image, a table with a caption column, COCO's captions, or a Karpathy json file.",
    "masks": "Give images/ and masks/ with a PNG of class numbers of the same name for each image, or ADE20k's images/ and annotations/.",
    "depth": "Give images/ and depth/ with a 16-bit PNG in millimetres of the same name for each image, or NYU's rgb_*.jpg and sync_depth_*.png.",
    "boxes": "Give a folder with annotations/instances_*.json and the images, as in COCO.",
    "tracks": "Give a folder with JPEGImages/ and Annotations/, as in DAVIS.",
    "points": "Give rooms with cameras and depth, as percept world rooms writes them.",
    "words": "Give a folder of the labelled world, as percept world images writes it.",
}
"""What labels for each task look like."""
