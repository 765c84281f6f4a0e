"""k-means on vectors: trained on a sample, applied block by block."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from percept.core.errors import PerceptError

PER_CLUSTER = 256
"""Vectors of the sample per cluster."""
PLUS_PLUS = 1024
"""Most first centres that are chosen far from each other."""
BLOCK = 8192
"""Vectors that are compared with all centres at once."""


def train(vectors: Float[np.ndarray, "n d"], count: int, *, seed: int, steps: int = 20) -> Float[np.ndarray, "k d"]:
    """Return the centres of Lloyd's algorithm from first centres far apart; at most one per distinct vector.

    A cluster that becomes empty takes the vector that is farthest from its centre.

    Args:
        vectors: finite vectors.
        count: number of clusters [k].
        seed: seed of the sample and of the first centres.
        steps: rounds of assignment.
    """
    if not len(vectors):
        raise PerceptError("there are no vectors to cluster. Check that the images can be read.")
    rng = np.random.default_rng(seed)
    sample = vectors
    if len(sample) > PER_CLUSTER * count:
        sample = sample[np.sort(rng.choice(len(sample), PER_CLUSTER * count, replace=False))]
    centres = first_centres(np.unique(sample, axis=0).astype(np.float32), count, rng)
    for _ in range(steps):
        label, far = nearest(sample, centres)
        sums = np.zeros_like(centres, dtype=np.float64)
        np.add.at(sums, label, sample)
        sizes = np.bincount(label, minlength=len(centres))
        updated = (sums / np.maximum(sizes, 1)[:, None]).astype(np.float32)
        empty = np.flatnonzero(sizes == 0)
        updated[empty] = sample[np.argsort(-far, kind="stable")[: len(empty)]]
        if np.array_equal(updated, centres):
            break
        centres = updated
    return centres


def first_centres(vectors: Float[np.ndarray, "n d"], count: int, rng: np.random.Generator) -> Float[np.ndarray, "k d"]:
    """Choose first centres among distinct vectors, each far from the others (k-means++, Arthur and Vassilvitskii 2007).

    More than `PLUS_PLUS` centres are drawn at random, since choosing them one after the other takes too long.
    """
    if count >= len(vectors) or count > PLUS_PLUS:
        return vectors[np.sort(rng.permutation(len(vectors))[:count])]
    chosen = [int(rng.integers(len(vectors)))]
    squared = np.full(len(vectors), np.inf)
    while len(chosen) < count:
        squared = np.minimum(squared, np.square(vectors - vectors[chosen[-1]], dtype=np.float64).sum(axis=1))
        chosen.append(int(np.searchsorted(np.cumsum(squared), rng.random() * squared.sum(), side="right")))
    return vectors[np.minimum(chosen, len(vectors) - 1)]


def finite_rows(vectors: Float[np.ndarray, "n d"]) -> Bool[np.ndarray, " n"]:
    """True for each vector without NaN."""
    return np.asarray(np.isfinite(vectors).all(axis=1))


def nearest(
    vectors: Float[np.ndarray, "n d"], centres: Float[np.ndarray, "k d"]
) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Return the nearest centre of each vector, and its squared distance."""
    order, distance = ranked(vectors, centres, 1)
    return order[:, 0], distance[:, 0]


def assign(vectors: Float[np.ndarray, "n d"], centres: Float[np.ndarray, "k d"]) -> Int[np.ndarray, " n"]:
    """Return the nearest centre of each vector."""
    return nearest(vectors, centres)[0]


def ranked(
    vectors: Float[np.ndarray, "n d"], centres: Float[np.ndarray, "k d"], count: int
) -> tuple[Int[np.ndarray, "n c"], Float[np.ndarray, "n c"]]:
    """Return the `count` nearest centres of each vector, nearest first, and their squared distances."""
    targets = torch.from_numpy(np.ascontiguousarray(centres, dtype=np.float32))
    sizes = targets.square().sum(dim=1)
    found = []
    for start in range(0, len(vectors), BLOCK):
        block = torch.from_numpy(np.ascontiguousarray(vectors[start : start + BLOCK], dtype=np.float32))
        squared = sizes - 2 * block @ targets.T + block.square().sum(dim=1, keepdim=True)
        found.append(squared.topk(min(count, len(targets)), dim=1, largest=False))
    if not found:
        return np.zeros((0, count), dtype=np.int64), np.zeros((0, count), dtype=np.float32)
    return torch.cat([one.indices for one in found]).numpy(), torch.cat([one.values for one in found]).numpy()
