"""Results of a probe, sample by sample: a measure, its 95 % interval, and the paired difference of two layers.

Every measure here is a function of sums over samples, so a bootstrap resample is a weight per sample.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Float

from percept.core.errors import PerceptError
from percept.eval.statistics import Better, Score, Unit, centred, paired_interval, share_interval, wilson

RESAMPLES = 1000
"""Resamples of a bootstrap interval."""
Measure: TypeAlias = Callable[[np.ndarray], np.ndarray]
"""Values [r] from sums [r, k]."""


@runtime_checkable
class Outcome(Protocol):
    """What is known about each sample after a probe was applied."""

    @property
    def unit(self) -> Unit:
        """Unit of the measure."""
        ...

    @property
    def better(self) -> Better:
        """Whether more or less is better."""
        ...

    def __len__(self) -> int:
        """Return the number of samples."""
        ...

    def values(self, weights: Float[np.ndarray, "r n"]) -> Float[np.ndarray, " r"]:
        """Return the measure for each row of weights of the samples."""
        ...

    @property
    def resamples(self) -> int:
        """Number of bootstrap resamples that this outcome can afford."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Sums:
    """An outcome whose measure is a function of sums over samples."""

    sums: Float[np.ndarray, "n k"]
    """Statistics of each sample."""
    measure: Measure
    unit: Unit = "share"
    better: Better = "more"

    def __len__(self) -> int:
        return len(self.sums)

    @property
    def resamples(self) -> int:
        """Number of bootstrap resamples."""
        return RESAMPLES

    @property
    def is_proportion(self) -> bool:
        """True if every sample is right or wrong."""
        return self.measure is ratio and self.sums.shape[1] == 2 and bool((self.sums[:, 1] == 1).all() and np.isin(self.sums[:, 0], (0, 1)).all())  # fmt: skip

    def values(self, weights: Float[np.ndarray, "r n"]) -> Float[np.ndarray, " r"]:
        """Return the measure for each row of weights of the samples."""
        return self.measure(weights @ self.sums)

    def joined(self, other: "Sums") -> "Sums":
        """Return an outcome with the samples of both."""
        return replace(self, sums=np.concatenate([self.sums, other.sums]))


def join(parts: Sequence["Sums"]) -> "Sums":
    """Return one outcome with the samples of all parts."""
    return reduce(Sums.joined, parts)


def ratio(sums: Float[np.ndarray, "r k"]) -> Float[np.ndarray, " r"]:
    """Return the first sum over the second; NaN where the second is 0."""
    return divided(sums[:, 0], sums[:, 1])


def mean_iou(sums: Float[np.ndarray, "r k"]) -> Float[np.ndarray, " r"]:
    """Return the mean over classes of intersection over union; classes in neither truth nor prediction do not count.

    Args:
        sums: intersections of all classes, then their unions, in pixels.
    """
    half = sums.shape[1] // 2
    return _mean_of_present(divided(sums[:, :half], sums[:, half:]))


def right(hits: np.ndarray) -> Sums:
    """Return the outcome of samples that are right or wrong."""
    hits = np.asarray(hits, np.float64)
    return Sums(sums=np.stack([hits, np.ones_like(hits)], axis=1), measure=ratio)


def score_of(outcome: Outcome, name: str, *, value: float | None = None, seed: int = 0) -> Score:
    """Return the measure of an outcome with its interval: Wilson's for proportions, else a bootstrap over samples, centred on the measure.

    Where the bootstrap of a share has no width, the width is Wilson's for as many equal answers as there are samples.

    Args:
        outcome: at least one sample.
        name: name of the score; no measure is negative, and a share of which more is better is at most 1.
        value: replaces the measure of all samples, where a library computed it.
        seed: of the bootstrap.

    Raises:
        PerceptError: there are no samples, or the measure is not defined for them.
    """
    n = len(outcome)
    measured = float(outcome.values(np.ones((1, n)))[0]) if n else float("nan")
    if not np.isfinite(measured):
        raise PerceptError(
            f"{name} cannot be computed: none of the {n} held-out samples has a label. Give more samples."
        )
    if isinstance(outcome, Sums) and outcome.is_proportion:
        low, high = wilson(int(outcome.sums[:, 0].sum()), n)
    else:
        draws = outcome.values(resample(n, outcome.resamples, seed))
        if outcome.unit == "share":
            most = 1.0 if outcome.better == "more" else float("inf")
            low, high = share_interval(draws, measured, n, most=most)
        else:
            low, high = centred(draws, measured)
            low = max(0.0, low)
    value = measured if value is None else value
    return Score(
        name=name, value=value, unit=outcome.unit, better=outcome.better, n=n, low=low, high=high
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Paired difference of two layers on the same samples."""

    value: float
    low: float
    """Lower end of the 95 % interval."""
    high: float
    """Upper end of the 95 % interval."""

    @property
    def is_clear(self) -> bool:
        """True if the interval does not contain 0."""
        return self.low > 0 or self.high < 0


def difference(first: Outcome, second: Outcome, *, seed: int = 0) -> Difference:
    """Return the measure of `first` minus that of `second`, with a bootstrap interval; both are resampled together.

    For right-or-wrong answers the interval is `paired_interval`, since a bootstrap is too narrow where few answers differ.
    """
    n, every = len(first), np.ones((1, len(first)))
    value = float(first.values(every)[0] - second.values(every)[0])
    if isinstance(first, Sums) and isinstance(second, Sums) and first.is_proportion and second.is_proportion:
        change = first.sums[:, 0] - second.sums[:, 0]
        low, high = paired_interval(int((change < 0).sum()), int((change > 0).sum()), n)
    else:
        weights = resample(n, min(first.resamples, second.resamples), seed)
        low, high = centred(first.values(weights) - second.values(weights), value)
    return Difference(value=value, low=low, high=high)


def resample(n: int, count: int, seed: int) -> Float[np.ndarray, "r n"]:
    """Return how often each of n samples is drawn in each of `count` bootstrap resamples."""
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=count).astype(np.float64)


def divided(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return the quotients of two arrays of one shape; NaN where `whole` is 0."""
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)


def _mean_of_present(values: Float[np.ndarray, "r c"]) -> Float[np.ndarray, " r"]:
    present = ~np.isnan(values)
    return divided(np.where(present, values, 0.0).sum(axis=1), present.sum(axis=1))
