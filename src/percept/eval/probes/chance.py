"""The chance level of a task: what a constant answer scores on the held-out samples, so that a layer can be compared with it.

The answer is made from the training labels alone: the largest class, the mean depth, one box, one text. Retrieval is at random, and what
needs no training stays in place: a point at the same place of the second view, an object as in the first frame.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from math import comb
from typing import Any

import numpy as np
import torch

from percept.eval.matching import correct_points
from percept.eval.probes.boxes import Detected, Truth, average_precision
from percept.eval.probes.dense import depth_errors, fitted_labels
from percept.eval.probes.matching import TOLERANCE, spread
from percept.eval.probes.outcome import Outcome, Sums, mean_iou, ratio, right
from percept.eval.probes.probe import Setup
from percept.eval.probes.reading import edit_distance
from percept.eval.retrieval import same
from percept.eval.tracking import region_similarity

CHANCE = -1
"""Stands for the constant answer among the numbers of layers."""
MOST_TEXTS = 50
"""Training words that are tried as the constant text."""


class Chance(ABC):
    """A constant answer; judged like a probe, with the same measures in the same order."""

    answer = ""
    """What the answer is, for the table of scores."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup

    def see(self, target: Any) -> None:
        """Take the label of a training sample into account."""
        del target  # most constant answers need no label

    @abstractmethod
    def judge(self, features: Sequence[Any], targets: Sequence[Any]) -> Mapping[str, Outcome]:
        """Return the outcome by name of the measure; features are not used."""

    def head(self, layer: int) -> None:
        """Return None: there is nothing to save."""
        del layer


class _Largest(Chance):
    """An answer of the largest class."""

    answer = "largest class"

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.counts: np.ndarray = np.zeros(max(1, len(setup.classes)), np.int64)


class Class(_Largest):
    """The largest class."""

    def see(self, target: int) -> None:
        """Count the class."""
        self.counts[target] += 1

    def judge(self, features: Sequence[Any], targets: Sequence[int]) -> Mapping[str, Outcome]:
        """Return whether the class of each sample is the largest one."""
        return {"top-1": right(np.array(targets) == self.counts.argmax())}


class Retrieval(Chance):
    """A random order."""

    answer = "random order"

    def judge(self, features: Sequence[Any], targets: Sequence[tuple[Any, str]]) -> Mapping[str, Outcome]:
        """Return the probability that k of n answers drawn at random hold a right one."""
        n, answers = len(targets), same([caption for _, caption in targets]).sum(dim=1).tolist()
        found = {}
        for k in (1, 5):
            shares = [1 - comb(n - int(m), min(k, n)) / comb(n, min(k, n)) for m in answers]
            for way in ("caption→image", "image→caption"):
                found[f"{way} R@{k}"] = Sums(sums=np.stack([shares, np.ones(n)], axis=1), measure=ratio)
        return found


class Mask(_Largest):
    """The class of most pixels."""

    def see(self, target: np.ndarray) -> None:
        """Count the pixels of each class."""
        self.counts += self._pixels(target)

    def _pixels(self, target: np.ndarray) -> np.ndarray:
        labels = fitted_labels(target, self.setup.frame.size).numpy()
        return np.bincount(labels[labels >= 0], minlength=len(self.counts))

    def judge(self, features: Sequence[Any], targets: Sequence[np.ndarray]) -> Mapping[str, Outcome]:
        """Return intersections and unions of the largest class everywhere."""
        truth = np.stack([self._pixels(target) for target in targets]).astype(np.float64)
        guess = np.arange(truth.shape[1]) == int(self.counts.argmax())
        union = np.where(guess, truth.sum(axis=1, keepdims=True), truth)
        return {"mIoU": Sums(sums=np.concatenate([truth * guess, union], axis=1), measure=mean_iou)}


class Depth(Chance):
    """The mean depth."""

    answer = "mean depth"

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.total, self.pixels = 0.0, 0

    def see(self, target: np.ndarray) -> None:
        """Add the known depths."""
        known = target[np.isfinite(target) & (target > 0)]
        self.total, self.pixels = self.total + float(known.sum(dtype=np.float64)), self.pixels + known.size

    def judge(self, features: Sequence[Any], targets: Sequence[np.ndarray]) -> Mapping[str, Outcome]:
        """Return RMSE and δ1 of the mean depth everywhere."""
        size, mean = self.setup.frame.size, self.total / max(1, self.pixels)
        rows = np.array([depth_errors(torch.full(size, mean), fitted_labels(target, size)) for target in targets])
        unit = "m" if self.setup.unit == "m" else ""
        return {
            "RMSE": Sums(sums=rows[:, [0, 2]], measure=ratio, unit=unit, better="less"),
            "δ1": Sums(sums=rows[:, [1, 2]], measure=ratio),
        }


class Box(_Largest):
    """The mean box of the class with most boxes."""

    answer = "mean box of the largest class"

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.sums = np.zeros((len(self.counts), 4))

    def see(self, target: Truth) -> None:
        """Add the boxes of each class."""
        kept = ~target.crowd
        np.add.at(self.sums, target.labels[kept], target.boxes[kept])
        np.add.at(self.counts, target.labels[kept], 1)

    def judge(self, features: Sequence[Any], targets: Sequence[Truth]) -> Mapping[str, Outcome]:
        """Return the average precision of this box in every image."""
        label = int(self.counts.argmax())
        box = self.sums[label] / max(1, self.counts[label])
        found = Detected(boxes=box[None], labels=np.array([label]), scores=np.ones(1))
        return average_precision(targets, [found] * len(targets), len(self.setup.classes))


class Track(Chance):
    """Every object as in the first frame."""

    answer = "objects stay in place"

    def judge(self, features: Sequence[Any], targets: Sequence[np.ndarray]) -> Mapping[str, Outcome]:
        """Return the region similarity of the first frame with the others; the last one is not counted."""
        return {"J": Sums(sums=np.array([self._one(masks) for masks in targets], np.float64), measure=ratio)}

    def _one(self, masks: np.ndarray) -> tuple[float, int]:
        first, *others = [fitted_labels(mask, self.setup.frame.size).numpy() for mask in masks]
        numbers = [number for number in np.unique(first).tolist() if number > 0]
        if not numbers or len(others) < 2:
            return 0.0, 0
        overlaps = [np.mean([region_similarity(first == n, other == n) for other in others[:-1]]) for n in numbers]
        return float(np.sum(overlaps)), len(numbers)


class Point(Chance):
    """The same place in the second view."""

    answer = "points stay in place"

    def judge(self, features: Sequence[Any], targets: Sequence[tuple[np.ndarray, np.ndarray]]) -> Mapping[str, Outcome]:
        """Return the share of points that are near their place in the first view."""
        size = np.array(self.setup.frame.size[::-1], np.float64)
        chosen = [(first[kept], second[kept]) for first, second in targets for kept in [spread(len(first))]]
        near = [
            correct_points(size * first, size * second, extent=int(size.max()), alpha=TOLERANCE)
            for first, second in chosen
        ]
        return {"PCK@0.1": Sums(sums=np.array([(each.sum(), len(each)) for each in near], np.float64), measure=ratio)}


class Text(Chance):
    """The text that needs the fewest edits to become the training words: nothing, a letter, or one of these words."""

    answer = "one text"

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.words: Counter[str] = Counter()

    def see(self, target: tuple[Any, Sequence[str]]) -> None:
        """Count the words."""
        self.words.update(text.lower() for text in target[1])

    def text(self) -> str:
        """Return the constant text."""
        words = self.words.most_common(MOST_TEXTS)
        tried = ["", *sorted({letter for word, _ in words for letter in word}), *(word for word, _ in words)]
        return min(tried, key=lambda text: sum(edit_distance(text, word) * count for word, count in words))

    def judge(self, features: Sequence[Any], targets: Sequence[tuple[Any, Sequence[str]]]) -> Mapping[str, Outcome]:
        """Return the character error rate, and the share of words that are read, if every word is read as this text."""
        guess, words = self.text(), [[text.lower() for text in target[1]] for target in targets]
        edits = [(sum(edit_distance(guess, word) for word in of), sum(map(len, of))) for of in words]
        whole = [(sum(guess == word for word in of), len(of)) for of in words]
        return {
            "character error rate": Sums(sums=np.array(edits, np.float64), measure=ratio, better="less"),
            "words read": Sums(sums=np.array(whole, np.float64), measure=ratio),
        }


CHANCES: dict[str, type[Chance]] = {
    "classes": Class, "captions": Retrieval, "masks": Mask, "depth": Depth, "boxes": Box, "tracks": Track, "points": Point, "words": Text,
}  # fmt: skip
"""Task: its constant answer."""
