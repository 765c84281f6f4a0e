"""How far two sets of vectors are apart, gathered batch by batch."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

TINY = 1e-12
"""Shorter than any vector that means something."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A tensor of one model against that of another."""

    stage: str
    """Where in the model."""
    max: float
    """Largest difference of two numbers."""
    mean: float
    """Mean difference, signs dropped."""
    bias: float
    """Mean difference with signs; near `mean` where one side is always larger, the mark of a real mistake."""
    relative: float
    """Length of the difference over the length of the vector, of the vector where it is largest."""
    cosine: float
    """Smallest cosine between two vectors that should be equal."""
    mean_cosine: float
    vectors: int
    """Tokens or embeddings compared."""

    def within(self, tolerance: float) -> bool:
        """Tell whether every vector agrees; what is no number never does."""
        return self.relative <= tolerance


class Gather:
    """Adds up what two models gave at one stage."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self.vectors = self.numbers = 0
        self.max = self.relative = self.total = self.signed = self.cosines = 0.0
        self.cosine = 1.0

    def add(self, left: Float[Tensor, "*b w"], right: Float[Tensor, "*b w"]) -> None:
        """Take in vectors of both; every row counts by itself, so that one wrong token is not lost among many."""
        a, b = (side.detach().double().cpu().reshape(-1, side.shape[-1]) for side in (left, right))
        off = b - a
        lengths, apart = a.norm(dim=1), off.norm(dim=1)
        relative = torch.where(apart == 0, 0.0, apart / lengths.clamp(min=TINY))
        cosines = (a * b).sum(dim=1) / (lengths * b.norm(dim=1)).clamp(min=TINY)
        if len(a):
            self.max = _largest(self.max, off.abs().max())
            self.relative = _largest(self.relative, relative.max())
            self.cosine = -_largest(-self.cosine, -cosines.min())
        self.total += float(off.abs().sum())
        self.signed += float(off.sum())
        self.cosines += float(cosines.sum())
        self.vectors += len(a)
        self.numbers += a.numel()

    def result(self) -> Difference:
        """Return what was found so far."""
        numbers, vectors = max(1, self.numbers), max(1, self.vectors)
        return Difference(
            stage=self.stage, max=self.max, mean=self.total / numbers, bias=self.signed / numbers,
            relative=self.relative, cosine=self.cosine, mean_cosine=self.cosines / vectors, vectors=self.vectors,
        )  # fmt: skip


def _largest(one: float, other: Tensor) -> float:
    """Return the larger; what is no number counts as larger than all."""
    return float(torch.maximum(torch.tensor(one, dtype=torch.float64), other))
