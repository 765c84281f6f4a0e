import numpy as np
import pytest

from percept.core.errors import PerceptError
from percept.eval.statistics import (
    drop,
    mean,
    mean_of_groups,
    mean_per_class,
    mean_share,
    proportion,
    share_interval,
    wilson,
)

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
    assert lost.value == 0.5
    assert 0.4 < lost.low < 0.5 < lost.high < 0.53


@pytest.mark.parametrize("value", [True, False])
def test_means_of_answers_that_all_agree_have_an_interval(value):
    ends = wilson(21 * 7 * value, 21 * 7)
    score = mean_of_groups("g", [np.full(21, value)] * 7)
    assert (score.low, score.high) == pytest.approx(ends)
    share = mean_share("s", np.full(12, float(value)))
    assert (share.low, share.high) == pytest.approx(wilson(12 * value, 12))
    assert mean_share("s", [0.0, 1.0]) == mean("s", [0.0, 1.0])


@pytest.mark.parametrize("hits", [0, 1, 3, 7])
def test_the_mean_of_one_group_is_a_proportion(hits):
    one = np.arange(7) < hits
    assert mean_of_groups("p", [one]).interval == proportion("p", one).interval


def covered(sizes: np.ndarray, truth: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """Return how often the interval of a mean of groups holds the mean of their chances [r, g], and its mean width."""
    scores = [
        mean_of_groups("p", [np.arange(n) < k for n, k in zip(sizes, hits, strict=True)])
        for hits in rng.binomial(sizes, truth)
    ]
    held = [score.low <= each.mean() <= score.high for score, each in zip(scores, truth, strict=True)]
    return float(np.mean(held)), float(np.mean([score.high - score.low for score in scores]))


@pytest.mark.parametrize("groups", [2, 20])
@pytest.mark.parametrize("size", [1, 2, 3, 50, (1, 2, 50)])
def test_means_of_groups_cover_the_truth_whatever_the_size_of_the_groups(size, groups):
    rng, sizes = np.random.default_rng(groups), np.resize(size, groups)
    for truth in (rng.random((1500, groups)), np.repeat(rng.random((1500, 1)), groups, axis=1)):
        coverage, width = covered(sizes, truth, rng)
        assert coverage > 0.93
        normal = 2 * 1.96 * np.sqrt((truth * (1 - truth) / sizes).sum(axis=1)).mean() / groups
        assert width < 1.15 * normal


@pytest.mark.parametrize("classes", [2, 5])
def test_the_mean_per_class_resamples_images_and_not_classes(classes):
    rng, labels = np.random.default_rng(4), np.repeat(np.arange(classes), 50)
    truth = np.linspace(0.5, 0.9, classes)
    scores = [mean_per_class("m", rng.random(len(labels)) < truth[labels], labels) for _ in range(500)]
    assert {score.n for score in scores} == {50 * classes}
    assert 0.93 < np.mean([score.low <= truth.mean() <= score.high for score in scores]) < 0.98


def test_the_mean_per_class_is_that_of_a_loop():
    rng = np.random.default_rng(5)
    labels, right = rng.choice([0, 2, 3, 9], 40), rng.random(40) < 0.6
    assert mean_per_class("m", right, labels).value == pytest.approx(
        np.mean([right[labels == each].mean() for each in (0, 2, 3, 9)])
    )


def test_an_interval_of_resamples_holds_its_value_and_has_a_width():
    draws = np.random.default_rng(0).normal(0.3, 0.05, 4000)
    low, high = share_interval(draws, 0.2, 100)
    assert (low, high) == pytest.approx((0.2 - 1.96 * 0.05, 0.2 + 1.96 * 0.05), abs=0.01)
    assert share_interval(np.ones(9), 1.0, 10) == pytest.approx(wilson(10, 10))
    assert share_interval(np.zeros(9), 0.0, 10) == pytest.approx(wilson(0, 10))


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


@pytest.mark.parametrize("size", [2, 30])
def test_drops_cover_the_truth(size):
    rng, shares = np.random.default_rng(size), (0.8, 0.5, 0.6)
    held = []
    for _ in range(500):
        plain, *others = (rng.random(size) < share for share in shares)
        lost = drop("d", plain, [plain, *others])
        held.append(lost.low <= 0.8 - np.mean(shares) <= lost.high)
    assert np.mean(held) > 0.93


def test_a_drop_against_itself_is_nothing():
    right = np.array([True, False])
    lost = drop("d", right, [right])
    assert (lost.value, lost.low, lost.high, lost.n) == (0, 0, 0, 2)


def test_a_drop_against_a_group_counts_it_once():
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
