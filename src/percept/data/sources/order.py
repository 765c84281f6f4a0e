"""Random order without memory: a keyed permutation of row numbers, and the part of a mixture that each draw comes from."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt64

from percept.core.errors import PerceptError
from percept.core.seed import derive

ROUNDS = 10
"""Rounds of the Feistel network. Small sets need more than the four that suffice for large ones."""
BLOCKS = (20, 100, 1000, 10_000, 100_000)
"""Lengths of the blocks of draws within which the parts of a mixture have exact shares."""
TOLERANCE = 1e-3
"""Largest relative error of a share, except in the longest block."""

Numbers = Int[np.ndarray, " k"]


def permuted(positions: Numbers, count: int, *, seed: int) -> Numbers:
    """Return the rows at some positions of a random permutation of `count` rows, in memory independent of `count`.

    A Feistel network permutes pairs of numbers, of which there are a few more than rows; results that are not rows are permuted
    again until they are one (Black and Rogaway 2002, Ciphers with arbitrary finite domains, sections 3 and 4).

    >>> sorted(permuted(np.arange(5), 5, seed=0).tolist())
    [0, 1, 2, 3, 4]
    """
    keys, side = _keys(seed), math.isqrt(count - 1) + 1
    sides = np.uint64(side), np.uint64(-(-count // side))
    values = _network(positions.astype(np.uint64), sides, keys)
    while (outside := values >= count).any():
        values[outside] = _network(values[outside], sides, keys)
    return values.astype(np.int64)


@lru_cache(maxsize=64)
def _keys(seed: int) -> tuple[int, ...]:
    return tuple(derive(seed, "round", number) for number in range(ROUNDS))


def _network(
    values: UInt64[np.ndarray, " k"], sides: tuple[np.uint64, np.uint64], keys: Sequence[int]
) -> UInt64[np.ndarray, " k"]:
    """Permute numbers below sides[0] · sides[1], as pairs of which one changes in each round by a function of the other."""
    pair = [values % sides[0], values // sides[0]]
    for number, key in enumerate(keys):
        one, other = number % 2, 1 - number % 2
        pair[one] = (pair[one] + _hashed(pair[other], key) % sides[one]) % sides[one]
    return pair[0] + pair[1] * sides[0]


def _hashed(values: UInt64[np.ndarray, " k"], key: int) -> UInt64[np.ndarray, " k"]:
    """Return the finaliser of SplitMix64 (Steele et al. 2014) of each number with a key."""
    mixed = (values ^ np.uint64(key)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


class Drawn(NamedTuple):
    """Where draws come from, one entry per draw."""

    part: Numbers
    """Number of the part of the mixture."""
    row: Numbers
    """Number of the row within the part."""
    epoch: Numbers
    """How often all rows of the part have been drawn before."""


@dataclass(frozen=True, kw_only=True)
class Draws:
    """An endless random sequence of rows from one or several parts; any of its entries is computed without the others.

    Each part goes through all its rows in one random order, then in another. Which part a draw comes from is random too, but
    each block of consecutive draws holds exact shares of the parts.
    """

    counts: tuple[int, ...]
    """Rows of each part."""
    weights: tuple[float, ...]
    """Shares of draws, which need not sum to 1."""
    seed: int

    def __post_init__(self) -> None:
        if not self.counts or min(self.counts) < 1:
            raise PerceptError(
                f"every part of a mixture needs at least 1 row, got {self.counts}. Leave out empty parts."
            )
        if len(self.weights) != len(self.counts) or not all(0 < weight < np.inf for weight in self.weights):
            raise PerceptError(
                f"weights={self.weights} do not fit {len(self.counts)} sources. Give one finite number above 0 for each."
            )
        _quotas(self.weights)

    def at(self, numbers: Numbers) -> Drawn:
        """Return the rows of the draws with these numbers, from 0 on."""
        part, order = self._places(numbers)
        row, epoch = np.empty_like(order), order // np.array(self.counts)[part]
        for each, cycle in set(zip(part.tolist(), epoch.tolist(), strict=True)):
            chosen, count = (part == each) & (epoch == cycle), self.counts[each]
            row[chosen] = permuted(order[chosen] % count, count, seed=derive(self.seed, "order", each, cycle))
        return Drawn(part, row, epoch)

    def _places(self, numbers: Numbers) -> tuple[Numbers, Numbers]:
        """Return the part of each draw, and how many earlier draws come from that part."""
        if len(self.counts) == 1:
            return np.zeros_like(numbers), numbers
        quotas = _quotas(self.weights)
        blocks, places = np.divmod(numbers.astype(np.int64), sum(quotas))
        part, order = np.empty_like(places), np.empty_like(places)
        for block in set(blocks.tolist()):
            here = blocks == block
            parts, earlier = _block(quotas, self.seed, block)
            part[here], order[here] = parts[places[here]], earlier[places[here]]
        return part, order + blocks * np.array(quotas)[part]


@lru_cache(maxsize=64)
def _quotas(weights: tuple[float, ...]) -> tuple[int, ...]:
    """Return the draws from each part within a block, for the shortest block whose shares are close to the weights.

    >>> _quotas((0.7, 0.3)), sum(_quotas((1.0, 2.0)))
    ((14, 6), 1000)
    """
    shares = np.array(weights) / sum(weights)
    quotas = _rounded(shares, BLOCKS[-1])
    for length in BLOCKS:
        shorter = _rounded(shares, length)
        if (np.abs(shorter / length - shares) <= TOLERANCE * shares).all():
            quotas = shorter
            break
    if quotas.min() < 1:
        raise PerceptError(
            f"a share of {shares.min():.2g} is below 1 in {BLOCKS[-1]} samples, so its source would never be read. "
            "Raise its weight or leave it out."
        )
    return tuple(quotas.tolist())


def _rounded(shares: Float[np.ndarray, " p"], length: int) -> Int[np.ndarray, " p"]:
    """Return whole numbers in proportion to shares that sum to `length`, by largest remainders."""
    whole = np.floor(shares * length).astype(np.int64)
    missing = length - int(whole.sum())
    whole[np.argsort(whole - shares * length, kind="stable")[:missing]] += 1
    return whole


@lru_cache(maxsize=16)
def _block(quotas: tuple[int, ...], seed: int, block: int) -> tuple[Numbers, Numbers]:
    """Return the part of each draw of a block, and its number among the block's draws from that part."""
    length = sum(quotas)
    labels = np.repeat(np.arange(len(quotas)), quotas)
    labels = labels[permuted(np.arange(length), length, seed=derive(seed, "parts", block))]
    earlier = np.empty(length, np.int64)
    earlier[np.argsort(labels, kind="stable")] = np.concatenate([np.arange(quota) for quota in quotas])
    return labels, earlier
