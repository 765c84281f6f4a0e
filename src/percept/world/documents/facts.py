"""Facts of documents that a split allows, and the questions that rely on them."""

import random
from collections.abc import Callable, Sequence
from typing import TypeVar

from percept.data.chat.regions import box_text
from percept.world.documents.paper import Fact, Paper
from percept.world.qa.pair import Pair
from percept.world.splits import held_out

Drawn = TypeVar("Drawn")
_READ_AT = ("What does the text at {} say?", "Read the text in the region {}.")
_WHERE = ("Where is “{}” written? Answer with a box.", "Locate the text “{}”.")
_READ_ALL = ("Read all the text.", "Transcribe the document.", "What is written here?")


_TRIES = 50
"""Samples drawn in search of a held-out fact."""


class Facts:
    """Draws the facts of one document, as its split demands.

    Outside the evaluation split no fact is held out. In the evaluation split the first one is, if there is such a fact; as long
    as none has been found, `missing` is True.
    """

    def __init__(self, rng: random.Random, split: str) -> None:
        """Draw with random numbers `rng` for a split."""
        self.rng, self.split = rng, split
        self.missing = split == "evaluation"

    def draw(self, sample: Callable[[], Drawn], fact: Callable[[Drawn], Fact]) -> Drawn:
        """Return a sample whose fact the split allows."""
        drawn = sample()
        for _ in range(_TRIES):
            if not self.missing or held_out(*fact(drawn)):
                break
            drawn = sample()
        while not self.allows(fact(drawn)):
            drawn = sample()
        self.missing = self.missing and not held_out(*fact(drawn))
        return drawn

    def allows(self, fact: Fact) -> bool:
        """True if the split may contain a fact."""
        return self.split == "evaluation" or not held_out(*fact)


def is_reserved(paper: Paper, index: int) -> bool:
    """True if a text is part of a fact that is held out for evaluation."""
    fact = paper.texts[index].fact
    return fact is not None and held_out(*fact)


def suited(paper: Paper, pairs: Sequence[Pair], split: str) -> tuple[Pair, ...]:
    """Return the pairs that a split allows: in evaluation those with a held-out fact among their texts."""
    if split != "evaluation":
        return tuple(pairs)
    return tuple(pair for pair in pairs if any(is_reserved(paper, index) for _, index in pair.things))


def reading_pairs(paper: Paper, rng: random.Random, split: str) -> list[Pair]:
    """Return pairs about the text itself: the text in a box, the box of a text, and all of it."""
    words = [text.text for text in paper.texts]
    single = [
        index
        for index, text in enumerate(words)
        if words.count(text) == 1 and (split != "evaluation" or is_reserved(paper, index))
    ]
    everything = tuple((0, index) for index in range(len(words)))
    rows: dict[int, list[str]] = {}
    for text in paper.texts:
        rows.setdefault(text.paragraph, []).append(text.text)
    whole = "\n".join(" ".join(row) for row in rows.values())
    pairs = [Pair(kind="reading", question=rng.choice(_READ_ALL), answer=whole, things=everything)]
    if single:
        index = rng.choice(single)
        box = paper.texts[index].box
        asked = rng.choice(_READ_AT).format(box_text(box))
        pairs.append(Pair(kind="region", question=asked, answer=words[index], boxes=(box,), things=((0, index),)))
        asked = rng.choice(_WHERE).format(words[index])
        pairs.append(Pair(kind="referring", question=asked, answer=box_text(box), boxes=(box,), things=((0, index),)))
    return pairs
