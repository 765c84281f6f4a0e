"""Sets of answers with a guaranteed coverage: split conformal prediction (LAC, APS) on class probabilities.

A calibration set fixes a threshold q; the set of an item then holds its true class with probability of at least 1 − α over
the draw of both, if they come from one distribution. Under a shift nothing is guaranteed, so coverage is always measured.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from percept.core.errors import PerceptError
from percept.eval.calibration import calibration
from percept.eval.statistics import Score, mean, proportion


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What a method answers to n items of C classes."""

    sets: Bool[np.ndarray, "n C"]
    """Classes of the answer; none where the method abstained."""
    probabilities: Float[np.ndarray, "n C"]

    @property
    def answered(self) -> Bool[np.ndarray, " n"]:
        """True where the method did not abstain."""
        return np.asarray(self.sets.any(axis=1))


def softmax(logits: Any) -> Float[np.ndarray, "n C"]:
    """Return the probabilities of logits.

    Raises:
        PerceptError: not a matrix of at least one row and two classes, or a value is not finite.
    """
    logits = np.asarray(logits, dtype=np.float64)
    if logits.ndim != 2 or logits.shape[0] < 1 or logits.shape[1] < 2:
        raise PerceptError(f"logits of shape {logits.shape}. Give one row per item with at least two classes.")
    if not np.isfinite(logits).all():
        raise PerceptError("a logit is infinite or not a number. Give finite logits.")
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def quantile(scores: Float[np.ndarray, " n"], level: float) -> float:
    """Return the ⌈(n+1)·level⌉-th smallest score; infinity if n is too small for the level, so that sets hold all classes.

    >>> quantile(np.array([0.1, 0.2, 0.3, 0.4]), 0.6), quantile(np.array([0.1]), 0.9)
    (0.3, inf)
    """
    rank = int(np.ceil((len(scores) + 1) * level - 1e-9))
    return float(np.sort(scores)[max(rank, 1) - 1]) if rank <= len(scores) else float("inf")


def lac(
    probabilities: Float[np.ndarray, "n C"],
    calibration_probabilities: Float[np.ndarray, "m C"],
    calibration_labels: Int[np.ndarray, " m"],
    *,
    alpha: float = 0.1,
) -> Answers:
    """Return the smallest sets of marginal coverage 1 − α: all classes with 1 − p ≤ q, where q is calibrated on 1 − p of the true class.

    Sadinle, Lei and Wasserman 2019, arXiv:1609.00451. An item without any such class is answered by its most likely one.
    """
    threshold = quantile(_of_class(1 - calibration_probabilities, calibration_labels), 1 - _share(alpha))
    return _never_empty((1 - probabilities) <= threshold, probabilities)


def aps(
    probabilities: Float[np.ndarray, "n C"],
    calibration_probabilities: Float[np.ndarray, "m C"],
    calibration_labels: Int[np.ndarray, " m"],
    *,
    alpha: float = 0.1,
    randomised: bool = False,
    seed: int = 0,
) -> Answers:
    """Return adaptive sets: classes in order of probability until their mass exceeds q, calibrated on the mass up to the true class.

    Romano, Sesia and Candès 2020, arXiv:2006.02544. Without randomisation the sets cover more than 1 − α.

    Args:
        randomised: count a uniform share of each class's own probability, which makes the coverage exact.
        seed: of the uniform numbers.
    """
    rng = np.random.default_rng(seed)
    mass = cumulative(calibration_probabilities, rng if randomised else None)
    threshold = quantile(_of_class(mass, calibration_labels), 1 - _share(alpha))
    return _never_empty(cumulative(probabilities, rng if randomised else None) <= threshold, probabilities)


def cumulative(probabilities: Float[np.ndarray, "n C"], rng: np.random.Generator | None) -> Float[np.ndarray, "n C"]:
    """Return for every class the probability of all classes that are at least as likely, itself included.

    With `rng`, a uniform share of its own probability is left out, one draw per item. Classes of equal probability are
    taken in their order.

    >>> cumulative(np.array([[0.25, 0.5, 0.25]]), None)
    array([[0.75, 0.5 , 1.  ]])
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")
    summed = np.take_along_axis(probabilities, order, axis=1).cumsum(axis=1)
    mass = np.empty_like(summed)
    np.put_along_axis(mass, order, summed, axis=1)
    if rng is not None:
        mass -= rng.random((len(mass), 1)) * probabilities
    return mass


def judged(answers: Answers, labels: Int[np.ndarray, " n"], *, name: str = "", seed: int = 0) -> list[Score]:
    """Score answers; an abstention never counts as right or covered.

    The confidence of an answer is its largest probability, for every method alike; selective accuracy, ECE, AUROC and AUARC
    are over the answered items, where an answer is right if its most likely class is.
    """
    prefix, rows = f"{name} " if name else "", np.arange(len(labels))
    answered, covered = answers.answered, answers.sets[rows, labels]
    scores = [
        proportion(f"{prefix}coverage of all items", covered),
        _less(proportion(f"{prefix}abstained", ~answered)),
    ]
    if not answered.any():
        return scores
    sizes = answers.sets[answered].sum(axis=1)
    right = (answers.probabilities.argmax(axis=1) == labels)[answered]
    confidence = answers.probabilities.max(axis=1)[answered]
    return [
        *scores,
        proportion(f"{prefix}coverage of answered items", covered[answered]),
        mean(f"{prefix}set size", sizes, unit="", better="less", seed=seed),
        proportion(f"{prefix}selective accuracy", right),
        *calibration(np.clip(confidence, 0, 1), right, name=name, seed=seed),
    ]


def check_labels(labels: Any, logits: Float[np.ndarray, "n C"]) -> Int[np.ndarray, " n"]:
    """Return labels as integers.

    Raises:
        PerceptError: their number differs from that of the logits, or one is not a class.
    """
    labels = np.asarray(labels)
    if labels.shape != (len(logits),):
        raise PerceptError(f"{labels.shape} labels for {len(logits)} rows of logits. Give one label per row.")
    if not np.issubdtype(labels.dtype, np.integer):
        raise PerceptError(
            f"labels must be whole numbers of classes, got an array of {labels.dtype}. Store them as integers."
        )
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise PerceptError(
            f"labels must be from 0 to {logits.shape[1] - 1}, got {labels.min()} to {labels.max()}. Check the order of the columns."
        )
    return labels.astype(np.int64)


def _less(score: Score) -> Score:
    return Score(**{**vars(score), "better": "less"})


def _of_class(values: Float[np.ndarray, "n C"], labels: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    return values[np.arange(len(labels)), labels]


def _never_empty(sets: Bool[np.ndarray, "n C"], probabilities: Float[np.ndarray, "n C"]) -> Answers:
    empty = ~sets.any(axis=1)
    sets[empty, probabilities[empty].argmax(axis=1)] = True
    return Answers(sets=sets, probabilities=probabilities)


def _share(alpha: float) -> float:
    if not 0 < alpha < 1:
        raise PerceptError(f"alpha={alpha}; it must be between 0 and 1, such as 0.1 for a coverage of 90 %")
    return alpha
