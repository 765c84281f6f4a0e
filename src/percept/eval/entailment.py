"""Whether an image entails a text: a classifier on frozen vectors of a model, as a second task for changed captions.

The classifier is a logistic regression on the product and the distance, per dimension, of both unit vectors. Images and texts come from
the labelled world: a caption of the image, or one in which one thing is of a kind that the image does not show.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from percept.eval.insertion import Item
from percept.eval.statistics import Score
from percept.infer.contracts import Embeds
from percept.world.kinds import confusable
from percept.world.objects import CATEGORIES

STEPS, DECAY = 300, 1e-4


def hypotheses(items: Sequence[Item], rng: random.Random) -> tuple[list[Item], Bool[np.ndarray, " n"]]:
    """Return the items, every second one with a wrong noun, and True where the caption is right.

    The attributes of the thing stay at the wrong noun, as they are what a detector would report there.
    """
    right = np.arange(len(items)) % 2 == 0
    return [item if true else contradicted(item, rng) for item, true in zip(items, right, strict=True)], right


def contradicted(item: Item, rng: random.Random) -> Item:
    """Return the item with the noun of one thing replaced by another kind of one word."""
    place = rng.choice(list(item.nouns))
    shown = " ".join(item.words)
    others = [name for name in CATEGORIES if " " not in name and name not in item.words and not _like(name, shown)]
    end = next((end for end in range(place, len(item.words)) if item.words[end] == "and"), len(item.words))
    words = (*item.words[:place], rng.choice(others), *item.words[end:])
    moved = end - place - 1
    nouns = {other - moved if other > place else other: own for other, own in item.nouns.items()}
    return replace(item, words=words, nouns=nouns)


def _like(name: str, shown: str) -> bool:
    return any(f" {other} " in f" {shown} " and confusable(name, other) for other in CATEGORIES)


@dataclass(frozen=True, kw_only=True)
class Judge:
    """A model with a trained classifier."""

    model: Embeds
    head: nn.Linear

    @torch.no_grad()
    def __call__(self, images: Float[Tensor, "n d"], texts: Sequence[str]) -> Bool[np.ndarray, " n"]:
        """Return True where the image entails the text."""
        return (self.head(features(images, self.model.text(list(texts)).float()))[:, 0] > 0).numpy()


def features(images: Float[Tensor, "n d"], texts: Float[Tensor, "n d"]) -> Float[Tensor, "n d2"]:
    """Return products and distances, scaled to about unit size."""
    scale = images.shape[1] ** 0.5
    return scale * torch.cat([images * texts * scale, (images - texts).abs()], dim=1)


def train(
    model: Embeds, images: Float[Tensor, "n d"], texts: Sequence[str], right: Bool[np.ndarray, " n"], *, seed: int = 0
) -> Judge:
    """Fit the classifier with the whole set in every step."""
    torch.manual_seed(seed)
    inputs = features(images, model.text(list(texts)).float())
    head = nn.Linear(inputs.shape[1], 1)
    optimiser = torch.optim.AdamW(head.parameters(), lr=3e-3, weight_decay=DECAY)
    labels = torch.from_numpy(right).float()
    for _ in range(STEPS):
        optimiser.zero_grad()
        F.binary_cross_entropy_with_logits(head(inputs)[:, 0], labels).backward()
        optimiser.step()
    return Judge(model=model, head=head.requires_grad_(False))


def f1(guesses: Bool[np.ndarray, " n"], right: Bool[np.ndarray, " n"]) -> float:
    """Return the mean over both classes of F1; a class that is neither true nor guessed counts 0.

    >>> round(f1(np.array([True, True, False]), np.array([True, False, False])), 3)
    0.667
    """
    values = []
    for label in (True, False):
        hits = ((guesses == label) & (right == label)).sum()
        total = (guesses == label).sum() + (right == label).sum()
        values.append(2 * hits / total if total else 0.0)
    return float(np.mean(values))


def f1_drop(
    name: str,
    before: Bool[np.ndarray, " n"],
    after: Bool[np.ndarray, " n"],
    right: Bool[np.ndarray, " n"],
    *,
    seed: int = 0,
) -> Score:
    """Return the relative drop of F1, with the items resampled in pairs."""
    rng = np.random.default_rng(seed)
    picks = rng.integers(0, len(right), (500, len(right)))
    draws = [1 - f1(after[pick], right[pick]) / max(f1(before[pick], right[pick]), 1e-9) for pick in picks]
    low, high = np.quantile(draws, (0.025, 0.975))
    value = 1 - f1(after, right) / max(f1(before, right), 1e-9)
    return Score(name=name, value=value, n=len(right), low=float(low), high=float(high))
