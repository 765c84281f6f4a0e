"""Several sentences about each class: written ones for data sets without any, and their frozen vectors."""

from collections.abc import Sequence
from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from percept.core.errors import PerceptError
from percept.methods.adaptation.contract import Shots
from percept.methods.adaptation.texts import Base, text_vectors
from percept.models.clip import unit

PATTERNS = (
    "a {}.", "one {}.", "there is a {}.", "a photo of a {}.", "a picture of a {}.", "a drawing of a {}.", "an image with a {}.", "a large {}.",
    "a small {}.", "a photo of a large {}.", "a picture of a small {}.", "a red {}.", "a blue {} in a room.", "a drawing of a green {}.",
    "a yellow {} on the grass.", "a photo of a {} by the sea.", "a picture of a {} on a desk.", "there is a {} in the snow.",
    "a {} in the city.", "a grey {} on the sand.", "an image of a {} indoors.", "a photo of a striped {}.", "a dotted {}.",
    "a drawing of a shaded {}.",
)  # fmt: skip
"""What a picture of a class may show, for data sets without sentences of their own."""


class SentenceBank:
    """Frozen vectors of the sentences about each class, computed when first asked for."""

    def __init__(self, base: Base, sentences: Sequence[Sequence[str]]) -> None:
        """Remember the sentences of every class.

        Raises:
            PerceptError: a class has no sentence.
        """
        if not all(sentences):
            number = [bool(own) for own in sentences].index(False)
            raise PerceptError(f"class number {number} has no sentence. Give every class at least one.")
        self.base, self.sentences, self.most = base, sentences, max(map(len, sentences))

    @cached_property
    @torch.no_grad()
    def vectors(self) -> Float[Tensor, "c s d"]:
        """Unit vectors; a class with fewer sentences repeats its own."""
        rows = [[own[place % len(own)] for place in range(self.most)] for own in self.sentences]
        return text_vectors(self.base, [text for row in rows for text in row]).unflatten(0, (len(rows), -1))

    @cached_property
    def present(self) -> Bool[Tensor, "c s"]:
        """False for a repeated sentence."""
        rows = [[place < len(own) for place in range(self.most)] for own in self.sentences]
        return torch.tensor(rows, device=self.vectors.device)

    def mean(self, kept: Bool[Tensor, " s"] | None = None) -> Float[Tensor, "c d"]:
        """Return the unit mean of the sentences of every class, of some places only if `kept` is given.

        A class whose sentences are all at other places gets the mean of those that it repeats.
        """
        chosen = torch.ones_like(self.present) if kept is None else kept.expand_as(self.present)
        own = self.present & chosen
        weight = torch.where(own.any(dim=1, keepdim=True), own, chosen).float()
        return unit(torch.einsum("cs,csd->cd", weight, self.vectors))


def sentences_of(shots: Shots) -> tuple[tuple[str, ...], ...]:
    """Return the sentences of the data set, or written ones if it has none."""
    return shots.sentences or tuple(tuple(pattern.format(name) for pattern in PATTERNS) for name in shots.names)
