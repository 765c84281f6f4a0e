"""Intervals of mAP and of the average precision per image."""

import numpy as np
import pytest

from percept.eval.multilabel import judged, mean_average_precision
from percept.eval.statistics import wilson


def test_a_perfect_ranking_is_as_uncertain_as_its_images_are_few():
    scores = np.eye(4).repeat(3, axis=0)
    labels = [[int(row.argmax())] for row in scores]
    result = judged(scores, labels, list("abcd"), [str(row) for row in range(12)], name="m", data="d")
    for score in result.scores:
        assert (score.value, score.n) == (1.0, 12)
        assert (score.low, score.high) == pytest.approx(wilson(12, 12))


def test_the_interval_of_map_holds_its_value():
    positive = np.zeros((100, 24), bool)
    positive[:, :4] = np.random.default_rng(0).random((100, 4)) < 0.5
    positive[range(20), range(4, 24)] = True  # each of 20 classes is in one image, and in two of three resamples
    scores = np.where(np.arange(24) < 4, positive, ~positive) + np.random.default_rng(1).random((100, 24))
    score = mean_average_precision("mAP", scores, positive)
    assert score.low < score.value < score.high
    assert score.value - score.low == pytest.approx(score.high - score.value, rel=0.5)
