"""Scores with their unit and uncertainty: a number is never shown without n and a 95 % interval."""

from collections.abc import Sequence, Sized
from dataclasses import dataclass, replace
from math import exp, lgamma, log, sqrt
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int

from percept.core.errors import PerceptError

Z = 1.959963984540054
"""Quantile of the normal distribution for a two-sided 95 % interval."""
RESAMPLES = 2000
"""Resamples of a bootstrap interval."""

Unit: TypeAlias = Literal["share", "points", "px", "m", "/s", "MB", ""]
Better: TypeAlias = Literal["more", "less"]


@dataclass(frozen=True, kw_only=True)
class Score:
    """One measured number."""

    name: str
    value: float
    """In `unit`; a share is stored from 0 to 1, and points, a difference of shares, from -1 to 1."""
    unit: Unit = "share"
    """share: printed in percent; points: printed in percentage points; px: pixels; m: metres; /s: per second; MB: 10⁶ bytes; "" for a number without a unit."""
    better: Better = "more"
    """Whether more or less is better."""
    n: int
    """Number of samples."""
    low: float
    """Lower end of the 95 % interval."""
    high: float
    """Upper end of the 95 % interval."""

    def __str__(self) -> str:
        return f"{self.name} {self.shown} [{self.interval}], n={self.n:,}"

    @property
    def shown(self) -> str:
        """The value with its unit, as printed.

        >>> Score(name="depth error", value=0.1234, unit="m", better="less", n=9, low=0.1, high=0.2).shown
        '0.123 m'
        """
        return with_unit(self.value, self.unit)

    @property
    def interval(self) -> str:
        """The 95 % interval, as printed; in the unit of `shown`."""
        return " – ".join(without_unit(end, self.unit) for end in (self.low, self.high))

    def reaches(self, target: float) -> bool:
        """True if the value is at least the target, or at most where less is better."""
        return self.value <= target if self.better == "less" else self.value >= target

    def target(self, value: float) -> str:
        """Return a target for this score as printed.

        >>> Score(name="top-1", value=0.9, n=9, low=0.8, high=1.0).target(0.75)
        '≥ 75 %'
        """
        shown = {"share": f"{100 * value:.0f} %", "points": f"{100 * value:.0f} points"}.get(self.unit)
        shown = shown or with_unit(value, self.unit)
        return f"{'≤' if self.better == 'less' else '≥'} {shown}"


def without_unit(value: float, unit: Unit) -> str:
    """Return a number as printed before its unit.

    >>> without_unit(0.914, "share"), without_unit(2.25, "px"), without_unit(0.1234, "m"), without_unit(1234.5, "/s")
    ('91.4', '2.2', '0.123', '1,234')
    """
    if unit in ("/s", "MB"):
        return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return {"share": f"{100 * value:.1f}", "points": f"{100 * value:.1f}", "px": f"{value:.1f}"}.get(
        unit, f"{value:.3f}"
    )


def with_unit(value: float, unit: Unit) -> str:
    """Return a number with its unit.

    >>> with_unit(0.914, "share"), with_unit(0.021, "points"), with_unit(2.25, "px"), with_unit(3.0, "")
    ('91.4 %', '2.1 points', '2.2 px', '3.000')
    """
    return f"{without_unit(value, unit)} {'%' if unit == 'share' else unit}".rstrip()


def proportion(name: str, right: Sequence[bool] | np.ndarray) -> Score:
    """Return the share of `right` answers with the Wilson interval.

    Raises:
        PerceptError: there are no answers.
    """
    n = _size(name, right)
    hits = int(np.count_nonzero(right))
    low, high = wilson(hits, n)
    return Score(name=name, value=hits / n, n=n, low=low, high=high)


def wilson(hits: int | float, n: int | float) -> tuple[float, float]:
    """Return the Wilson 95 % score interval of a proportion; it stays within 0 and 1.

    Wilson 1927, "Probable inference, the law of succession, and statistical inference".

    >>> [round(end, 4) for end in wilson(10, 10)]
    [0.7225, 1.0]
    """
    share, z2 = hits / n, Z * Z
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z / (1 + z2 / n) * sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    low = 0.0 if hits == 0 else max(0.0, middle - half)
    return low, 1.0 if hits == n else min(1.0, middle + half)


def centred(draws: Float[np.ndarray, " r"], value: float) -> tuple[float, float]:
    """Return the central 95 % of bootstrap values, moved so that their mean is `value`; draws that are NaN are left out.

    The move removes the bias of a bootstrap: a mean over classes is larger in resamples, from which rare classes, which are learned
    worst, may be absent; and a calibration error is larger because a resample has fewer different answers.
    """
    low, high = np.nanquantile(draws, (0.025, 0.975)) - np.nanmean(draws) + value
    return float(low), float(high)


def share_interval(
    draws: Float[np.ndarray, " r"], value: float, units: int, *, most: float = 1.0
) -> tuple[float, float]:
    """Return the interval `centred`, within 0 and `most`; where it has no width, Wilson's width for as many equal answers as `units`.

    >>> [round(end, 3) for end in share_interval(np.full(9, 0.1), 0.1, 10)]
    [0.0, 0.378]
    """
    low, high = centred(draws, value)
    if high - low < 1e-9:
        width = 1 - wilson(units, units)[0]
        low, high = value - width, value + width
    return max(0.0, low), min(most, high)


def paired_interval(only_first: float | int, only_second: float | int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of the second share of right answers minus the first, of n questions that both answered.

    Agresti and Min 2005, "Simple improved confidence intervals for comparing matched proportions": half an answer is added to each of
    the four pairs of outcomes. Unlike a bootstrap, it has a width where all answers changed alike.

    >>> [round(end, 3) for end in paired_interval(0, 0, 2)]
    [-0.49, 0.49]

    Args:
        only_first: questions that only the first has right.
        only_second: questions that only the second has right.
        n: all questions.
    """
    middle, changes = (only_second - only_first) / (n + 2), only_first + only_second + 1
    half = Z * sqrt(changes / (n + 2) - middle * middle) / sqrt(n + 2)
    return max(-1.0, middle - half), min(1.0, middle + half)


def mcnemar(only_a: int, only_b: int) -> float:
    """Return the two-sided p-value of McNemar's exact test from the numbers of samples that one run alone has right.

    McNemar 1947; the exact form is a binomial test with probability 1/2.

    >>> mcnemar(1, 9), mcnemar(0, 0)
    (0.021484375, 1.0)
    """
    n, least = only_a + only_b, min(only_a, only_b)
    if 2 * least >= n - 1:
        return 1.0
    tail = sum(exp(lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) - n * log(2)) for k in range(least + 1))
    return min(1.0, round(2 * tail, 12))


def mean_share(name: str, values: Sequence[float] | np.ndarray, *, seed: int = 0) -> Score:
    """Return the mean of one share per sample, as `mean` does; if all are 0 or all are 1, with the Wilson interval.

    >>> print(mean_share("average precision per image", [1.0, 1.0]))
    average precision per image 100.0 % [34.2 – 100.0], n=2

    Raises:
        PerceptError: there are no values.
    """
    score = mean(name, values, seed=seed)
    if score.value not in (0.0, 1.0):
        return score
    low, high = wilson(score.value * score.n, score.n)
    return replace(score, low=low, high=high)


def mean(
    name: str,
    values: Sequence[float] | np.ndarray,
    *,
    unit: Unit = "share",
    better: Better = "more",
    seed: int = 0,
) -> Score:
    """Return the mean with a percentile bootstrap interval.

    >>> print(mean("depth error", [0.2, 0.2], unit="m", better="less"))
    depth error 0.200 m [0.200 – 0.200], n=2

    Raises:
        PerceptError: there are no values.
    """
    n = _size(name, values)
    values = np.asarray(values, dtype=np.float64)
    rng = np.random.default_rng(seed)
    means = np.array([values[rng.integers(0, n, n)].mean() for _ in range(RESAMPLES)])
    low, high = np.quantile(means, (0.025, 0.975))
    value = float(values.mean())
    return Score(name=name, value=value, unit=unit, better=better, n=n, low=float(low), high=float(high))


def mean_of_groups(name: str, groups: Sequence[np.ndarray]) -> Score:
    """Return the mean of the groups' shares of right answers, each group with equal weight.

    The interval is Wilson's for as many answers as have the variance of this mean, n = p (1 − p) / Σᵢ pᵢ (1 − pᵢ) / (nᵢ g²). The shares pᵢ
    in it, and their mean p, are those with one right and one wrong answer more per group, because a group of few answers often
    has them all alike. For one group it is Wilson's interval of its answers.

    Args:
        name: of the score.
        groups: right-or-wrong answers of each of g groups.

    Raises:
        PerceptError: there are no groups, or an empty one.
    """
    if not groups:
        raise PerceptError(f"{name}: there are no groups of samples; give at least one")
    sizes = np.array([_size(name, group) for group in groups])
    hits = np.array([np.count_nonzero(group) for group in groups])
    value, smoothed = float((hits / sizes).mean()), (hits + 1) / (sizes + 2)
    variance = float((smoothed * (1 - smoothed) / sizes).sum()) / len(groups) ** 2
    size = float(smoothed.mean() * (1 - smoothed.mean())) / variance
    low, high = wilson(value * size, size)
    return Score(name=name, value=value, n=int(sizes.sum()), low=low, high=high)


def mean_per_class(name: str, right: Bool[np.ndarray, " n"], labels: Int[np.ndarray, " n"]) -> Score:
    """Return the mean over classes of the share of right answers; n is the number of answers, and classes without any are left out.

    >>> print(mean_per_class("mean per class", np.array([True, False, True]), np.array([0, 0, 7])))
    mean per class 75.0 % [24.6 – 96.5], n=3

    Raises:
        PerceptError: there are no answers.
    """
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[order])) + 1
    return mean_of_groups(name, np.split(right[order], starts))


def drop(name: str, reference: np.ndarray, groups: Sequence[np.ndarray]) -> Score:
    """Return how far the mean of the groups' shares of right answers lies below that of `reference`, in points; less is better.

    `reference` may be one of the g groups, and is then counted once: the drop is (g − 1) / g times that of the other groups. The
    interval is that of a difference of independent shares (Newcombe 1998, "Interval estimation for the difference between independent
    proportions", method 10).
    """
    others = [group for group in groups if group is not reference]
    part = len(others) / len(groups)
    if not others:
        return Score(name=name, value=0.0, unit="points", better="less", n=_size(name, reference), low=0.0, high=0.0)
    first, second = proportion(name, reference), mean_of_groups(name, others)
    value = first.value - second.value
    below = sqrt((first.value - first.low) ** 2 + (second.high - second.value) ** 2)
    above = sqrt((first.high - first.value) ** 2 + (second.value - second.low) ** 2)
    low, high = part * (value - below), part * (value + above)
    return Score(name=name, value=part * value, unit="points", better="less", n=first.n + second.n, low=low, high=high)


def _size(name: str, values: Sized) -> int:
    if not len(values):
        raise PerceptError(f"{name}: there are no samples; give at least one")
    return len(values)
