"""Few-shot classification on frozen unit vectors: logistic regression that starts from the zero-shot classifier.

logits = a · scale · (vector · texts) + weight · standardised vector + bias, with decay / 2 · |weight|². The first term is the zero-shot
classifier; the second is what the images add to it, so a strong decay keeps the zero-shot classifier (as the prior of CLAP, Silva-Rodriguez
et al. 2024, arXiv:2312.12730, and of Tip-Adapter's residual, arXiv:2111.03930) and a = 0 is a plain linear probe. The share a and the
decay have the least cross-entropy in a cross-validation within the training images.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from percept.eval.probes.linear import Standardise, logistic

SHARES = (1.0, 0.5, 0.25, 0.0)
"""Shares of the zero-shot classifier that are tried [a]."""
DECAYS = (0.3, 0.1, 0.03, 0.01)
"""Weight decays that are tried, strongest first: each starts from the weights of the one before."""
FOLDS = 3
STEPS = 15
"""Most iterations of L-BFGS for one decay while share and decay are chosen."""
LARGE = 2000
"""Training images from which one part is held out once, in place of a cross-validation."""
ALWAYS = -1
"""Fold of images that are never held out."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Prior:
    """The zero-shot classifier."""

    texts: Float[Tensor, "c d"]
    """One unit vector per class."""
    scale: float
    """Multiplies cosines."""

    def logits(self, vectors: Float[Tensor, "n d"]) -> Float[Tensor, "n c"]:
        """Return scaled cosines."""
        return self.scale * vectors @ self.texts.T


@dataclass(frozen=True, kw_only=True, eq=False)
class LinearHead:
    """A linear layer on unit vectors."""

    weight: Float[Tensor, "c d"]
    bias: Float[Tensor, " c"]
    share: float
    """Of the zero-shot classifier [a]."""
    decay: float

    def __call__(self, vectors: Float[Tensor, "n d"]) -> Float[Tensor, "n c"]:
        """Return class logits."""
        return F.linear(vectors, self.weight, self.bias)


def folds_of(
    labels: Int[np.ndarray, " n"], groups: Int[np.ndarray, " n"], count: int, seed: int
) -> Int[np.ndarray, " n"]:
    """Return a fold for each image: classes are divided evenly, and images of one group share a fold.

    Images of a class with a single group get the fold `ALWAYS`: it could not be learned where they are held out.
    """
    names, first, inverse, members = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    owners = labels[first]
    single = np.bincount(owners) < 2
    filled, sizes = np.zeros((int(labels.max()) + 1, count), dtype=np.int64), np.zeros(count, dtype=np.int64)
    chosen = np.full(len(names), ALWAYS)
    for group in np.random.default_rng(seed).permutation(len(names)):
        owner = owners[group]
        if not single[owner]:
            fold = chosen[group] = np.lexsort((sizes, filled[owner]))[0]
            filled[owner, fold] += members[group]
            sizes[fold] += members[group]
    return chosen[inverse]


def splits(folds: Int[np.ndarray, " n"], large: bool) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield which images are trained on and which are held out: each fold once, or only the first of a large set."""
    for fold in sorted(set(folds[folds != ALWAYS].tolist()))[: 1 if large else None]:
        held = torch.from_numpy(folds == fold)
        yield ~held, held


def fit(
    vectors: Float[Tensor, "n d"],
    labels: Int[Tensor, " n"],
    prior: Prior | None,
    classes: int,
    *,
    groups: Int[np.ndarray, " n"],
    seed: int = 0,
) -> LinearHead:
    """Return the head; see the top of this file.

    Args:
        vectors: of unit length.
        labels: classes.
        prior: the zero-shot classifier; None for a model without texts.
        classes: number of classes.
        groups: images of one group are not divided by the cross-validation.
        seed: of the division.
    """
    inner, *_ = _inside(vectors)
    parts = list(splits(folds_of(labels.numpy(), groups, FOLDS, seed), len(vectors) > LARGE))
    offset = _offset(vectors, prior, classes)
    share, decay = _best(inner, labels, offset, classes, parts, SHARES if prior is not None else (0.0,))
    return fit_with(vectors, labels, prior, classes, share=share, decay=decay)


def fit_with(
    vectors: Float[Tensor, "n d"], labels: Int[Tensor, " n"], prior: Prior | None, classes: int, *, share: float, decay: float
) -> LinearHead:  # fmt: skip
    """Return the head for a given share of the zero-shot classifier and weight decay."""
    inner, standardise, basis = _inside(vectors)
    weight, bias = logistic(inner, labels, classes, decay, offset=share * _offset(vectors, prior, classes))
    weight = (weight if basis is None else weight @ basis.T) / standardise.deviation
    bias = bias - weight @ standardise.mean
    if prior is not None:
        weight = weight + share * prior.scale * prior.texts
    return LinearHead(weight=weight, bias=bias, share=share, decay=decay)


def _offset(vectors: Tensor, prior: Prior | None, classes: int) -> Tensor:
    return torch.zeros(len(vectors), classes) if prior is None else prior.logits(vectors)


def _inside(vectors: Tensor) -> tuple[Tensor, Standardise, Tensor | None]:
    """Return standardised vectors within their span, where the weights lie too: the same result, but faster."""
    standardise = Standardise.of(vectors)
    scaled = standardise(vectors)
    basis = torch.linalg.qr(scaled.T).Q if len(vectors) < vectors.shape[1] else None
    return scaled if basis is None else scaled @ basis, standardise, basis


def _best(
    features: Tensor, labels: Tensor, offset: Tensor, classes: int, parts: Sequence[tuple[Tensor, Tensor]], shares: Sequence[float]
) -> tuple[float, float]:  # fmt: skip
    """Return the share and the decay with the least cross-entropy on held-out images."""
    best, least = (shares[0], DECAYS[0]), float("inf")
    for share in shares:
        decay, loss = _best_decay(features, labels, share * offset, classes, parts)
        if loss < least:
            best, least = (share, decay), loss
    return best


def _best_decay(
    features: Tensor, labels: Tensor, offset: Tensor, classes: int, parts: Sequence[tuple[Tensor, Tensor]]
) -> tuple[float, float]:
    """Return the decay with the least held-out cross-entropy, and that; the search ends when a weaker decay is worse."""
    best, least = DECAYS[0], float("inf")
    starts: list[tuple[Tensor, Tensor] | None] = [None] * len(parts)
    for decay in DECAYS:
        loss = 0.0
        for number, (train, held) in enumerate(parts):
            weights = logistic(
                features[train], labels[train], classes, decay, start=starts[number], offset=offset[train], steps=STEPS
            )
            starts[number] = weights
            logits = F.linear(features[held], *weights) + offset[held]
            loss += float(F.cross_entropy(logits, labels[held], reduction="sum"))
        if loss >= least:
            break
        best, least = decay, loss
    return best, least


def temperature_of(logits: Float[Tensor, "n c"], labels: Int[Tensor, " n"]) -> float:
    """Return what divides the logits so that their softmax has the least cross-entropy.

    Guo et al. 2017, arXiv:1706.04599; with the targets of Platt 1999, so that a few images that are all right do not give certainty.
    """
    candidates, smoothing = torch.logspace(-1, 1.5, 126).tolist(), 1 / (len(labels) + 2)
    losses = [float(F.cross_entropy(logits.double() / each, labels, label_smoothing=smoothing)) for each in candidates]
    return round(candidates[int(np.argmin(losses))], 4)
