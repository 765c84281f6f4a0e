import numpy as np
import pytest

from percept.core.errors import PerceptError
from percept.eval.statistics import drop, mean, mean_of_groups, mean_share, proportion, wilson

# Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3.
NEWCOMBE = {(81, 263): (0.2553, 0.3662), (15, 148): (0.0624, 0.1605), (0, 20): (0.0, 0.1611), (1, 29): (0.0061, 0.1718)}


@pytest.mark.parametrize("case", NEWCOMBE)
def test_wilson_against_published_values(case):
    assert wilson(*case) == pytest.approx(NEWCOMBE[case], abs=5e-5)


def test_wilson_is_symmetric_and_within_bounds():
    for hits in range(12):
        low, high = wilson(hits, 11)
        assert (low, high) == pytest.approx(tuple(1 - end for end in reversed(wilson(11 - hits, 11))))
        assert 0 <= low <= hits / 11 <= high <= 1


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(0)
    draws = [proportion("p", rng.random(80) < 0.3) for _ in range(400)]
    assert 0.91 < np.mean([score.low <= 0.3 <= score.high for score in draws]) < 0.985
    means = [mean("m", rng.exponential(1.0, 60), seed=number) for number in range(100)]
    assert 0.85 < np.mean([score.low <= 1.0 <= score.high for score in means]) <= 1


def test_the_same_seed_gives_the_same_interval():
    values = np.random.default_rng(1).normal(size=50)
    assert mean("m", values, seed=3) == mean("m", values, seed=3) != mean("m", values, seed=4)


def test_groups_count_the_same_whatever_their_size():
    large, small = np.zeros(900, bool), np.ones(100, bool)
    score = mean_of_groups("g", [large, small])
    assert (score.value, score.n) == (0.5, 1000)
    lost = drop("d", np.ones(50, bool), [large, small])
    assert (lost.value, lost.low, lost.high) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("value", [True, False])
def test_means_of_answers_that_all_agree_have_an_interval(value):
    groups = [np.full(20, value), np.full(5, value)]
    score = mean_of_groups("g", groups)
    ends = wilson(16 * value, 16)  # 2² / (1/20 + 1/5)
    assert (score.low, score.high) == pytest.approx(ends)
    assert mean_of_groups("g", groups[:1]).interval == proportion("p", groups[0]).interval
    share = mean_share("s", np.full(12, float(value)))
    assert (share.low, share.high) == pytest.approx(wilson(12 * value, 12))
    assert mean_share("s", [0.0, 1.0]) == mean("s", [0.0, 1.0])


def test_a_drop_of_nothing_is_uncertain():
    right = np.ones(20, bool)
    lost = drop("d", right, [right.copy()])
    width = 1 - wilson(20, 20)[0]  # Newcombe's interval of 20 of 20 against 20 of 20
    assert (lost.value, lost.low, lost.high) == pytest.approx((0, -width, width))
    whole = drop("d", right, [~right])
    assert whole.value == 1
    assert whole.low < 1 == whole.high


def test_a_drop_has_the_uncertainty_of_both_sides():
    rng = np.random.default_rng(2)
    plain, other = rng.random(400) < 0.9, rng.random(400) < 0.7
    lost = drop("d", plain, [other])
    assert lost.value == pytest.approx(plain.mean() - other.mean())
    expected = 1.96 * np.sqrt(0.9 * 0.1 / 400 + 0.7 * 0.3 / 400)
    assert (lost.high - lost.low) / 2 == pytest.approx(expected, rel=0.15)


def test_a_drop_against_a_group_counts_and_resamples_it_once():
    rng = np.random.default_rng(3)
    plain, other = rng.random(400) < 0.6, rng.random(400) < 0.6
    lost = drop("d", plain, [plain, other])
    assert lost.n == 800
    expected = 1.96 * np.sqrt(2 * 0.25 * 0.6 * 0.4 / 400)  # the drop is half the difference of plain and other
    assert (lost.high - lost.low) / 2 == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("function", [proportion, mean])
def test_nothing_measured_is_an_error(function):
    with pytest.raises(PerceptError, match="give at least one"):
        function("p", [])
    with pytest.raises(PerceptError, match="give at least one"):
        mean_of_groups("p", [])
