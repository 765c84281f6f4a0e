"""Windows around single things: where they lie, what they are called, and that they show the thing."""

import numpy as np
import pytest
import torch

from percept.world import generate, held_out, shows_colour
from percept.world.regions import LEAST_SIDE, LEAST_VISIBLE, MARGINS, cut, regions_of, window, windows

BOXES = ([0.4, 0.4, 0.6, 0.5], [0.0, 0.0, 0.3, 0.9], [0.7, 0.8, 1.0, 1.0], [0.05, 0.1, 0.95, 0.9])


@pytest.mark.parametrize("loose", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("box", BOXES)
def test_a_window_covers_its_box_and_lies_in_the_image(box: list[float], loose: float) -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        left, top, side = window(box, loose, rng)
        assert -1e-9 <= left <= box[0] + 1e-9
        assert -1e-9 <= top <= box[1] + 1e-9
        assert max(box[2] - left, box[3] - top) <= side + 1e-9
        assert max(left, top) + side <= 1 + 1e-9


def test_tight_windows_have_the_thing_in_the_middle_and_loose_ones_anywhere() -> None:
    rng, box = np.random.default_rng(0), [0.4, 0.4, 0.6, 0.6]
    found = {
        loose: np.array(
            [[left + side / 2 - 0.5, side] for left, _, side in (window(box, loose, rng) for _ in range(200))]
        )
        for loose in (0.0, 1.0)
    }
    assert abs(found[0.0][:, 0]).max() < 1e-6
    assert found[1.0][:, 0].min() < -0.05 < 0.05 < found[1.0][:, 0].max()
    assert found[0.0][:, 1].max() <= 0.2 * MARGINS[1] < found[1.0][:, 1].max() <= 0.2 * MARGINS[2]


def test_regions_are_the_things_that_show_and_their_names_are_true() -> None:
    left_out = 0
    for seed in range(60):
        rendering = generate(seed, style="mixed")
        found = regions_of(rendering)
        good = [
            index
            for index, (box, visible) in enumerate(zip(rendering.boxes, rendering.visible, strict=True))
            if visible >= LEAST_VISIBLE
            and min(box[2] - box[0], box[3] - box[1]) >= LEAST_SIDE
            and not held_out(rendering.scene.things[index].category, rendering.scene.things[index].colour, "alone")
        ]
        left_out += len(rendering.boxes) - len(good)
        assert len(found) == len(good)
        for index, (box, (kind, colour, pattern)) in zip(good, found, strict=True):
            thing = rendering.scene.things[index]
            assert box == pytest.approx(rendering.boxes[index].tolist(), abs=1e-4)
            assert kind.split(" ", 1)[1] == thing.category
            assert (thing.colour in colour.split()) == shows_colour(rendering.scene)
            assert pattern.endswith(colour.split(" ", 1)[1])
            assert ("striped" in pattern) == (thing.fill == "striped")
    assert left_out > 0


def test_a_window_shows_the_pixels_of_its_thing() -> None:
    image = np.zeros((96, 96, 3), np.uint8)
    image[20:40, 50:80] = (10, 200, 30)
    box = np.array([[50 / 96, 20 / 96, 80 / 96, 40 / 96]], np.float32)
    ids = np.ascontiguousarray(image[..., 2] // 30)
    for loose in (0.0, 1.0):
        where = windows(box, loose, np.random.default_rng(1))
        shown, numbered = cut(_batch(image), torch.from_numpy(ids)[None], where, 48)
        assert float((numbered[0].bool() == (shown[0, 1] > 100)).float().mean()) > 0.97
        assert shown.shape == (1, 3, 48, 48)
        share = float((shown[0, 1] > 150).float().mean())
        whole = float((shown[0, 1, [0, -1]] > 150).float().mean())
        assert 0.1 < share < 0.7
        assert whole == 0  # nothing of it touches the upper or lower border


def test_images_that_are_not_square_are_cut_in_their_own_shares() -> None:
    image = np.zeros((48, 96, 3), np.uint8)
    image[:, 60:] = 255
    box = np.array([[0.7, 0.2, 0.9, 0.8]], np.float32)
    where = windows(box, 0.0, np.random.default_rng(0))
    shown, _ = cut(_batch(image), torch.from_numpy(image[..., 0].copy())[None], where, 32)
    assert float(shown[..., 31].float().mean()) == 255


def _batch(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)[None]
