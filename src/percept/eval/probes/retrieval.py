"""Retrieval between images and captions through one linear map from the features of a layer to the text vectors.

The map minimises the symmetric InfoNCE (Radford et al. 2021, arXiv:2103.00020) over fixed blocks of samples; the text tower is frozen.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from percept.eval.probes.linear import Standardise, minimise
from percept.eval.probes.outcome import Outcome, right
from percept.eval.probes.probe import Setup, held_out
from percept.eval.probes.stream import pooled
from percept.eval.retrieval import ranks, same
from percept.losses.contrastive import info_nce

DECAYS = (1e-1, 1e-2, 1e-3)
BLOCK, STEPS = 512, 40
"""Samples that are contrasted with each other, and iterations of L-BFGS for one weight decay."""
SCALE = 20.0
"""Multiplies the cosines."""


def fit_projection(
    features: Float[Tensor, "n d"], texts: Float[Tensor, "n e"], decay: float, *, start: Tensor | None = None
) -> Float[Tensor, "e d"]:
    """Return a linear map from standardised features to text vectors; it starts from ridge regression.

    Args:
        features: standardised, one row per image.
        texts: unit vectors of the captions.
        decay: weight decay.
        start: a map to start from, instead of ridge regression.
    """
    weight = _ridge(features, texts, decay) if start is None else start.clone()
    weight = weight.requires_grad_()

    def loss() -> Tensor:
        vectors = F.normalize(features @ weight.T, dim=1)
        blocks = zip(vectors.split(BLOCK), texts.split(BLOCK), strict=True)
        contrast = [info_nce(images, words, vectors.new_tensor(SCALE)) * len(images) for images, words in blocks]
        return torch.stack(contrast).sum() / len(features) + decay / 2 * weight.square().sum()

    minimise([weight], loss, STEPS)
    return weight.detach()


def _ridge(features: Float[Tensor, "n d"], texts: Float[Tensor, "n e"], decay: float) -> Float[Tensor, "e d"]:
    gram = features.T @ features / len(features)
    gram += max(decay, 1e-3) * torch.eye(len(gram), device=gram.device)
    return torch.linalg.solve(gram, features.T @ texts / len(features)).T.contiguous()


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedProjection:
    """A trained map."""

    standardise: Standardise
    weight: Float[Tensor, "e d"]

    def judge(self, features: Sequence[Tensor], targets: Sequence[tuple[Tensor, str]]) -> Mapping[str, Outcome]:
        """Return R@1 and R@5 among these samples; images with equal captions are right answers for each other."""
        device = self.weight.device
        vectors = F.normalize(self.standardise(torch.stack(list(features)).to(device)) @ self.weight.T, dim=1)
        texts = torch.stack([vector for vector, _ in targets]).to(device)
        equal = same([caption for _, caption in targets]).to(device)
        similarity = texts @ vectors.T
        places = {"caption→image": ranks(similarity, equal).cpu(), "image→caption": ranks(similarity.T, equal.T).cpu()}
        return {f"{way} R@{k}": right((place < k).numpy()) for k in (1, 5) for way, place in places.items()}

    def head(self, layer: int) -> None:
        """Return None: the map is of no use without the text tower."""


class Captions:
    """R@1 and R@5 through a linear map from the class token and the mean of the patches; targets are (text vector, caption)."""

    trains, whole = True, True

    def __init__(self, setup: Setup) -> None:
        self.setup = setup

    def reduce(self, tokens: Float[Tensor, "b n w"], prefix: int, grid: tuple[int, int]) -> Float[Tensor, "b d"]:
        """Return pooled features."""
        return pooled(tokens, prefix, grid)

    def thin(self, features: dict[int, Tensor], target: Any, rng: np.random.Generator) -> tuple[dict[int, Tensor], Any]:
        """Return the sample as it is."""
        return features, target

    def fit(self, features: Sequence[Tensor], targets: Sequence[tuple[Tensor, str]], *, seed: int) -> FittedProjection:
        """Train the map."""
        stacked = torch.stack(list(features)).to(self.setup.device)
        texts = torch.stack([vector for vector, _ in targets]).to(self.setup.device)
        standardise = Standardise.of(stacked)
        scaled = standardise(stacked)
        return FittedProjection(
            standardise=standardise, weight=fit_projection(scaled, texts, _decay(scaled, texts, seed))
        )


def _decay(scaled: Float[Tensor, "n d"], texts: Float[Tensor, "n e"], seed: int) -> float:
    """Return the weight decay with the least contrastive loss on a quarter of the samples."""
    train, rest = (torch.from_numpy(part) for part in held_out(len(scaled), seed))
    if len(rest) < 2:
        return DECAYS[0]
    losses, weight = [], None
    for decay in DECAYS:
        weight = fit_projection(scaled[train], texts[train], decay, start=weight)
        vectors = F.normalize(scaled[rest] @ weight.T, dim=1)
        losses.append(float(info_nce(vectors[:BLOCK], texts[rest][:BLOCK], vectors.new_tensor(SCALE))))
    return DECAYS[int(np.argmin(losses))]
