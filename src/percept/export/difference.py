"""Differences between two sets of vectors, accumulated over batches."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

TINY = 1e-12
"""Lower bound of a length in a denominator."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Difference between two models at one stage."""

    stage: str
    """Place in the model."""
    max: float
    """Largest absolute difference of two elements."""
    mean: float
    """Mean absolute difference."""
    bias: float
    """Mean signed difference. Close to `mean` if one side is always larger, which indicates a bug and not rounding."""
    relative: float
    """Length of the difference divided by the length of the vector; the largest over all vectors."""
    cosine: float
    """Smallest cosine between corresponding vectors."""
    mean_cosine: float
    vectors: int
    """Tokens or embeddings compared."""

    def within(self, tolerance: float) -> bool:
        """True if every vector agrees; NaN never does."""
        return self.relative <= tolerance


class Gather:
    """Accumulates the differences between two models at one stage."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self.vectors = self.numbers = 0
        self.max = self.relative = self.total = self.signed = self.cosines = 0.0
        self.cosine = 1.0

    def add(self, left: Float[Tensor, "*b w"], right: Float[Tensor, "*b w"]) -> None:
        """Add vectors of both models. Every row is compared separately, so that a single wrong token is detected."""
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
        """Return the difference of all vectors added so far."""
        numbers, vectors = max(1, self.numbers), max(1, self.vectors)
        return Difference(
            stage=self.stage, max=self.max, mean=self.total / numbers, bias=self.signed / numbers,
            relative=self.relative, cosine=self.cosine, mean_cosine=self.cosines / vectors, vectors=self.vectors,
        )  # fmt: skip


def _largest(largest: float, value: Tensor) -> float:
    """Return the larger of two numbers; NaN counts as the largest."""
    return float(torch.maximum(torch.tensor(largest, dtype=torch.float64), value))
