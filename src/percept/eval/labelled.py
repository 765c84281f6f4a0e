"""Samples with labels for one task, and how they are divided into training, validation and test samples."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Int

from percept.core.errors import PerceptError

FEWEST = 5
"""Least samples that can be divided."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Parts:
    """Numbers of the samples of each part."""

    train: Int[np.ndarray, " n"]
    validation: Int[np.ndarray, " m"]
    """On these the best layer is chosen."""
    test: Int[np.ndarray, " k"]
    """On these every layer is reported."""


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

    def __len__(self) -> int:
        return self.count

    def parts(self, *, seed: int = 0, most: int | None = None, trains: bool = True) -> Parts:
        """Divide the samples: 60 % to train, 20 % to validate, 20 % to test, at random; a division in the data is kept.

        Samples with classes are divided class by class, and so are those that are used if there are more than `most`.

        Args:
            seed: of the division.
            most: samples that are used; all if None.
            trains: False for a measure without training: half to validate, half to test.

        Raises:
            PerceptError: there are too few samples.
        """
        if self.count < FEWEST:
            raise PerceptError(
                f"{self.name} has {self.count} samples with labels for {self.task}. At least {FEWEST} are needed to hold some out."
            )
        if most is not None and most < FEWEST:
            raise PerceptError(f"samples must be at least {FEWEST} to hold some out, got {most}.")
        rng = np.random.default_rng(seed)
        if self.given is not None and trains and min(map(len, self.given)) > 1:
            return _given(self.given, rng, most)
        order = rng.permutation(self.count)
        if self.task == "classes":
            order = in_shares(order, np.array([self.target(number) for number in order.tolist()]), rng)
        order = order[:most]
        train, rest = (int(0.6 * len(order)) if trains else 0), order
        held = rest[train:]
        return Parts(train=order[:train], validation=held[: len(held) // 2], test=held[len(held) // 2 :])

    def limited(self, most: int) -> "Labelled":
        """Return the first samples only."""
        return replace(self, count=min(most, self.count), given=None)


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


def _given(given: tuple[range, range], rng: np.random.Generator, most: int | None) -> Parts:
    """Take at most 60 % of `most` from the training samples; halve those that are held out."""
    most = most or len(given[0]) + len(given[1])
    train = rng.permutation(np.array(given[0]))[: max(1, int(0.6 * most))]
    held = rng.permutation(np.array(given[1]))[: max(2, most - len(train))]
    return Parts(train=train, validation=held[: len(held) // 2], test=held[len(held) // 2 :])


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
