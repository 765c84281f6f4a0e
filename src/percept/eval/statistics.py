"""Scores with their uncertainty: a number is never shown without n and a 95 % interval."""

from collections.abc import Sequence, Sized
from dataclasses import dataclass
from math import sqrt

import numpy as np

from percept.core.errors import PerceptError

Z = 1.959963984540054
"""Quantile of the normal distribution for a two-sided 95 % interval."""
RESAMPLES = 2000


@dataclass(frozen=True, kw_only=True)
class Score:
    """One measured number."""

    name: str
    value: float
    n: int
    """What it was measured on."""
    low: float
    """Lower end of the 95 % interval."""
    high: float
    """Upper end of the 95 % interval."""

    def __str__(self) -> str:
        return f"{self.name} {self.value:.1%} [{self.low:.1%}, {self.high:.1%}], n={self.n:,}"


def proportion(name: str, right: Sequence[bool] | np.ndarray) -> Score:
    """Return the share of `right` answers with Wilson's interval.

    Raises:
        PerceptError: there are no answers.
    """
    n = _size(name, right)
    hits = int(np.count_nonzero(right))
    low, high = wilson(hits, n)
    return Score(name=name, value=hits / n, n=n, low=low, high=high)


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Return Wilson's 95 % score interval of a proportion, which stays within 0 and 1.

    Wilson 1927, "Probable inference, the law of succession, and statistical inference".

    >>> [round(end, 4) for end in wilson(10, 10)]
    [0.7225, 1.0]
    """
    share, z2 = hits / n, Z * Z
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z / (1 + z2 / n) * sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    low = 0.0 if hits == 0 else max(0.0, middle - half)
    return low, 1.0 if hits == n else min(1.0, middle + half)


def mean(name: str, values: Sequence[float] | np.ndarray, *, seed: int = 0) -> Score:
    """Return the mean with a percentile bootstrap interval.

    Raises:
        PerceptError: there are no values.
    """
    n = _size(name, values)
    values = np.asarray(values, dtype=np.float64)
    rng = np.random.default_rng(seed)
    means = np.array([values[rng.integers(0, n, n)].mean() for _ in range(RESAMPLES)])
    low, high = np.quantile(means, (0.025, 0.975))
    return Score(name=name, value=float(values.mean()), n=n, low=float(low), high=float(high))


def mean_of_groups(name: str, groups: Sequence[np.ndarray], *, seed: int = 0) -> Score:
    """Return the mean of the groups' means, each group counting the same; every group is resampled within itself.

    Raises:
        PerceptError: there are no groups, or an empty one.
    """
    if not groups:
        raise PerceptError(f"{name}: nothing was measured")
    n = sum(_size(name, group) for group in groups)
    rng = np.random.default_rng(seed)
    draws = np.mean([resampled_means(group, rng) for group in groups], axis=0)
    low, high = np.quantile(draws, (0.025, 0.975))
    value = float(np.mean([np.mean(group) for group in groups]))
    return Score(name=name, value=value, n=n, low=float(low), high=float(high))


def drop(name: str, reference: np.ndarray, groups: Sequence[np.ndarray], *, seed: int = 0) -> Score:
    """Return how far the mean of the groups' means lies below the mean of `reference`; all are resampled.

    `reference` may be one of the groups: it is counted, and resampled, once.
    """
    others = mean_of_groups(name, groups, seed=seed)
    rng = np.random.default_rng(seed + 1)
    own = resampled_means(reference, rng)
    draws = own - np.mean([own if group is reference else resampled_means(group, rng) for group in groups], axis=0)
    low, high = np.quantile(draws, (0.025, 0.975))
    value = float(np.mean(reference)) - others.value
    n = others.n + (0 if any(group is reference for group in groups) else len(reference))
    return Score(name=name, value=value, n=n, low=float(low), high=float(high))


def resampled_means(right: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return bootstrap means of right-or-wrong answers: binomial draws, which is what resampling amounts to."""
    return rng.binomial(len(right), float(np.mean(right)), RESAMPLES) / len(right)


def _size(name: str, values: Sized) -> int:
    if not len(values):
        raise PerceptError(f"{name}: nothing was measured, there are no samples")
    return len(values)
