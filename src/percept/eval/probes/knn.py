"""Classification by weighted nearest neighbours, as for DINO: votes exp(cosine / T) of the k nearest training samples.

Caron et al. 2021, arXiv:2104.14294. Differs from it: features are standardised per channel with the mean and deviation of the
training samples, because single channels of the residual stream are orders of magnitude larger than the others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from percept.eval.probes.linear import Standardise
from percept.eval.probes.outcome import Outcome, right
from percept.eval.probes.probe import Setup
from percept.eval.probes.stream import pooled
from percept.eval.zeroshot import hits

NEIGHBOURS, TEMPERATURE = 20, 0.07
PART = 1024
"""Samples that are compared with all training samples at once."""


def knn_votes(
    features: Float[Tensor, "n d"],
    bank: Float[Tensor, "m d"],
    labels: Int[Tensor, " m"],
    classes: int,
    *,
    k: int = NEIGHBOURS,
    temperature: float = TEMPERATURE,
) -> Float[Tensor, "n c"]:
    """Return the votes for each class.

    Args:
        features: samples to classify; need not be of unit length.
        bank: training samples.
        labels: their classes.
        classes: number of classes.
        k: neighbours that vote; all training samples if there are fewer.
        temperature: divides the cosines [T].
    """
    bank, k = F.normalize(bank, dim=1), min(k, len(bank))
    votes = []
    for part in F.normalize(features, dim=1).split(PART):
        cosines, nearest = (part @ bank.T).topk(k, dim=1)
        empty = part.new_zeros(len(part), classes)
        votes.append(empty.scatter_add_(1, labels[nearest], (cosines / temperature).exp()))
    return torch.cat(votes)


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedNeighbours:
    """Training samples with their classes."""

    standardise: Standardise
    bank: Float[Tensor, "m d"]
    labels: Int[Tensor, " m"]
    setup: Setup

    def judge(self, features: Sequence[Tensor], targets: Sequence[int]) -> Mapping[str, Outcome]:
        """Return whether the class with most votes is the true one; a tie is wrong."""
        stacked = self.standardise(torch.stack(list(features)).to(self.setup.device))
        votes = knn_votes(stacked, self.bank, self.labels, len(self.setup.classes))
        return {"kNN top-1": right(hits(votes.cpu(), torch.tensor(targets), 1).numpy())}

    def head(self, layer: int) -> None:
        """Return None: the classifier is its training samples."""


class Neighbours:
    """Top-1 accuracy of weighted nearest neighbours on the class token and the mean of the patches."""

    trains, whole = True, False

    def __init__(self, setup: Setup) -> None:
        self.setup = setup

    def reduce(self, tokens: Float[Tensor, "b n w"], prefix: int, grid: tuple[int, int]) -> Float[Tensor, "b d"]:
        """Return pooled features."""
        return pooled(tokens, prefix, grid)

    def thin(self, features: dict[int, Tensor], target: Any, rng: np.random.Generator) -> tuple[dict[int, Tensor], Any]:
        """Return the sample as it is."""
        return features, target

    def fit(self, features: Sequence[Tensor], targets: Sequence[int], *, seed: int) -> FittedNeighbours:
        """Remember the samples."""
        stacked = torch.stack(list(features)).to(self.setup.device)
        standardise = Standardise.of(stacked)
        labels = torch.tensor(targets, device=self.setup.device)
        return FittedNeighbours(standardise=standardise, bank=standardise(stacked), labels=labels, setup=self.setup)
