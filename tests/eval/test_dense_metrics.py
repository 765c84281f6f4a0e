"""J, F, PCK and mIoU against hand-computed cases and naive loops."""

from math import ceil, hypot

import numpy as np
import pytest

from percept.core.errors import PerceptError
from percept.eval.matching import correct_points, pck, world_views
from percept.eval.segmentation import best_overlaps, iou, mean_iou, overlap
from percept.eval.statistics import wilson
from percept.eval.tracking import (
    Tracked,
    contour,
    contour_accuracy,
    region_similarity,
    scores_of,
    tracked,
    world_sequences,
)  # fmt: skip


def blob(seed: int, size: tuple[int, int] = (40, 50)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]]
    masks = [
        (y - rng.uniform(5, size[0] - 5)) ** 2 + (x - rng.uniform(5, size[1] - 5)) ** 2 < rng.uniform(4, 12) ** 2
        for _ in range(3)
    ]
    return np.logical_or.reduce(masks)


def naive_contour(mask: np.ndarray) -> np.ndarray:
    height, width = mask.shape
    result = np.zeros_like(mask)
    for y in range(height):
        for x in range(width):
            for down, across in ((0, 1), (1, 0), (1, 1)):
                if mask[min(y + down, height - 1), min(x + across, width - 1)] != mask[y, x]:
                    result[y, x] = True
    return result


def naive_f(found: np.ndarray, truth: np.ndarray) -> float:
    limit = ceil(0.008 * hypot(*truth.shape))
    ours, theirs = (np.argwhere(naive_contour(mask)) for mask in (found, truth))
    if not len(ours) or not len(theirs):
        return float(len(ours) == len(theirs))
    distance = np.sqrt(((ours[:, None] - theirs[None]) ** 2).sum(-1))
    precision, recall = (distance.min(1) <= limit).mean(), (distance.min(0) <= limit).mean()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@pytest.mark.parametrize("seed", range(6))
def test_j_and_f_equal_naive_loops(seed: int) -> None:
    found, truth = blob(seed), blob(seed + 100)
    both = either = 0
    for one, other in zip(found.ravel(), truth.ravel(), strict=True):
        both, either = both + (one and other), either + (one or other)
    assert region_similarity(found, truth) == pytest.approx(both / either)
    assert (contour(truth) == naive_contour(truth)).all()
    assert contour_accuracy(found, truth) == pytest.approx(naive_f(found, truth))
    assert contour_accuracy(truth, truth) == region_similarity(truth, truth) == 1.0


def test_j_and_f_by_hand() -> None:
    truth, found = np.zeros((20, 20), bool), np.zeros((20, 20), bool)
    truth[2:6, 2:6] = found[2:6, 4:8] = True
    assert region_similarity(found, truth) == 8 / 24
    empty = np.zeros_like(truth)
    assert (region_similarity(empty, empty), contour_accuracy(empty, empty)) == (1.0, 1.0)
    assert (region_similarity(empty, truth), contour_accuracy(empty, truth), contour_accuracy(truth, empty)) == (
        0,
        0,
        0,
    )
    far = np.roll(truth, 10, axis=1)
    assert contour_accuracy(far, truth) == 0.0
    shifted = np.roll(truth, 1, axis=1)  # within the tolerance of 1 pixel
    assert contour_accuracy(shifted, truth) == 1.0


def test_the_first_and_the_last_frame_are_not_counted() -> None:
    truth = np.zeros((4, 12, 12), np.uint8)
    truth[:, 2:5, 2:5], truth[:, 7:9, 7:9] = 1, 2
    found = truth.copy()
    found[0], found[-1] = 0, 0
    found[1][found[1] == 2] = 0
    scores = tracked(list(found), list(truth))
    assert (scores[1].j, scores[1].f, scores[2].j, scores[2].f) == (1.0, 1.0, 0.5, 0.5)
    both, j, f = scores_of({"clip": scores})
    assert (both.name, both.value, j.value, f.value, both.n) == ("J&F", 0.75, 0.75, 0.75, 2)
    assert Tracked(j=0.2, f=0.4).both == pytest.approx(0.3)


def test_clips_are_resampled_and_not_objects() -> None:
    poor, good = Tracked(j=0.2, f=0.2), Tracked(j=0.8, f=0.8)
    clips = {f"clip {number}": dict.fromkeys(range(20), poor if number % 2 else good) for number in range(6)}
    apart = {f"{name}/{number}": {0: each} for name, objects in clips.items() for number, each in objects.items()}
    wide, narrow = scores_of(clips)[0], scores_of(apart)[0]
    assert (wide.value, wide.n) == (narrow.value, narrow.n) == (pytest.approx(0.5), 120)
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)
    one = scores_of({"clip": clips["clip 0"]})[0]
    assert one.low < 0.3 < 0.9 < one.high  # twenty objects of one clip tell little about other clips
    with pytest.raises(PerceptError, match="no clip has an object"):
        scores_of({})


def test_masks_that_do_not_fit() -> None:
    mask = np.ones((4, 4), np.uint8)
    with pytest.raises(PerceptError, match="2 masks for 3"):
        tracked([mask] * 2, [mask] * 3)
    with pytest.raises(PerceptError, match="different sizes"):
        tracked([mask[:2]] * 3, [mask] * 3)
    with pytest.raises(PerceptError, match="marks no object"):
        tracked([mask] * 3, [0 * mask] * 3)


def test_pck_by_hand() -> None:
    truth = np.array([[10.0, 10.0], [50.0, 50.0], [90.0, 10.0]])
    found = truth + np.array([[10.0, 0.0], [0.0, 10.001], [6.0, 8.0]])
    right = correct_points(found, truth, extent=100)
    assert right.tolist() == [True, False, True]
    score = pck([right, np.array([], bool), np.array([True])])
    assert (score.value, score.n, score.name) == (pytest.approx((2 / 3 + 1) / 2), 2, "PCK@0.1")
    whole = pck([np.ones(3, bool)] * 5)
    assert (whole.low, whole.high) == pytest.approx(wilson(5, 5))
    with pytest.raises(PerceptError, match="two arrays"):
        correct_points(found[:2], truth, extent=100)
    with pytest.raises(PerceptError, match="positive"):
        correct_points(found, truth, extent=0)
    with pytest.raises(PerceptError, match="no samples"):
        pck([np.array([], bool)])


def test_mean_iou_equals_naive_loops_and_ignores_255() -> None:
    rng = np.random.default_rng(0)
    images = [(rng.integers(0, 4, (9, 7)), rng.choice([0, 1, 2, 255], (9, 7))) for _ in range(5)]
    counts = [overlap(found, truth, 6) for found, truth in images]
    shares = []
    for number in range(6):
        same = union = 0
        for found, truth in images:
            for one, other in zip(found.ravel(), truth.ravel(), strict=True):
                if other != 255:
                    same += one == other == number
                    union += number in (one, other)
        if union:
            shares.append(same / union)
    score = mean_iou("mIoU", counts)
    assert len(shares) == 4  # classes 4 and 5 occur nowhere
    assert score.value == pytest.approx(np.mean(shares))
    assert score.low <= score.value <= score.high
    assert np.isnan(iou(counts[0])[4:]).all()


@pytest.mark.parametrize("rare", [0, 1])
def test_the_interval_of_mean_iou_holds_its_value_where_rare_classes_are_never_found(rare) -> None:
    truth = np.zeros((24, 6, 6), np.int64)
    for number in range(8):
        truth[number, 0, 0] = number + 1  # in one image only, and so in two of three resamples
    found = np.where(np.random.default_rng(rare).random(truth.shape) < 0.2, 1, 0)
    score = mean_iou("mIoU", [overlap(one, other, 9) for one, other in zip(found, truth, strict=True)])
    assert score.low < score.value < score.high
    assert score.value - score.low == pytest.approx(score.high - score.value, rel=1)


def test_segmentations_that_are_all_right_are_uncertain() -> None:
    truth = np.arange(4).reshape(2, 2)
    score = mean_iou("mIoU", [overlap(truth, truth, 4)] * 3)
    assert (score.low, score.high) == pytest.approx(wilson(3, 3))


def test_the_ignored_label_can_be_chosen() -> None:
    truth = np.array([[0, -1, 255]])
    counts = overlap(np.array([[0, 0, 255]]), truth, 256, ignored=-1)
    assert (counts.intersection[[0, 255]].tolist(), counts.union.sum()) == ([1, 1], 2)
    with pytest.raises(PerceptError, match="negative"):
        overlap(truth, truth, 256)


def test_mean_iou_agrees_with_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(1)
    found, truth = rng.integers(0, 3, (20, 20)), rng.integers(0, 3, (20, 20))
    expected = metrics.jaccard_score(truth.ravel(), found.ravel(), average=None)
    assert iou(overlap(found, truth, 3)) == pytest.approx(expected)


def test_segmentations_that_cannot_be_measured() -> None:
    zeros = np.zeros((3, 3), np.int64)
    with pytest.raises(PerceptError, match="does not fit"):
        overlap(zeros, np.zeros((3, 4), np.int64), 2)
    with pytest.raises(PerceptError, match="not below"):
        overlap(zeros, zeros + 2, 2)
    with pytest.raises(PerceptError, match="no images"):
        mean_iou("mIoU", [])
    with pytest.raises(PerceptError, match="every pixel is ignored"):
        mean_iou("mIoU", [overlap(zeros, zeros + 255, 2)])


def test_best_overlaps() -> None:
    truth = np.zeros((2, 4, 4), bool)
    truth[0, :2], truth[1, 2:, :2] = True, True
    found = np.zeros((2, 4, 4), bool)
    found[0, :3], found[1, 2:] = True, True
    assert best_overlaps(found, truth).tolist() == [8 / 12, 4 / 8]
    assert best_overlaps(found[:0], truth).tolist() == [0.0, 0.0]


def test_world_sets_have_objects_and_points() -> None:
    (sequence,) = world_sequences(1, split="validation", frames=8, size=48)
    assert len(sequence.frames) == len(sequence.masks) == 8
    assert sequence.masks[0].any()
    (pair,) = world_views(1, split="validation", points=5, size=48)
    assert pair.first.shape == pair.second.shape == (5, 2)
    assert ((pair.second >= 0) & (pair.second <= 1)).all()
