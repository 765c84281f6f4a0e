"""Mask AP: rectangles give the AP of their boxes, the weighted form gives that of the library."""

import numpy as np
import pytest

from percept.eval.probes.boxes import average_precision
from percept.eval.probes.masks import MaskDetected, MaskTruth, mask_overlaps, mask_precision

SIDE = 40


def rectangles(rng: np.random.Generator, count: int) -> np.ndarray:
    low = rng.integers(0, SIDE - 12, (count, 2))
    return np.concatenate([low, low + rng.integers(6, 12, (count, 2))], axis=1)


def filled(boxes: np.ndarray) -> np.ndarray:
    masks = np.zeros((len(boxes), SIDE, SIDE), bool)
    for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = True
    return masks


def scenes(seed: int, images: int = 12) -> tuple[list[MaskTruth], list[MaskDetected]]:
    rng, truths, found = np.random.default_rng(seed), [], []
    for _ in range(images):
        truth, labels = rectangles(rng, 3), rng.integers(0, 3, 3)
        shifted = np.clip(truth + rng.integers(-1, 2, truth.shape), 0, SIDE)
        boxes = np.concatenate([shifted, rectangles(rng, 2)])
        guesses = np.concatenate([np.where(rng.random(3) < 0.8, labels, 2 - labels), rng.integers(0, 3, 2)])
        truths.append(MaskTruth(boxes=truth / SIDE, labels=labels, crowd=np.zeros(3, bool), masks=filled(truth)))
        found.append(MaskDetected(boxes=boxes / SIDE, labels=guesses, scores=rng.random(5), masks=filled(boxes)))
    return truths, found


def test_masks_of_rectangles_have_the_precision_of_their_boxes() -> None:
    truths, found = scenes(0)
    boxes, masks = average_precision(truths, found, 3), mask_precision(truths, found, range(3))
    for name in ("AP", "AP50"):
        assert masks[name].library == pytest.approx(boxes[name].library, abs=1e-6)
        assert 0.05 < masks[name].library < 0.95


def test_equal_weights_give_the_value_of_the_library() -> None:
    truths, found = scenes(1)
    found = [
        MaskDetected(boxes=one.boxes, labels=one.labels, scores=one.scores, masks=one.masks & (np.indices((SIDE, SIDE)).sum(0) % 3 > 0)) for one in found
    ]  # fmt: skip
    for measured in mask_precision(truths, found, range(3)).values():
        assert float(measured.values(np.ones((1, len(truths))))[0]) == pytest.approx(measured.library, abs=1e-6)


def test_only_the_given_classes_count() -> None:
    truths, found = scenes(2)
    both = [mask_precision(truths, found, (label,))["AP"].library for label in (0, 1)]
    assert mask_precision(truths, found, (0, 1))["AP"].library == pytest.approx(np.mean(both), abs=1e-6)


def test_nothing_found_and_nothing_to_find() -> None:
    truths, found = scenes(3, images=2)
    empty = [MaskDetected(boxes=np.zeros((0, 4)), labels=np.zeros(0, int), scores=np.zeros(0), masks=np.zeros((0, SIDE, SIDE), bool))] * 2  # fmt: skip
    assert mask_precision(truths, empty, range(3))["AP"].library == 0
    assert np.isnan(mask_precision(truths, found, (7,))["AP"].library)


def test_a_mask_inside_a_crowd_is_compared_by_its_own_area() -> None:
    small, large = filled(np.array([[0, 0, 4, 4]])), filled(np.array([[0, 0, 20, 20]]))
    assert mask_overlaps(small, large, np.array([True]))[0, 0] == 1
    assert mask_overlaps(small, large, np.array([False]))[0, 0] == pytest.approx(16 / 400)
