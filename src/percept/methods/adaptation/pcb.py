"""PCB: choose which images to label so that every class gets equally many, by the predictions of the model itself.

Bang et al. 2023, arXiv:2311.11178. Reference: kaist-dmlab/pcb, trainers/alvlm.py and trainers/active_learning. An acquisition proposes
candidates; with their predicted classes and the counts n_c of labels so far, repeat

    c = argmin_c n_c,  take a random candidate predicted as c,  n_c ← n_c + 1;  without one, take any candidate

`balanced` is this choice and `active` the rounds around it. The model is CoOp with a context for each class, and optionally with
descriptions, such as "cup, which has a handle": embeddings: w_c = unit(mean_s w_cs); scores: p = softmax_c(mean_s s f · w_cs).

Differs from it: `skip_empty`, off by default, goes on to the next smallest class where the reference takes random candidates for the rest
of the round, because its argmin does not move. Data sets without sentences get written descriptions.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from percept.methods.adaptation.contract import Shots, Training
from percept.methods.adaptation.prompts import PHRASE, PromptConfig, Prompted
from percept.models.clip import unit

DESCRIPTIONS = (
    "{}, which is large",
    "{}, which is small",
    "{} with a colour",
    "{} in a room",
    "{} on the grass",
    "{} in a drawing",
)
"""Written descriptions of a class, for data sets without sentences of their own."""


def balanced(
    predicted: Int[np.ndarray, " n"], counts: Int[np.ndarray, " c"], budget: int, rng: random.Random, *, skip_empty: bool = False
) -> list[int]:  # fmt: skip
    """Return which candidates to label so that the classes become equally frequent.

    >>> sorted(balanced(np.array([0, 0, 0, 1, 2]), np.array([3, 1, 1]), 2, random.Random(0)))
    [3, 4]

    Args:
        predicted: class of each candidate by the model.
        counts: labels of each class so far.
        budget: number of candidates to choose, at most as many as there are.
        skip_empty: where no candidate of the smallest class is left, go on to the next smallest, in place of a random candidate.
    """
    left, known, chosen = list(range(len(predicted))), np.array(counts, dtype=np.int64), []
    for _ in range(min(budget, len(left))):
        remaining = {int(predicted[each]) for each in left}
        order = [c for c in np.argsort(known, kind="stable").tolist() if not skip_empty or c in remaining]
        own = [each for each in left if predicted[each] == order[0]]
        if own:
            known[order[0]] += 1
        chosen.append(rng.choice(own or left))
        left.remove(chosen[-1])
    return chosen


class Described(Prompted):
    """A context for each class, with several descriptions of it."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Sixteen random tokens for each class."""

        prompt: PromptConfig = field(default_factory=lambda: PromptConfig(per_class=True))
        """The learned tokens."""
        describe: Literal["nothing", "scores", "embeddings"] = "nothing"
        """What is averaged over the descriptions of a class: nothing: names only; scores: logits; embeddings: vectors."""
        descriptions: tuple[tuple[str, ...], ...] = ()
        """Of every class, equally many; set from the shots."""

        def __post_init__(self) -> None:
            object.__setattr__(self, "descriptions", tuple(tuple(own) for own in self.descriptions))

    def prepare(self, shots: Shots) -> None:
        """Read the descriptions: sentences of the data set, repeated to equally many for each class, or written ones."""
        if self.config.describe == "nothing":
            return
        most = max(map(len, shots.sentences)) if shots.sentences else 0
        own = tuple(tuple(some[place % len(some)] for place in range(most)) for some in shots.sentences)
        self.config = replace(self.config, descriptions=own or described(shots.names))
        self.on_classes()

    def on_classes(self) -> None:
        """Rebuild the layout of the prompts."""
        chosen = self.config
        if chosen.describe != "nothing" and not chosen.prompt.per_class:
            chosen = replace(chosen, descriptions=described(self.names))
        self.prompt.use(self.names, [text for own in chosen.descriptions for text in own])

    def class_vectors(self) -> Float[Tensor, "c d"]:
        """Return the vectors of the classes; shorter than 1 where scores are averaged."""
        mean = self.prompt.vectors(self.base.text).unflatten(0, (len(self.names), -1)).mean(dim=1)
        return mean if self.config.describe == "scores" else unit(mean)

    def neutral_twin(self) -> "Described":
        """Return the method with the words of the template as a shared context, without descriptions."""
        words = PromptConfig(context=len(self.base.tokenizer.encode(PHRASE)), phrase=PHRASE)
        return Described(self.Config(prompt=words), self.base, self.names)

    @classmethod
    def recipe(cls, shots: int) -> Training:
        """Return 200 epochs of SGD with rate 0.002 and batches of 32."""
        return Training(epochs=200)

    @classmethod
    def tiny_config(cls) -> Config:
        """Return a short context with descriptions."""
        return cls.Config(prompt=PromptConfig(context=4, per_class=True), describe="embeddings")


def described(names: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Return written descriptions of classes.

    >>> described(["cup"])[0][0]
    'cup, which is large'
    """
    return tuple(tuple(text.format(name) for text in DESCRIPTIONS) for name in names)
