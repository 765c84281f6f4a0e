"""Insertion of true attributes into captions, and how much it harms models that match images and texts.

XMAI, Ramamurthy and Aakur 2023, arXiv:2306.11065: before every noun of a detected object an adjective is inserted that is likely in
language, close to a detected attribute, and lowers the similarity of image and text of an attacking model. Differs from the
reference code: likelihood by a bigram model, attributes from the truth of the labelled world, likeness of words by the attacking
model's text vectors; attributes belong to a place in the caption, not to a word, and words inserted earlier are seen.
The rivals change the text alone, once per noun.
"""

import math
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, islice, pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from percept.core.errors import PerceptError
from percept.core.seed import derive
from percept.core.words import article
from percept.eval import world
from percept.eval.retrieval import ranks, same
from percept.eval.statistics import RESAMPLES, Score, wilson
from percept.infer.contracts import Embeds
from percept.world.graph import attributes_of
from percept.world.language import long_caption, short_caption
from percept.world.palette import COLOURS

ATTRIBUTES = (*COLOURS, "striped", "dotted", "checked", "shaded", "small", "large")
"""Adjectives that may be inserted."""
START = "<start>"
SMOOTHING = 0.1
SYNONYMS = {
    "a": "one", "an": "one", "and": "with", "airplane": "plane", "bicycle": "bike", "boat": "ship", "car": "automobile",
    "church": "chapel", "cup": "mug", "gift": "present", "hamburger": "burger", "house": "home", "lamp": "light",
    "rabbit": "bunny", "shoe": "boot", "sofa": "couch", "truck": "lorry", "pig": "hog", "picture": "image", "photo": "photograph",
}  # fmt: skip
"""Words that the rival "synonym" puts in place of others; it falls back to an exchange of two words where none fits."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """An image with a caption that names things without attributes."""

    image: np.ndarray
    words: tuple[str, ...]
    nouns: Mapping[int, tuple[str, ...]]
    """Place of a noun in `words`: visible attributes of its thing."""

    @property
    def text(self) -> str:
        """The caption."""
        return joined(self.words)


def joined(words: Sequence[str]) -> str:
    """Return words as a text, with the article that each following word needs.

    >>> joined(["a", "orange", "cup"])
    'an orange cup'
    """
    fixed = list(words)
    for place, (word, following) in enumerate(pairwise(words)):
        if word in ("a", "an"):
            fixed[place] = article(following).split()[0]
    return " ".join(fixed)


def items(count: int, *, seed: int = 0, split: str = "evaluation") -> list[Item]:
    """Return images of two or three things whose categories differ, with captions that all differ."""
    chosen: dict[tuple[str, ...], Any] = {}
    for scene in world.scenes("insertion", seed=seed, things=(2, 3), split=split):
        names = tuple(sorted(thing.category for thing in scene.things))
        if len(set(names)) == len(names) and not scene.words:
            chosen.setdefault(names, scene)
        if len(chosen) == count:
            break
    images = world.draw(list(chosen.values()))
    return [_item(scene, image) for scene, image in zip(chosen.values(), images, strict=True)]


def _item(scene: Any, image: np.ndarray) -> Item:
    words: list[str] = []
    nouns: dict[int, tuple[str, ...]] = {}
    for thing in scene.things:
        words += [*(["and"] if words else []), "a"]
        nouns[len(words)] = tuple(attributes_of(scene, thing))
        words += thing.category.split()
    return Item(image=image, words=tuple(words), nouns=nouns)


class Bigram:
    """A language model of pairs of words, with additive smoothing."""

    def __init__(self, texts: Sequence[str]) -> None:
        """Count the pairs of words of texts in lower case; full stops and commas are dropped."""
        sentences = [[START, *text.lower().replace(",", "").replace(".", "").split()] for text in texts]
        self.pairs = Counter(pair for words in sentences for pair in pairwise(words))
        self.words = Counter(word for words in sentences for word in words)

    def log_prob(self, word: str, previous: str) -> float:
        """Return the log-probability of a word after another."""
        total = self.words[previous] + SMOOTHING * len(self.words)
        return math.log((self.pairs[previous, word] + SMOOTHING) / total)

    def between(self, word: str, previous: str, following: str) -> float:
        """Return the probability, not normalised, of a word between two others."""
        return math.exp(self.log_prob(word, previous) + self.log_prob(following, word))

    def fluency(self, text: str) -> float:
        """Return the mean log-probability of a word of the text."""
        words = [START, *text.split()]
        return float(np.mean([self.log_prob(word, previous) for previous, word in pairwise(words)]))


def language(count: int = 4000, *, seed: int = 0) -> Bigram:
    """Return the model of captions of the train split, long and short."""
    scenes = islice(world.scenes("insertion language", seed=seed, things=world.ANY, split="train"), count)
    texts = []
    for number, scene in enumerate(scenes):
        rng = random.Random(derive(seed, "insertion language", number))
        texts.append((long_caption if number % 2 else short_caption)(scene, rng))
    return Bigram(texts)


@dataclass(frozen=True, kw_only=True)
class Weights:
    """How candidates are chosen and scored."""

    likelihood: float = 1.0
    """Weight of the language model (λ1)."""
    likeness: float = 5.0
    """Weight of the likeness to a true attribute (λ2)."""
    distance: float = 5.0
    """Weight of 1 − similarity of image and text (λ3)."""
    candidates: int | None = 3
    """Candidates before each noun (k), the most likely ones; None takes the true attributes."""


def scaled(values: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    """Return values scaled to 0 to 1; zeros if they are all equal."""
    spread = values.max() - values.min()
    return (values - values.min()) / spread if spread > 0 else np.zeros_like(values)


def combined(likelihood: Any, likeness: Any, distance: Any, weights: Weights) -> Float[np.ndarray, " k"]:
    """Return the score of every candidate: the weighted mean of the three quantities, each scaled to 0 to 1.

    >>> combined([.3, .2, .1], [.2, .6, .4], [.70, .72, .80], Weights()).round(4).tolist()
    [0.0909, 0.5909, 0.6818]
    """
    factors = (weights.likelihood, weights.likeness, weights.distance)
    parts = [scaled(np.asarray(values, dtype=np.float64)) for values in (likelihood, likeness, distance)]
    total = np.sum([factor * part for factor, part in zip(factors, parts, strict=True)], axis=0)
    return total / sum(map(abs, factors))


@dataclass(frozen=True, kw_only=True)
class Changed:
    """A caption after the change, with what was inserted."""

    text: str
    true: tuple[bool, ...] = ()
    """For every inserted word, whether it is an attribute of its thing."""


@dataclass(kw_only=True)
class Attack:
    """A model that chooses attributes for captions of images."""

    model: Embeds
    language: Bigram
    weights: Weights = Weights()

    def __call__(self, chosen: Sequence[Item]) -> list[Changed]:
        """Insert an attribute before every noun, from left to right; a noun without candidates is left alone."""
        images = self.model.image([item.image for item in chosen]).float()
        likeness = self.likeness()
        words = [list(item.words) for item in chosen]
        inserted: list[list[bool]] = [[] for _ in chosen]
        for turn in range(max(len(item.nouns) for item in chosen)):
            jobs = [
                (row, *sorted(item.nouns.items())[turn]) for row, item in enumerate(chosen) if turn < len(item.nouns)
            ]
            options = [self._candidates(words[row], place + len(inserted[row]), true) for row, place, true in jobs]
            distances = self._distances(words, jobs, options, inserted, images)
            for (row, noun, true), found, distance in zip(jobs, options, distances, strict=True):
                if not found:
                    continue
                place = noun + len(inserted[row])
                like = [max(likeness[word, other] for other in true or found) for word in found]
                likely = [self.language.between(word, words[row][place - 1], words[row][place]) for word in found]
                best = found[int(combined(likely, like, distance, self.weights).argmax())]
                words[row].insert(place, best)
                inserted[row].append(best in true)
        return [Changed(text=joined(each), true=tuple(flags)) for each, flags in zip(words, inserted, strict=True)]

    def likeness(self) -> dict[tuple[str, str], float]:
        """Return the cosine of the text vectors of every two attributes."""
        vectors = self.model.text(list(ATTRIBUTES)).float()
        values = (vectors @ vectors.T).tolist()
        return {(one, two): values[i][j] for i, one in enumerate(ATTRIBUTES) for j, two in enumerate(ATTRIBUTES)}

    def _candidates(self, words: Sequence[str], place: int, true: Sequence[str]) -> list[str]:
        if self.weights.candidates is None:
            return list(true)
        near = words[max(0, place - 3) : place + 1]
        allowed = [word for word in ATTRIBUTES if word not in near]
        allowed.sort(key=lambda word: -self.language.between(word, words[place - 1], words[place]))
        return allowed[: self.weights.candidates]

    def _distances(
        self,
        words: Sequence[Sequence[str]],
        jobs: Sequence[tuple[int, int, tuple[str, ...]]],
        options: Sequence[Sequence[str]],
        inserted: Sequence[Sequence[bool]],
        images: Float[Tensor, "n d"],
    ) -> list[list[float]]:
        """Return 1 − the cosine of the image and "This is " with the text, for every candidate of every job."""
        if not self.weights.distance:
            return [[0.0] * len(found) for found in options]
        texts, rows = [], []
        for (row, noun, _), found in zip(jobs, options, strict=True):
            place = noun + len(inserted[row])
            texts += [f"This is {joined([*words[row][:place], word, *words[row][place:]])}" for word in found]
            rows += [row] * len(found)
        if not texts:
            return [[] for _ in options]
        values = iter((1 - torch.linalg.vecdot(self.model.text(texts).float(), images[rows])).tolist())
        return [[next(values) for _ in found] for found in options]


def at_random(chosen: Sequence[Item], rng: random.Random, *, true: bool = False) -> list[Changed]:
    """Insert a random attribute before every noun: any, or with `true` one of its thing."""
    changed = []
    for item in chosen:
        words, flags = list(item.words), []
        for place, own in sorted(item.nouns.items()):
            options = own if true else ATTRIBUTES
            if options:
                word = rng.choice(options)
                words.insert(place + len(flags), word)
                flags.append(word in own)
        changed.append(Changed(text=joined(words), true=tuple(flags)))
    return changed


def delete(words: list[str], rng: random.Random) -> list[str]:
    """Return the words without a random one."""
    place = rng.randrange(len(words))
    return words[:place] + words[place + 1 :] if len(words) > 1 else words


def swap(words: list[str], rng: random.Random) -> list[str]:
    """Return the words with two different words exchanged at random; the same words if all are equal."""
    pairs = [(one, two) for one, two in combinations(range(len(words)), 2) if words[one] != words[two]]
    if not pairs:
        return words
    one, two = rng.choice(pairs)
    changed = list(words)
    changed[one], changed[two] = words[two], words[one]
    return changed


def synonym(words: list[str], rng: random.Random) -> list[str]:
    """Return the words with a random one replaced by a synonym, or as `swap` if there is none."""
    places = [place for place, word in enumerate(words) if word in SYNONYMS]
    if not places:
        return swap(words, rng)
    place = rng.choice(places)
    return [*words[:place], SYNONYMS[words[place]], *words[place + 1 :]]


TEXT_ONLY: dict[str, Callable[[list[str], random.Random], list[str]]] = {
    "delete": delete,
    "swap": swap,
    "synonym": synonym,
}
"""Changes that do not look at the image; Wei and Zou 2019, "EDA", arXiv:1901.11196."""
MOST_DRAWS = 100
"""Maximum number of draws of one change of `text_only`; after that the caption is kept."""


def text_only(chosen: Sequence[Item], name: str, rng: random.Random) -> list[Changed]:
    """Apply a function of `TEXT_ONLY` to each caption as many times as it has nouns. A change that undoes an earlier one is drawn again.

    Articles are not corrected, because that would add up to one edit per article.
    """
    changed = []
    for item in chosen:
        stages = [item.text.split()]
        for _ in item.nouns:
            drawn = (TEXT_ONLY[name](stages[-1], rng) for _ in range(MOST_DRAWS))
            stages.append(next((words for words in drawn if words not in stages), stages[-1]))
        changed.append(Changed(text=" ".join(stages[-1])))
    return changed


def reciprocal_ranks(model: Embeds, images: Float[Tensor, "n d"], texts: Sequence[str]) -> Float[np.ndarray, " n"]:
    """Return 1 / rank of the right image of every text; wrong images of equal similarity come first.

    Raises:
        PerceptError: the numbers of images and texts differ.
    """
    if len(images) != len(texts):
        raise PerceptError(f"got {len(texts)} texts for {len(images)} images. Give one text per image.")
    found = ranks(
        model.text(list(texts)).float() @ images.float().T, torch.eye(len(texts), dtype=torch.bool) | same(texts)
    )
    return 1.0 / (found.numpy() + 1.0)


def drop_of(name: str, before: Float[np.ndarray, " n"], after: Float[np.ndarray, " n"], *, seed: int = 0) -> Score:
    """Return the relative drop of a mean, with the texts resampled in pairs; less than 0 is a gain."""
    rng = np.random.default_rng(seed)
    picks = rng.integers(0, len(before), (1000, len(before)))
    draws = 1 - after[picks].mean(1) / before[picks].mean(1)
    low, high = np.quantile(draws, (0.025, 0.975))
    value = 1 - float(after.mean() / before.mean())
    return Score(name=name, value=value, n=len(before), low=float(low), high=float(high))


def truth(changed: Sequence[Changed], *, seed: int = 0) -> Score | None:
    """Return the share of inserted words that are true, with the captions resampled; None if nothing was inserted.

    n counts captions with inserted words. If all words are true, or none, the interval is Wilson's for n.
    """
    counts = np.array([(sum(each.true), len(each.true)) for each in changed if each.true], dtype=np.float64)
    if not len(counts):
        return None
    n, (true, inserted) = len(counts), counts.sum(0)
    value = float(true / inserted)
    if value in (0.0, 1.0):
        low, high = wilson(value * n, n)
    else:
        sums = counts[np.random.default_rng(seed).integers(0, n, (RESAMPLES, n))].sum(1)
        low, high = np.quantile(sums[:, 0] / sums[:, 1], (0.025, 0.975))
    return Score(name="inserted attributes that are true", value=value, n=n, low=float(low), high=float(high))
