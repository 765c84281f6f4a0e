"""Calibration measures against scikit-learn, loops and cases by hand."""

import numpy as np
import pytest

from percept.core.errors import PerceptError
from percept.eval.calibration import BINS, auarc, auroc, calibration, ece
from percept.eval.confidence import reliability
from percept.eval.statistics import wilson


def drawn(n: int = 500, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    confidence = np.round(rng.random(n), 2)
    return confidence, rng.random(n) < confidence**2


def test_ece_equals_a_loop_over_bins():
    confidence, right = drawn()
    total = 0.0
    for number in range(BINS):
        low, high = number / BINS, (number + 1) / BINS
        inside = (confidence > low) & (confidence <= high) | ((number == 0) & (confidence == 0))
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert ece(confidence, right) == pytest.approx(total)


def test_auroc_equals_scikit_learn_with_ties():
    metrics = pytest.importorskip("sklearn.metrics")
    confidence, right = drawn(seed=3)
    assert auroc(confidence, right) == pytest.approx(metrics.roc_auc_score(right, confidence))


def test_auroc_of_right_answers_alone_is_undefined_and_left_out():
    assert np.isnan(auroc([0.5, 0.7], [True, True]))
    assert [score.name for score in calibration([0.5, 0.7], [True, True])] == ["ECE", "AUARC"]


def test_auarc_does_not_depend_on_the_order_of_ties():
    right = np.array([True, False, True, False])
    same = [0.5] * 4
    assert auarc(same, right) == auarc(same, right[::-1]) == pytest.approx(0.5)
    assert auarc([0.9, 0.8, 0.7], [True, True, False]) == pytest.approx((1 + 1 + 2 / 3) / 3)


@pytest.mark.parametrize(
    ("confidence", "right"), [([], []), ([0.5], [True, False]), ([1.5], [True]), ([np.nan], [True])]
)
def test_bad_input_is_refused(confidence, right):
    with pytest.raises(PerceptError):
        ece(confidence, right)


def test_intervals_hold_the_value():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        confidence = rng.random(200)
        for score in calibration(confidence, rng.random(200) < confidence):
            assert score.low <= score.value <= score.high


def test_right_answers_alone_are_as_uncertain_as_their_share():
    scores = {score.name: score for score in calibration(np.full(10, 0.9), np.ones(10, bool))}
    low, _ = wilson(10, 10)
    assert (scores["AUARC"].low, scores["AUARC"].high) == pytest.approx((low, 1))
    error = scores["ECE"]
    assert (error.value, error.low, error.high) == pytest.approx((0.1, 0, 0.1 + 1 - low))
    assert error.high > 0.9 - low  # the error if only `low` of the answers were right


def test_a_perfect_separation_from_few_wrong_answers_is_uncertain():
    right = np.arange(24) >= 2
    (score,) = [score for score in calibration(np.linspace(0.1, 0.9, 24), right) if score.name == "AUROC"]
    assert (score.low, score.high) == pytest.approx(wilson(2, 2))


def test_bins_of_the_curve_are_those_of_the_error():
    confidence, right = drawn()
    bins = reliability(confidence, right)
    assert sum(each["n"] for each in bins) == len(right)
    gaps = [each["n"] * abs(each["accuracy"] - each["confidence"]) for each in bins]
    assert ece(confidence, right) == pytest.approx(sum(gaps) / len(right))
