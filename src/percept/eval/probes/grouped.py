"""Outcomes of samples that belong together, such as the views of a room: whole groups are resampled."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from percept.eval.probes.outcome import Difference, Outcome, Sums, difference, score_of
from percept.eval.statistics import Better, Score, Unit, paired_interval, wilson


@dataclass(frozen=True, kw_only=True, eq=False)
class Grouped:
    """An outcome whose resamples draw groups in place of samples; an `Outcome` with one entry per group."""

    outcome: Outcome
    groups: Int[np.ndarray, " n"]
    """Number of each sample's group, from 0."""

    @property
    def unit(self) -> Unit:
        """Unit of the measure."""
        return self.outcome.unit

    @property
    def better(self) -> Better:
        """Whether more or less is better."""
        return self.outcome.better

    @property
    def resamples(self) -> int:
        """Number of bootstrap resamples."""
        return self.outcome.resamples

    def __len__(self) -> int:
        return int(self.groups.max()) + 1

    def values(self, weights: Float[np.ndarray, "r g"]) -> Float[np.ndarray, " r"]:
        """Return the measure for each row of weights of the groups."""
        return self.outcome.values(weights[:, self.groups])


def counted(outcome: Outcome) -> Bool[np.ndarray, " n"]:
    """Return which samples have anything to measure, as an image with words; the others change neither a measure nor its n."""
    return (outcome.sums != 0).max(axis=1) if isinstance(outcome, Sums) else np.ones(len(outcome), bool)


def _kept(
    outcome: Outcome, kept: Bool[np.ndarray, " n"], groups: Int[np.ndarray, " n"] | None
) -> tuple[Outcome, Int[np.ndarray, " k"] | None]:
    """Return the samples that are kept, and their groups, numbered from 0."""
    if kept.all() or not kept.any() or not isinstance(outcome, Sums):
        return outcome, groups
    some = None if groups is None else np.unique(groups[kept], return_inverse=True)[1]
    return replace(outcome, sums=outcome.sums[kept]), some


def grouped_score(outcome: Outcome, groups: Int[np.ndarray, " n"] | None, name: str, *, seed: int = 0) -> Score:
    """Return the measure with its interval as `score_of` does, but resample whole groups; n is the number of samples that are `counted`.

    Where all shares are 0, or all 1, a bootstrap has no width; the interval is then Wilson's for the number of groups.

    Args:
        outcome: at least one sample.
        groups: number of each sample's group, from 0; None if every sample stands alone.
        name: of the score.
        seed: of the bootstrap.

    Raises:
        PerceptError: as `score_of`.
    """
    outcome, groups = _kept(outcome, counted(outcome), groups)
    value = getattr(outcome, "library", None)
    if groups is None:
        return score_of(outcome, name, value=value, seed=seed)
    together = Grouped(outcome=outcome, groups=groups)
    score = replace(score_of(together, name, value=value, seed=seed), n=len(outcome))
    if score.low == score.high and score.unit == "share" and 0 <= score.value <= 1:
        low, high = wilson(score.value * len(together), len(together))
        return replace(score, low=low, high=high)
    return score


def grouped_difference(
    first: Outcome, second: Outcome, groups: Int[np.ndarray, " n"] | None, *, seed: int = 0
) -> Difference:
    """Return the paired difference as `difference` does, but resample whole groups.

    Where all shares differ alike, a bootstrap has no width; the interval is then `paired_interval` for the number of groups.

    Args:
        first: an outcome.
        second: what is subtracted, on the same samples.
        groups: number of each sample's group, from 0; None if every sample stands alone.
        seed: of the bootstrap.
    """
    kept, every = counted(first) | counted(second), groups
    (first, groups), (second, _) = _kept(first, kept, every), _kept(second, kept, every)
    if groups is None:
        return difference(first, second, seed=seed)
    one, other = Grouped(outcome=first, groups=groups), Grouped(outcome=second, groups=groups)
    found = difference(one, other, seed=seed)
    if found.low == found.high and first.unit == "share" and abs(found.value) <= 1:
        count = len(one)
        low, high = paired_interval(count * max(0.0, -found.value), count * max(0.0, found.value), count)
        return replace(found, low=low, high=high)
    return found
