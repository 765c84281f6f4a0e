"""Calibration measures against scikit-learn, loops and cases by hand."""

import numpy as np
import pytest

from percept.core.errors import PerceptError
from percept.eval.calibration import BINS, auarc, auroc, calibration, ece


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
    for score in calibration(*drawn()):
        assert score.low <= score.value <= score.high
