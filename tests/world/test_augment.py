"""Augmentation: its bounds and shares, and that captions stay true."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from percept.core.errors import PerceptError
from percept.world import generate
from percept.world.augment import NONE, Augment, Draws, blurred, cropped, inked, lit
from percept.world.patches import ids_of

CPU = torch.device("cpu")
NO_GREY = np.zeros(0, dtype=np.int64)


def batch(count: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images and their pixel ids."""
    renderings = [generate(seed) for seed in range(count)]
    image = torch.from_numpy(np.stack([rendering.image for rendering in renderings])).permute(0, 3, 1, 2)
    return image, torch.from_numpy(np.stack([ids_of(rendering) for rendering in renderings]))


def plain(image: torch.Tensor) -> torch.Tensor:
    return image.float() / 127.5 - 1


def test_without_augmentation_images_are_only_scaled() -> None:
    image, ids = batch(4)
    torch.testing.assert_close(lit(image, ids, np.arange(4), NONE, Draws(0, CPU)), plain(image), atol=1e-6, rtol=0)


def test_the_same_seed_gives_the_same_images() -> None:
    image, ids = batch(8)
    one, again, other = (lit(image, ids, NO_GREY, Augment(), Draws(seed, CPU)) for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert -1 <= float(one.min()) < float(one.max()) <= 1


def test_different_backgrounds_do_not_change_things_and_printed_words() -> None:
    image, ids = batch()
    how = replace(NONE, behind=1.0)
    found = (lit(image, ids, NO_GREY, how, Draws(3, CPU)) - plain(image)).abs().amax(dim=1)
    assert float(found[ids != 0].max()) < 1e-5
    assert float((found[ids == 0] > 0.1).float().mean()) > 0.5
    touched = (lit(image, ids, NO_GREY, replace(NONE, behind=0.25), Draws(0, CPU)) - plain(image)).abs().amax((1, 2, 3))
    assert 3 <= int((touched > 0.01).sum()) <= 18


def test_inks_are_for_the_images_without_colours_only() -> None:
    image, ids = batch(6)
    found = (lit(image, ids, np.array([1, 4]), replace(NONE, inked=1.0), Draws(0, CPU)) - plain(image)).abs()
    assert [float(one.max()) > 0.1 for one in found] == [False, True, False, False, True, False]


def test_inked_lines_stay_clearly_apart_from_their_sheet_on_either_side() -> None:
    drawing = torch.ones(200, 3, 8, 8)
    drawing[:, :, 4] = 0
    draws = Draws(0, CPU)
    levels = inked(drawing, draws, draws.some(200, 1.0)).mean(dim=1)
    difference = levels[:, 0, 0] - levels[:, 4, 0]
    assert float(difference.abs().min()) > 0.2
    assert 60 < int((difference < 0).sum()) < 140  # light on dark as well


def test_shades_only_darken_and_blur_keeps_the_mean() -> None:
    image, ids = batch(10)
    shaded = lit(image, ids, NO_GREY, replace(NONE, shaded=1.0), Draws(0, CPU))
    assert float((shaded - plain(image)).max()) < 1e-5
    assert float((shaded - plain(image)).mean()) < -0.05
    soft = blurred(plain(image), torch.full((10,), 1.2))
    assert float((soft - plain(image)).mean().abs()) < 0.01
    assert float(soft.diff(dim=-1).abs().mean()) < 0.7 * float(plain(image).diff(dim=-1).abs().mean())


def test_blur_and_tint_change_images() -> None:
    image, ids = batch(6)
    soft = lit(image, ids, NO_GREY, replace(NONE, blurred=1.0), Draws(0, CPU))
    assert float(soft.diff(dim=-1).abs().mean()) < 0.8 * float(plain(image).diff(dim=-1).abs().mean())
    tinted = lit(image, ids, NO_GREY, replace(NONE, tint=0.3), Draws(0, CPU))
    gain = (tinted + 1).mean(dim=(2, 3)) / (plain(image) + 1).mean(dim=(2, 3))
    assert float(gain.std(dim=1).median()) > 0.05  # each channel by a factor of its own
    assert 0.69 < float(gain.min()) < float(gain.max()) < 1.31


def test_blur_is_a_gaussian_of_each_image_s_own_width() -> None:
    point = torch.zeros(2, 1, 15, 15)
    point[:, :, 7, 7] = 1
    narrow, wide = blurred(point, torch.tensor([0.5, 1.5]))[:, 0]
    for one, deviation in ((narrow, 0.5), (wide, 1.5)):
        assert float(one.sum()) == pytest.approx(1, abs=1e-4)
        assert float(one[7, 8] / one[7, 7]) == pytest.approx(float(np.exp(-0.5 / deviation**2)), abs=1e-4)


def test_images_and_ids_are_cropped_alike() -> None:
    _, ids = batch(3)
    pixels, numbers = cropped(ids[:, None].expand(-1, 3, -1, -1), ids, 48, 8, Draws(5, CPU))
    assert pixels.shape == (3, 3, 48, 48)
    near = (pixels[:, 0].float() - numbers.float()).abs()
    assert float((near <= 1).float().mean()) > 0.9


def test_impossible_shares_are_refused() -> None:
    with pytest.raises(PerceptError, match=r"blurred must be from 0 to 1, got 1\.5"):
        Augment(blurred=1.5)


@pytest.mark.parametrize("parts", [2, 3, 9])
def test_parts_of_a_batch_are_those_of_the_whole(parts: int) -> None:
    image, ids = batch(9)
    grey = np.array([0, 4, 8])
    whole = lit(image, ids, grey, Augment(), Draws(7, CPU))
    for part in range(parts):
        rows = slice(9 * part // parts, 9 * (part + 1) // parts)
        share = lit(image[rows], ids[rows], grey, Augment(), Draws(7, CPU, rows), 9)
        torch.testing.assert_close(share, whole[rows], atol=1e-6, rtol=0)
