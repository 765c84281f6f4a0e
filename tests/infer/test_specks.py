"""Connected parts of masks, and the removal of small ones in tracking and segmentation."""

import numpy as np
import pytest
import torch

from percept.infer.masks import connected, object_masks
from percept.infer.specks import parts, without_specks
from percept.infer.tracking import track
from tests.infer import tiny


@pytest.mark.parametrize("size", [(7, 9), (30, 41), (1, 6), (6, 1)])
def test_parts_equal_a_flood_fill(size: tuple[int, int]) -> None:
    mask = np.random.default_rng(0).random(size) < 0.6
    numbers = parts(mask)
    assert ((numbers > 0) == mask).all()
    for number in range(1, numbers.max() + 1):
        seed = int(np.flatnonzero(numbers == number)[0])
        assert (connected(torch.from_numpy(mask), seed).numpy() == (numbers == number)).all()


def test_only_parts_far_smaller_than_the_largest_are_removed() -> None:
    mask = np.zeros((30, 30), bool)
    mask[2:12, 2:12] = True  # 100 pixels
    mask[20, 20:22] = True  # 2 % are kept
    mask[25, 25] = True
    kept = without_specks(mask)
    assert (kept[:25] == mask[:25]).all()
    assert not kept[25:].any()
    assert not without_specks(np.zeros((3, 3), bool)).any()


def with_speck(*_: object) -> np.ndarray:
    mask = np.zeros((32, 48), np.int64)
    mask[8:24, 8:24], mask[30, 45], mask[2, 30:40] = 1, 1, 2  # a speck of the first object; the second one is whole
    return mask


def test_tracks_have_no_specks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("percept.infer.tracking.hardened", lambda *_: torch.from_numpy(with_speck()))
    first = with_speck().astype(np.uint8)
    found = list(track(tiny.encoder(), [np.zeros((32, 48, 3), np.uint8)] * 2, first, patches=6))
    assert (found[0] == first).all()  # the given mask stays as it is
    assert found[1][30, 45] == 0
    assert (found[1][:30] == first[:30]).all()


def test_objects_have_no_specks(monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.from_numpy(with_speck() == 1).float() - 0.5
    monkeypatch.setattr("percept.infer.masks.object_maps", lambda *_: [values])
    (mask,) = object_masks(tiny.encoder(), np.zeros((32, 48, 3), np.uint8), patches=6, size=(32, 48))
    assert mask.sum() == 16 * 16
