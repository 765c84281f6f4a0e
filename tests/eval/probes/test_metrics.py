"""Every measure against an independent implementation: scikit-learn, faster-coco-eval, or a loop written from the definition."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import jaccard_score
from sklearn.neighbors import KNeighborsClassifier

from percept.core.errors import PerceptError
from percept.eval.probes.boxes import Detected, Truth, average_precision, iou, suppress
from percept.eval.probes.dense import IGNORED, class_shares, depth_errors, fitted_labels, patch_depth, ridge
from percept.eval.probes.knn import Neighbours, knn_votes
from percept.eval.probes.linear import fit_linear, logistic
from percept.eval.probes.matching import match_points
from percept.eval.probes.outcome import Sums, difference, ratio, right, score_of
from percept.eval.probes.probe import Setup
from percept.eval.probes.reading import edit_distance, greedy
from percept.eval.probes.stream import Frame
from percept.eval.segmentation import outcome_of, overlap
from percept.eval.statistics import wilson

FRAME = Frame(grid=(2, 3), patch=4, width=5, prefix=1)


def test_nearest_neighbours_vote_as_in_scikit_learn():
    torch.manual_seed(0)
    bank, queries, labels = torch.randn(60, 8), torch.randn(30, 8), torch.randint(0, 4, (60,))
    votes = knn_votes(queries, bank, labels, 4, k=7, temperature=0.1)
    weights: Any = lambda distance: np.exp((1 - distance) / 0.1)  # noqa: E731
    theirs = KNeighborsClassifier(7, metric="cosine", weights=weights)
    expected = theirs.fit(bank.numpy(), labels.numpy()).predict_proba(queries.numpy())
    np.testing.assert_allclose((votes / votes.sum(1, keepdim=True)).numpy(), expected, rtol=1e-3)


def test_a_tie_of_votes_is_wrong_whichever_class_is_first():
    probe = Neighbours(Setup(frame=FRAME, classes=("a", "b")))
    fitted = probe.fit([torch.tensor([0.0, 1]), torch.tensor([1.0, 0])], [0, 1], seed=0)
    middle = torch.tensor([0.5, 0.5])
    outcome = fitted.judge([middle, middle, torch.tensor([0.0, 1])], [0, 1, 0])["kNN top-1"]
    assert outcome.values(np.eye(3)).tolist() == [0, 0, 1]


def test_fewer_training_samples_than_neighbours():
    assert knn_votes(torch.ones(1, 2), torch.ones(1, 2), torch.tensor([1]), 3).argmax() == 1


def test_logistic_regression_is_that_of_scikit_learn():
    torch.manual_seed(0)
    features, labels = torch.randn(80, 5), torch.randint(0, 3, (80,))
    weight, bias = logistic(features, labels, 3, 0.05, steps=300)
    theirs = LogisticRegression(C=1 / (80 * 0.05), tol=1e-8, max_iter=2000).fit(features.numpy(), labels.numpy())
    expected = theirs.predict_proba(features.numpy())
    np.testing.assert_allclose(F.linear(features, weight, bias).softmax(1).numpy(), expected, atol=2e-3)


def test_soft_targets_equal_repeated_samples():
    torch.manual_seed(0)
    features = torch.randn(20, 3)
    soft = torch.tensor([[0.25, 0.75]]).expand(20, -1)
    repeated = features.repeat_interleave(4, dim=0), torch.tensor([0, 1, 1, 1]).repeat(20)
    for one, other in zip(logistic(features, soft, 2, 0.1), logistic(*repeated, 2, 0.1), strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)


def test_a_linear_probe_of_one_sample_and_of_an_absent_class():
    model = fit_linear(torch.ones(1, 4), torch.tensor([2]), 5, seed=0)
    assert model(torch.ones(1, 4)).argmax() == 2
    features = torch.eye(3).repeat(8, 1)
    model = fit_linear(features, torch.arange(3).repeat(8), 7, seed=0)
    assert model(torch.eye(3)).argmax(dim=1).tolist() == [0, 1, 2]


def test_ridge_regression_is_that_of_scikit_learn():
    torch.manual_seed(0)
    features, values = torch.randn(50, 4), torch.randn(50)
    weight, bias = ridge(features, values, 0.2)
    theirs = Ridge(alpha=50 * 0.2).fit(features.numpy(), values.numpy())
    np.testing.assert_allclose(weight.numpy(), theirs.coef_, atol=1e-5)
    assert float(bias) == pytest.approx(theirs.intercept_, abs=1e-5)


def test_mean_iou_is_that_of_scikit_learn_with_an_empty_class_and_ignored_pixels():
    rng = np.random.default_rng(0)
    truth, guess = rng.integers(-1, 4, (6, 20, 20)), rng.integers(0, 4, (6, 20, 20))
    rows = [overlap(one, other, 9, ignored=IGNORED) for one, other in zip(guess, truth, strict=True)]
    score = score_of(outcome_of(rows), "mIoU")
    valid = truth >= 0
    assert score.value == pytest.approx(jaccard_score(truth[valid], guess[valid], average="macro"))
    assert score.low < score.value < score.high
    assert score.n == 6


def test_a_wrong_class_counts_even_if_the_truth_lacks_it():
    one = outcome_of([overlap(np.array([[0, 5]]), np.array([[0, 0]]), 6)])
    assert one.values(np.ones((1, 1)))[0] == pytest.approx((0.5 + 0.0) / 2)


def test_images_without_labels_cannot_be_scored():
    row = overlap(np.zeros((2, 2), np.int64), np.full((2, 2), IGNORED), 3, ignored=IGNORED)
    with pytest.raises(PerceptError, match="none of the 1 held-out samples has a label"):
        score_of(outcome_of([row]), "mIoU")


def test_depth_errors_are_those_of_a_loop():
    rng = np.random.default_rng(0)
    depth, guess = rng.uniform(0.5, 5, (5, 7)).astype(np.float32), rng.uniform(0.5, 5, (5, 7)).astype(np.float32)
    depth[0, :3], depth[1, 0] = 0, np.nan
    squares, within = [], []
    for truth, found in zip(depth.ravel(), guess.ravel(), strict=True):
        if truth > 0:
            squares.append((float(truth) - float(found)) ** 2)
            within.append(max(float(truth) / float(found), float(found) / float(truth)) < 1.25)
    rmse, share, count = depth_errors(torch.from_numpy(guess), torch.from_numpy(depth))
    assert (rmse, share, count) == (pytest.approx(np.mean(squares) ** 0.5), pytest.approx(np.mean(within)), 1)
    assert depth_errors(torch.ones(2, 2), torch.zeros(2, 2)) == (0.0, 0.0, 0)


def test_shares_of_classes_in_patches_are_those_of_a_loop():
    rng = np.random.default_rng(0)
    labels = rng.integers(-1, 3, (8, 12))
    shares = class_shares(torch.from_numpy(labels), FRAME, 3)
    for number in range(6):
        row, column = divmod(number, 3)
        inside = labels[4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        expected = [(inside == label).sum() / (inside >= 0).sum() for label in range(3)]
        np.testing.assert_allclose(shares[number].numpy(), expected, rtol=1e-6)


def test_depth_of_patches_is_the_mean_of_what_is_known():
    depth = np.ones((8, 12), np.float32)
    depth[:4, :4] = 0
    depth[:4, 4:6], depth[:4, 6:8] = 0, 3
    assert patch_depth(depth, FRAME).tolist() == [0, 3, 1, 1, 1, 1]


def test_labels_are_never_mixed_when_they_are_resized():
    labels = np.array([[0, 9], [9, 0]])
    assert set(fitted_labels(labels, (5, 7)).flatten().tolist()) == {0, 9}
    assert fitted_labels(labels, (4, 4))[0].tolist() == [0, 0, 9, 9]


def test_intervals_of_proportions_are_wilsons_and_differences_are_paired():
    hits = np.array([True] * 60 + [False] * 40)
    assert (score_of(right(hits), "top-1").low, score_of(right(hits), "top-1").high) == pytest.approx(
        (0.502, 0.690), abs=1e-3
    )
    assert difference(right(hits), right(hits)) == difference(right(hits), right(hits))
    same = difference(right(hits), right(hits))
    assert same.value == 0
    assert -0.05 < same.low == -same.high < 0  # as wide as equal answers of so many samples allow
    better = hits | (np.arange(100) < 80)
    assert difference(right(better), right(hits)).is_clear


def test_few_answers_that_differ_are_not_a_clear_difference():
    first, second = np.ones(200, bool), np.arange(200) >= 4  # McNemar's p is 0.125
    gap = difference(right(first), right(second))
    assert gap.value == pytest.approx(0.02)
    assert gap.low < 0 < 0.02 < gap.high
    assert difference(right(second), right(first)).low == pytest.approx(-gap.high)


def test_equal_shares_of_all_samples_have_an_interval():
    whole = Sums(sums=np.tile([3.0, 3.0], (10, 1)), measure=ratio)
    score = score_of(whole, "PCK@0.1")
    assert (score.low, score.high) == pytest.approx(wilson(10, 10))


@settings(max_examples=30, deadline=None)
@given(st.text("abc", max_size=6), st.text("abc", max_size=6))
def test_edit_distance_is_that_of_a_recursion(one: str, other: str):
    def slow(left: str, rest: str) -> int:
        if not left or not rest:
            return len(left) + len(rest)
        same = slow(left[1:], rest[1:]) + (left[0] != rest[0])
        return min(same, slow(left[1:], rest) + 1, slow(left, rest[1:]) + 1)

    assert edit_distance(one, other) == slow(one, other)


def test_greedy_decoding_merges_repeats_and_drops_blanks():
    places = [1, 1, 0, 1, 2, 2, 0]
    assert greedy(F.one_hot(torch.tensor(places), 3).float(), "ab") == "aab"


def test_points_are_found_where_the_same_vector_is():
    first = torch.randn(64, 4, 4)
    second = first.roll(1, dims=2)
    centre = torch.tensor([[1.5 / 4, 2.5 / 4]])
    found = match_points(first, second, centre, (32, 32))
    assert (found - torch.tensor([[2.5 / 4, 2.5 / 4]])).abs().max() < 0.1


def random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    low = rng.uniform(0, 0.6, (count, 2))
    return np.concatenate([low, low + rng.uniform(0.1, 0.4, (count, 2))], axis=1)


def random_sets(seed: int, *, crowds: bool) -> tuple[list[Truth], list[Detected]]:
    rng, targets, found = np.random.default_rng(seed), [], []
    for _ in range(6):
        count = int(rng.integers(0, 5))
        boxes, labels = random_boxes(rng, count), rng.integers(0, 3, count)
        crowd = rng.random(count) < 0.3 if crowds else np.zeros(count, bool)
        targets.append(Truth(boxes=boxes, labels=labels, crowd=crowd))
        near = np.clip(boxes + rng.normal(0, 0.02, boxes.shape), 0, 1)
        more = int(rng.integers(0, 4))
        found.append(
            Detected(
                boxes=np.concatenate([near, random_boxes(rng, more)]),
                labels=np.concatenate([labels, rng.integers(0, 3, more)]),
                scores=rng.permutation(count + more) / 50 + 0.01,
            )
        )
    return targets, found


@pytest.mark.parametrize("crowds", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_average_precision_is_that_of_coco(seed: int, crowds: bool):
    targets, found = random_sets(seed, crowds=crowds)
    for outcome in average_precision(targets, found, 3).values():
        assert outcome.values(np.ones((1, 6)))[0] == pytest.approx(outcome.library, abs=1e-6)
        assert 0 < outcome.library < 1


def test_weights_of_images_equal_repeated_images():
    targets, found = random_sets(1, crowds=False)
    weights = np.array([[2.0, 0, 1, 1, 1, 1]])
    repeated = [0, 0, 2, 3, 4, 5]
    one = average_precision(targets, found, 3)["AP"].values(weights)[0]
    other = average_precision([targets[i] for i in repeated], [found[i] for i in repeated], 3)["AP"]
    assert one == pytest.approx(other.library, abs=1e-6)


def test_no_detections_score_nothing_and_no_boxes_cannot_be_scored():
    targets, _ = random_sets(0, crowds=False)
    nothing = Detected(boxes=np.zeros((0, 4)), labels=np.zeros(0, int), scores=np.zeros(0))
    outcome = average_precision(targets, [nothing] * 6, 3)["AP"]
    assert score_of(outcome, "AP", value=outcome.library).value == 0
    empty = Truth(boxes=np.zeros((0, 4)), labels=np.zeros(0, int), crowd=np.zeros(0, bool))
    with pytest.raises(PerceptError, match="none of the 1"):
        score_of(average_precision([empty], [nothing], 3)["AP"], "AP")


def test_weaker_boxes_of_the_same_class_are_suppressed():
    boxes = torch.tensor([[0, 0, 1, 1], [0, 0, 1, 0.95], [0, 0, 1, 0.9], [0.5, 0.5, 0.6, 0.6]])
    kept = suppress(boxes, torch.tensor([0.5, 0.9, 0.8, 0.1]), torch.tensor([0, 0, 1, 0]), 0.6)
    assert kept.tolist() == [1, 2, 3]
    assert iou(boxes[:1], boxes[1:2]).item() == pytest.approx(0.95)


def test_a_ratio_without_anything_to_count_is_not_defined():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(ratio(np.zeros((1, 2)))[0])
