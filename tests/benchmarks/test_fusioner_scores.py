"""Mean IoU by hand, and intervals over runs and images instead of queries."""

from pathlib import Path

import numpy as np
import pytest
from fusioner_scores import chance, described, gap, miou, read_rows, resampled, save_rows

from percept.core.io import write_json


def run(level: int, images: int = 20, per_image: int = 1, first: int = 0) -> np.ndarray:
    """Rows of one class with an IoU of `level` percent in every image."""
    return np.array([[7, level, 100, 90, 50, first + image] for image in range(images) for _ in range(per_image)])


def test_mean_iou_is_over_classes_with_their_pixels_summed():
    rows = np.array([[0, 10, 20, 0, 0, 0], [0, 0, 30, 0, 0, 1], [4, 5, 10, 0, 0, 1]])
    assert miou(rows) == pytest.approx((10 / 50 + 5 / 10) / 2)


def test_the_interval_covers_the_spread_of_the_runs():
    found = described([run(20), run(40), run(60)], shared=False)
    assert (found["mIoU"], found["runs"]) == (0.4, [0.2, 0.4, 0.6])
    assert (found["low"], found["high"]) == (0.2, 0.6)
    assert (found["queries"], found["images"]) == (60, 60)


def test_repeated_queries_of_an_image_do_not_narrow_the_interval():
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 100, 30)
    once = np.array([[0, level, 100, 0, 0, image] for image, level in enumerate(levels)])
    assert np.allclose(resampled([once], shared=False), resampled([np.repeat(once, 5, axis=0)], shared=False))
    folds = [once, once.copy()]  # of the same images, so a second one tells nothing new
    assert np.allclose(resampled(folds, shared=True).std(), resampled([once], shared=False).std(), rtol=0.1)
    assert resampled(folds, shared=False).std() < 0.9 * resampled(folds, shared=True).std()
    assert described(folds, shared=True)["images"] == 30


def test_differences_are_paired():
    one = [np.array([[0, 10 * image + 5, 100, 0, 0, image] for image in range(9)])]
    other = [rows - np.array([0, 5, 0, 0, 0, 0]) for rows in one]
    found = gap(one, other, shared=False)
    assert found == {"value": 0.05, "low": 0.05, "high": 0.05, "runs": [0.05]}


def test_chance_expects_as_many_random_pixels():
    rows = np.array([[3, 20, 30, 40, 10, 8]])
    assert chance(rows, 100).tolist() == [[3, 4, 46, 40, 10, 8]]
    assert rows[0, 1] == 20


def test_rows_are_read_and_kept(tmp_path: Path):
    write_json(tmp_path / "0 fusion.json", {"sets": {"seen": {"rows": run(20).tolist()}}})
    (rows,) = read_rows(tmp_path, "fusion", "seen", 1)
    save_rows(tmp_path / "result.json", {"fusion, seen, 0": rows})
    assert np.array_equal(np.load(tmp_path / "result.npz")["fusion, seen, 0"], run(20))
