"""How far a confidence can be trusted: calibration error, and how well it separates right answers from wrong ones.

The confidence of an answer is one number from 0 to 1 whose definition the caller chooses and states; every function here
takes the same two arrays, `confidence` [n] and `right` [n].
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from percept.core.errors import PerceptError
from percept.eval.statistics import RESAMPLES, Better, Score, share_interval

BINS = 15
"""Bins of equal width of the expected calibration error."""


def ece(confidence: Any, right: Any, *, bins: int = BINS) -> float:
    """Return the expected calibration error: the mean over samples of |accuracy − mean confidence| of their bin.

    The bins are those of `bin_numbers`. Guo et al. 2017, arXiv:1706.04599, equation 3.

    >>> round(ece([0.9, 0.9, 0.9, 0.9], [True, True, True, False]), 3)
    0.15
    """
    confidence, right = _checked(confidence, right)
    gap = np.bincount(bin_numbers(confidence, bins), weights=right - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(right))


def bin_numbers(confidence: Float[np.ndarray, " n"], bins: int = BINS) -> Int[np.ndarray, " n"]:
    """Return the bin of each confidence, from 0; the bins are of equal width and closed at their upper end, the first at both.

    >>> bin_numbers(np.array([0.0, 0.5, 0.6, 1.0]), 2).tolist()
    [0, 0, 1, 1]
    """
    return np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)


def auroc(confidence: Any, right: Any) -> float:
    """Return the chance that a right answer has more confidence than a wrong one; a tie counts half.

    NaN if all answers are right or all are wrong: there is nothing to separate.

    >>> auroc([0.9, 0.8, 0.3], [True, False, False])
    1.0
    """
    confidence, right = _checked(confidence, right)
    positives = int(right.sum())
    negatives = len(right) - positives
    if not positives or not negatives:
        return float("nan")
    _, inverse, counts = np.unique(confidence, return_inverse=True, return_counts=True)
    last = counts.cumsum()
    ranks = (last - (counts - 1) / 2)[inverse]
    return float((ranks[right].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def auarc(confidence: Any, right: Any) -> float:
    """Return the area under the accuracy–rejection curve: the mean accuracy of the k most confident answers, k from 1 to n.

    Answers of equal confidence count with the accuracy of their group, so their order does not matter. Nadeem et al. 2009,
    "Accuracy-rejection curves (ARCs) for comparing classification methods with a reject option".

    >>> auarc([0.9, 0.8], [True, False])
    0.75
    """
    confidence, right = _checked(confidence, right)
    _, inverse, counts = np.unique(-confidence, return_inverse=True, return_counts=True)
    accuracy = np.bincount(inverse, weights=right) / counts
    expected = accuracy[np.sort(inverse)]
    return float((expected.cumsum() / np.arange(1, len(right) + 1)).mean())


MEASURES: dict[str, tuple[Callable[[Any, Any], float], Better]] = {
    "ECE": (ece, "less"),
    "AUROC": (auroc, "more"),
    "AUARC": (auarc, "more"),
}


def calibration(confidence: Any, right: Any, *, name: str = "", seed: int = 0) -> list[Score]:
    """Return ECE, AUROC and AUARC with bootstrap intervals, centred on the value; AUROC is left out where it is not defined.

    Where a bootstrap has no width, for example if all answers are right, the width is Wilson's: of all answers, and for AUROC, a
    mean over pairs of a right and a wrong answer, of those there are fewer of.

    Raises:
        PerceptError: no answers, different lengths, or a confidence outside 0 to 1.
    """
    confidence, right = _checked(confidence, right)
    prefix = f"{name} " if name else ""
    rng = np.random.default_rng(seed)
    picks = [rng.integers(0, len(right), len(right)) for _ in range(RESAMPLES // 4)]
    scores = []
    for label, (measure, better) in MEASURES.items():
        value = measure(confidence, right)
        if np.isnan(value):
            continue
        units = min(int(right.sum()), int((~right).sum())) if measure is auroc else len(right)
        draws = np.array([measure(confidence[pick], right[pick]) for pick in picks])
        low, high = share_interval(draws, value, units)
        scores.append(Score(name=f"{prefix}{label}", value=value, better=better, n=len(right), low=low, high=high))
    return scores


def _checked(confidence: Any, right: Any) -> tuple[Float[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    confidence, right = np.asarray(confidence, dtype=np.float64), np.asarray(right, dtype=bool)
    if confidence.shape != right.shape or confidence.ndim != 1 or not len(confidence):
        raise PerceptError(
            f"got {confidence.shape} confidences for {right.shape} answers. Give one confidence per answer, and at least one."
        )
    if not ((confidence >= 0) & (confidence <= 1)).all():
        raise PerceptError(
            "a confidence lies outside 0 to 1. Give probabilities, for example the largest softmax value."
        )
    return confidence, right
