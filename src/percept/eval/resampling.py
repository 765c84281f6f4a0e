"""Bootstrap over groups of samples: the captions of one image are not independent, so they are drawn together."""

from collections.abc import Hashable, Iterator, Sequence

import numpy as np
from jaxtyping import Float, Int

from percept.eval.statistics import RESAMPLES, Score, Unit, proportion, wilson


def group_numbers(groups: Sequence[Hashable]) -> Int[np.ndarray, " n"]:
    """Return the number of each sample's group, counted from 0 in the order of first occurrence.

    >>> group_numbers(["a", "b", "a"]).tolist()
    [0, 1, 0]
    """
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(group, len(numbers)) for group in groups], dtype=np.int64)


def resampled_counts(groups: int, *, seed: int = 0) -> Iterator[Int[np.ndarray, " g"]]:
    """Yield how often each group was drawn in each of `RESAMPLES` bootstrap resamples."""
    rng = np.random.default_rng(seed)
    for _ in range(RESAMPLES):
        yield np.bincount(rng.integers(0, groups, groups), minlength=groups)


def resampled_means(
    values: Float[np.ndarray, " n"], groups: Int[np.ndarray, " n"] | None = None, *, seed: int = 0
) -> Float[np.ndarray, " r"]:
    """Return the means of resamples of whole groups; of single samples without `groups`."""
    numbers = np.arange(len(values)) if groups is None else groups
    sums, sizes = np.bincount(numbers, weights=values), np.bincount(numbers)
    return np.array([counts @ sums / (counts @ sizes) for counts in resampled_counts(len(sums), seed=seed)])


def share(name: str, right: np.ndarray, groups: Int[np.ndarray, " n"], *, seed: int = 0) -> Score:
    """Return the share of right answers: with the Wilson interval, or a bootstrap over groups where some have several samples.

    If all answers are right, or all wrong, a bootstrap would have no width; the interval is then Wilson's for the number of groups.
    """
    count = len(np.unique(groups))
    if count == len(groups):
        return proportion(name, right)
    if right.all() or not right.any():
        low, high = wilson(count if right.all() else 0, count)
        return Score(name=name, value=float(right[0]), n=len(right), low=low, high=high)
    low, high = np.quantile(resampled_means(right.astype(float), groups, seed=seed), (0.025, 0.975))
    return Score(name=name, value=float(np.mean(right)), n=len(right), low=float(low), high=float(high))


def mean_share(name: str, values: np.ndarray, groups: Int[np.ndarray, " n"], *, seed: int = 0) -> Score:
    """Return the mean of shares with a bootstrap interval over groups.

    Where the bootstrap has no width, as with one group, the interval is Wilson's for the number of groups.

    Args:
        name: of the score.
        values: shares from 0 to 1, at least one.
        groups: number of each value's group, from 0.
        seed: of the bootstrap.
    """
    low, high = np.quantile(resampled_means(values, groups, seed=seed), (0.025, 0.975))
    value, count = float(np.mean(values)), int(groups.max()) + 1
    if low == high:
        low, high = wilson(value * count, count)
    return Score(name=name, value=value, n=len(values), low=float(low), high=float(high))


def median(name: str, values: np.ndarray, groups: Int[np.ndarray, " n"], *, unit: Unit = "", seed: int = 0) -> Score:
    """Return the median with a bootstrap interval over groups, as a score of which less is better; of an even number of values, the mean of the two middle ones."""
    order = np.argsort(values, kind="stable")
    ordered, owners = values[order], groups[order]
    draws = [_median(ordered, counts[owners]) for counts in resampled_counts(int(groups.max()) + 1, seed=seed)]
    low, high = np.quantile(draws, (0.025, 0.975))
    value = _median(ordered, np.ones(len(ordered), np.int64))
    return Score(name=name, value=value, unit=unit, better="less", n=len(values), low=float(low), high=float(high))


def _median(ordered: np.ndarray, counts: Int[np.ndarray, " n"]) -> float:
    """Return the median of sorted values with weights."""
    last = np.cumsum(counts)
    lower, upper = (ordered[np.searchsorted(last, last[-1] / 2, side=side)] for side in ("left", "right"))
    return float(lower + upper) / 2
