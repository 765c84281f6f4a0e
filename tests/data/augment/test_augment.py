"""Views against naive arithmetic; boxes, points and masks against the pixels of what they belong to."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from percept.core.errors import PerceptError
from percept.data.augment import Augment, Masking, View, augmented, normalise_jittered
from percept.data.augment.view import jittered
from percept.data.transforms import Preprocess


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


def naive_jitter(pixels: np.ndarray, brightness: float, saturation: float) -> np.ndarray:
    """The equation, pixel by pixel, before rounding."""
    result = np.empty(pixels.shape)
    for y in range(pixels.shape[1]):
        for x in range(pixels.shape[2]):
            red, green, blue = (float(value) for value in pixels[:, y, x])
            grey = 0.299 * red + 0.587 * green + 0.114 * blue
            for channel, value in enumerate((red, green, blue)):
                changed = brightness * (saturation * value + (1 - saturation) * grey)
                result[channel, y, x] = min(255.0, max(0.0, changed))
    return result


@pytest.mark.parametrize(("brightness", "saturation"), [(1.0, 1.0), (0.7, 1.3), (1.32, 0.0), (1.3, 1.32), (0.68, 0.68)])
def test_jitter_is_its_equation(brightness: float, saturation: float) -> None:
    pixels = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (3, 5, 7), dtype=np.uint8))
    expected = naive_jitter(pixels.numpy(), brightness, saturation)
    found = jittered(pixels, brightness=brightness, saturation=saturation).numpy()
    assert np.abs(found - expected).max() <= 0.5 + 1e-3
    preprocess = Preprocess(size=(5, 7), mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25))
    out = torch.empty(3, 5, 7)
    normalise_jittered(pixels, preprocess, (brightness, saturation), out=out)
    mean, std = (np.array(value).reshape(3, 1, 1) for value in (preprocess.mean, preprocess.std))
    np.testing.assert_allclose(out.numpy(), (expected / 255 - mean) / std, atol=1e-5)


def test_no_jitter_normalises_as_without_augmentation() -> None:
    pixels = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (3, 8, 8), dtype=np.uint8))
    out = torch.empty(3, 8, 8)
    normalise_jittered(pixels, Preprocess(size=8), (1.0, 1.0), out=out)
    torch.testing.assert_close(out, Preprocess(size=8).normalise(pixels), atol=1e-6, rtol=0)


def test_a_view_is_crop_resize_and_flip() -> None:
    image = noise(90, 70)
    view = View(size=(90, 70), box=(10, 20, 70, 60), shape=(24, 32), flip=True)
    expected = image.crop((10, 20, 70, 60)).resize((32, 24), Image.Resampling.BILINEAR)
    expected = np.asarray(expected.transpose(Image.Transpose.FLIP_LEFT_RIGHT)).transpose(2, 0, 1)
    assert np.abs(view(image).numpy().astype(int) - expected.astype(int)).max() <= 1
    whole = View(size=(90, 70), box=(0, 0, 90, 70), shape=(24, 32))
    assert torch.equal(whole(image), Preprocess(size=(24, 32))(image))


def test_crops_have_the_shares_and_ratios_that_were_asked_for() -> None:
    augment = Augment()
    views = [augment.draw((500, 375), (224, 224), seed) for seed in range(2000)]
    boxes = np.array([view.box for view in views])
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    assert boxes.min() >= 0
    assert boxes[:, 2].max() <= 500
    assert boxes[:, 3].max() <= 375
    share, ratio = width * height / (500 * 375), width / height
    assert share.min() > 0.075
    assert share.max() <= 1
    rng = np.random.default_rng(0)
    wanted, aspect = rng.uniform(0.08, 1, 100_000), np.exp(rng.uniform(np.log(0.75), np.log(1.33), 100_000))
    fits = (wanted * 500 * 375 * aspect <= 500**2) & (wanted * 500 * 375 / aspect <= 375**2)
    np.testing.assert_allclose(
        np.quantile(share, [0.1, 0.5, 0.9]), np.quantile(wanted[fits], [0.1, 0.5, 0.9]), atol=0.03
    )
    assert abs(np.log(ratio).mean() - np.log(aspect[fits]).mean()) < 0.02
    assert ratio.min() > 0.74
    assert ratio.max() < 1.35
    assert abs(np.mean([view.flip for view in views]) - 0.5) < 0.04
    for name in ("brightness", "saturation"):
        values = np.array([getattr(view, name) for view in views])
        assert values.min() > 0.68
        assert values.max() < 1.32
        assert abs(values.mean() - 1) < 0.02
        assert values.std() == pytest.approx(0.64 / 12**0.5, rel=0.05)
    assert len({view.box for view in views}) > 1900


def test_crops_of_narrow_images_are_central_and_within_the_ratio() -> None:
    augment = Augment(scale=(1.0, 1.0))
    assert augment.draw((1000, 10), (8, 8), 0).box == (493, 0, 506, 10)
    assert augment.draw((10, 1000), (8, 8), 0).box == (0, 493, 10, 506)
    assert augment.draw((1, 1), (8, 8), 0).box == (0, 0, 1, 1)


def test_boxes_follow_the_pixels_of_what_they_enclose() -> None:
    augment = Augment(brightness=0.0, saturation=0.0)
    found = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        left, top = rng.integers(0, 250), rng.integers(0, 180)
        right, bottom = left + rng.integers(30, 120), top + rng.integers(30, 120)
        image = Image.new("RGB", (320, 240), "black")
        image.paste((255, 255, 255), (int(left), int(top), int(right), int(bottom)))
        view = augment.draw(image.size, (96, 128), seed)
        bright = view(image)[0] > 127
        box = torch.tensor([[left, top, min(right, 320), min(bottom, 240)]], dtype=torch.float32)
        boxes = view.boxes(box)
        if not boxes.kept[0]:
            assert not bright.any()
            continue
        found += 1
        rows, columns = torch.nonzero(bright.any(1))[:, 0], torch.nonzero(bright.any(0))[:, 0]
        if not len(rows):  # less than half a pixel is left
            assert (boxes.xyxy[0, 2:] - boxes.xyxy[0, :2]).min() < 1
            continue
        measured = torch.stack([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]).float()
        assert (measured - boxes.xyxy[0]).abs().max() <= 1
        mask = np.zeros((240, 320), dtype=bool)
        mask[top:bottom, left:right] = True
        moved = view.masks(torch.from_numpy(mask)[None])
        assert (moved.mask[0] != bright).float().mean() < 0.02  # only pixels at the edge differ
        share = float((boxes.xyxy[0, 2] - boxes.xyxy[0, 0]) * (boxes.xyxy[0, 3] - boxes.xyxy[0, 1])) / (96 * 128)
        assert share == pytest.approx(float(bright.float().mean()), abs=0.02)
    assert found > 30


def test_visible_is_the_share_of_a_box_that_is_left() -> None:
    view = View(size=(100, 100), box=(50, 0, 100, 50), shape=(50, 50))
    boxes = torch.tensor([[40.0, 10, 60, 20], [60, 10, 70, 20], [0, 0, 20, 20], [50, 0, 50, 10]])
    found = view.boxes(boxes)
    assert found.kept.tolist() == [True, True, False, False]
    assert found.visible.tolist() == [0.5, 1.0]
    assert found.xyxy.tolist() == [[0, 10, 10, 20], [10, 10, 20, 20]]
    assert view.boxes(boxes, least=0.5).kept.tolist() == [False, True, False, False]
    flipped = dataclasses.replace(view, flip=True)
    assert flipped.boxes(boxes).xyxy.tolist() == [[40, 10, 50, 20], [30, 10, 40, 20]]
    with pytest.raises(PerceptError, match="least must be"):
        view.boxes(boxes, least=1.0)


def test_points_follow_the_pixels_under_them() -> None:
    augment = Augment(brightness=0.0, saturation=0.0, scale=(0.3, 1.0))
    inside = 0
    for seed in range(40):
        x, y = np.random.default_rng(seed).integers(20, 200, 2)
        image = Image.new("RGB", (240, 220), "black")
        image.paste((255, 255, 255), (int(x) - 6, int(y) - 6, int(x) + 6, int(y) + 6))
        view = augment.draw(image.size, (64, 80), seed)
        points = view.points(torch.tensor([[float(x), float(y)]]))
        column, row = points.xy[0].tolist()
        if points.inside[0]:
            inside += 1
            assert view(image)[0, int(row), int(column)] > 127
        else:
            assert not (0 <= column < 80 and 0 <= row < 64)
    assert inside > 10


def test_masks_of_the_wrong_size_are_refused_and_empty_ones_dropped() -> None:
    view = View(size=(10, 8), box=(0, 0, 5, 4), shape=(4, 5))
    masks = torch.zeros(2, 8, 10, dtype=torch.bool)
    masks[0, 1, 2], masks[1, 7, 9] = True, True
    found = view.masks(masks)
    assert found.kept.tolist() == [True, False]
    assert torch.nonzero(found.mask[0]).tolist() == [[1, 2]]
    with pytest.raises(PerceptError, match="10 × 8"):
        view.masks(masks[:, :4])


def test_a_large_jpeg_is_decoded_at_a_fraction_and_the_crop_stays_where_it_is(tmp_path: Path) -> None:
    image = noise(1600, 1200)
    image.paste((255, 0, 0), (400, 300, 1000, 800))
    image.save(tmp_path / "a.jpg", quality=95)
    augment = Augment(scale=(0.5, 0.9), brightness=0.0, saturation=0.0)
    for seed in range(6):
        views = {
            draft: augmented(tmp_path / "a.jpg", Preprocess(size=64, draft=draft), augment, seed).pixels[0]
            for draft in (0, 4)
        }
        assert (views[0].int() - views[4].int()).abs().float().mean() < 4


def test_views_and_masks_are_drawn_independently() -> None:
    augment = Augment(views=3, mask=Masking(patch=8, ratio=0.4))
    views = augment.draws((100, 80), (64, 64), 5)
    assert len(set(views)) == 3
    hidden = augment.hidden((64, 64), 5)
    assert hidden is not None
    assert hidden.shape == (3, 64)
    assert hidden.sum(axis=1).tolist() == [26, 26, 26]
    assert (hidden[0] != hidden[1]).any()
    assert Augment().hidden((64, 64), 5) is None


def test_masks_hide_whole_blocks_and_every_patch_equally_often() -> None:
    masking = Masking(patch=4, ratio=0.75, block=2)
    drawn = np.stack([masking.draw((32, 48), seed) for seed in range(400)]).reshape(-1, 8, 12)
    blocks = drawn.reshape(-1, 4, 2, 6, 2)
    assert (blocks == blocks[:, :, :1, :, :1]).all()
    assert set(drawn.sum(axis=(1, 2)).tolist()) == {72}
    assert np.abs(drawn.mean(axis=0) - 0.75).max() < 0.1


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"scale": (0.0, 1.0)}, "scale"),
        ({"scale": (0.9, 0.5)}, "scale"),
        ({"ratio": (0.0, 1.0)}, "ratio"),
        ({"brightness": 1.5}, "brightness"),
        ({"flip": -0.1}, "flip"),
        ({"views": 0}, "views"),
    ],
)
def test_wrong_settings_are_named(settings: dict, words: str) -> None:
    with pytest.raises(PerceptError, match=words):
        Augment(**settings)


def test_wrong_masks_are_named() -> None:
    with pytest.raises(PerceptError, match="ratio"):
        Masking(patch=8, ratio=1.0)
    with pytest.raises(PerceptError, match="at least 1"):
        Masking(patch=8, block=0)
    with pytest.raises(PerceptError, match="whole blocks of 16"):
        Augment(mask=Masking(patch=8, block=2)).check(Preprocess(size=40))
    with pytest.raises(PerceptError, match="hides 0 of 1"):
        Augment(mask=Masking(patch=16)).check(Preprocess(size=16))
    with pytest.raises(PerceptError, match="squash"):
        Augment().check(Preprocess(size=32, resize="crop"))
