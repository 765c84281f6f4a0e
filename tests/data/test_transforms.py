"""Preprocessing: the same pixels as Pillow, exact numbers after normalising, a faithful preprocess.json."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from percept.core.errors import PerceptError
from percept.data.transforms import RESIZES, Preprocess, native_grid, read_pixels


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("size", [(640, 480), (97, 31), (30, 200), (96, 96), (16, 16), (1, 1)])
@pytest.mark.parametrize("target", [96, (64, 112)])
def test_resizing_is_within_one_of_pillow(size: tuple[int, int], target: int | tuple[int, int]) -> None:
    image, preprocess = noise(*size), Preprocess(size=target)
    height, width = preprocess.shape
    expected = torch.from_numpy(np.array(image.resize((width, height), Image.Resampling.BILINEAR))).permute(2, 0, 1)
    given = preprocess(image)
    assert given.dtype == torch.uint8
    assert (given.int() - expected.int()).abs().max() <= 1


@pytest.mark.parametrize("resize", RESIZES)
def test_a_picture_brought_to_size_stays_as_it_is(resize: str) -> None:
    """An index keeps pictures at the model's size and has them preprocessed again."""
    random = np.random.default_rng(0)
    for tokens in (None, 100, 7) if resize == "native" else (None,):
        preprocess = Preprocess(size=96).resizing(resize, patch=8, tokens=tokens)
        for width, height in [(900, 4), (1, 1), *random.integers(1, 400, (100, 2)).tolist()]:
            once = preprocess(noise(width, height))
            again = preprocess(Image.fromarray(once.permute(1, 2, 0).contiguous().numpy()))
            assert torch.equal(once, again)


def test_crop_keeps_the_centre_and_the_aspect_ratio() -> None:
    image = Image.new("RGB", (200, 100), "black")
    image.paste("white", (50, 0, 150, 100))
    assert Preprocess(size=50, resize="crop")(image).float().mean() > 250
    assert Preprocess(size=(100, 50), resize="crop")(image).shape == (3, 100, 50)


def test_pad_keeps_the_whole_picture_between_grey() -> None:
    padded = Preprocess(size=50, resize="pad")(Image.new("RGB", (200, 100), "white"))
    assert padded[:, 12:38].float().mean() > 250
    assert padded[:, :12].unique().tolist() == [128]
    assert Preprocess(size=50, resize="pad")(Image.new("RGB", (4000, 1))).shape == (3, 50, 50)


def test_normalising_matches_the_formula_for_one_and_for_many() -> None:
    preprocess = Preprocess(size=8, mean=(0.1, 0.2, 0.3), std=(0.5, 1.0, 2.0))
    batch = preprocess.stack([noise(20, 10, seed) for seed in range(3)])
    values = preprocess.normalise(batch)
    assert values.dtype == torch.float32
    expected = (batch[1, 2].double() / 255 - 0.3) / 2.0
    assert torch.allclose(values[1, 2].double(), expected, atol=1e-6)
    assert torch.equal(preprocess.normalise(batch[1]), values[1])
    assert preprocess.stack([]).shape == (0, 3, 8, 8)


@pytest.mark.parametrize("way", RESIZES)
def test_json_round_trip(way: str, tmp_path: Path) -> None:
    preprocess = Preprocess(size=(64, 96), mean=(0.48, 0.45, 0.4)).resizing(way, patch=8)
    preprocess.save(tmp_path / "preprocess.json")
    again = Preprocess.load(tmp_path / "preprocess.json")
    assert again == preprocess
    assert hash(again) == hash(preprocess)


def test_mistakes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PerceptError, match="did you mean 'squash'"):
        Preprocess(size=8, resize="squish")
    with pytest.raises(PerceptError, match="positive"):
        Preprocess(size=0)
    with pytest.raises(PerceptError, match="this one is L"):
        Preprocess(size=8)(Image.new("L", (4, 4)))
    (tmp_path / "p.json").write_text('{"size": 8, "resise": "crop"}')
    with pytest.raises(PerceptError, match="did you mean 'resize'"):
        Preprocess.load(tmp_path / "p.json")
    (tmp_path / "p.json").write_text("[1]")
    with pytest.raises(PerceptError, match="holds no preprocessing"):
        Preprocess.load(tmp_path / "p.json")


@pytest.mark.parametrize(
    ("size", "grid"),
    [
        ((640, 480), (9, 12)),
        ((480, 640), (12, 9)),
        ((100, 100), (12, 12)),
        ((10, 8), (10, 12)),  # smaller pictures are enlarged
        ((4000, 1), (1, 12)),
    ],
)
def test_keep_fits_the_longer_side_and_rounds_both_to_patches(size: tuple[int, int], grid: tuple[int, int]) -> None:
    preprocess = Preprocess(size=96, resize="keep", patch=8)
    pixels = preprocess(noise(*size))
    assert pixels.shape == (3, 8 * grid[0], 8 * grid[1])
    assert preprocess.grid(size[1], size[0]) == grid
    assert Preprocess(size=(50, 99), resize="keep", patch=8)(noise(100, 100)).shape == (3, 48, 48)


def test_native_keeps_the_size_within_the_budget_and_the_aspect_ratio_beyond() -> None:
    preprocess = Preprocess(size=96, resize="native", patch=8)
    assert preprocess.tokens == 144
    image = noise(88, 104)
    assert torch.equal(preprocess(image), torch.from_numpy(np.array(image)).permute(2, 0, 1))  # 13 x 11 patches
    assert preprocess(noise(960, 960)).shape == (3, 96, 96)
    assert Preprocess(size=96, resize="native", patch=8, tokens=600)(noise(640, 480)).shape == (3, 168, 224)
    assert preprocess(noise(3, 2)).shape == (3, 8, 8)


@pytest.mark.parametrize("budget", [1, 2, 7, 144, 600])
def test_native_grids_stay_within_any_budget_and_near_the_aspect_ratio(budget: int) -> None:
    generator = np.random.default_rng(budget)
    for rows, columns in np.exp(generator.uniform(-3, 6, (300, 2))).tolist():
        down, across = native_grid(rows, columns, budget)
        assert down >= 1
        assert across >= 1
        assert down * across <= budget
        if min(down, across) >= 4:
            assert 0.7 < (down / across) / (rows / columns) < 1.43
            assert down * across > 0.6 * min(budget, rows * columns)
        assert native_grid(float(down), float(across), budget) == (down, across)  # once more changes nothing
        assert native_grid(columns, rows, budget) == (across, down) or down == across


@pytest.mark.parametrize("way", ["keep", "native"])
def test_resizing_to_whole_patches_twice_changes_nothing(way: str) -> None:
    preprocess = Preprocess(size=96).resizing(way, patch=8)
    for seed, size in enumerate([(640, 480), (97, 31), (30, 200), (96, 96), (500, 333)]):
        once = preprocess(noise(*size, seed=seed))
        again = preprocess(Image.fromarray(once.permute(1, 2, 0).numpy()))
        assert torch.equal(again, once)


def test_reach_is_what_a_shorter_side_can_use() -> None:
    assert Preprocess(size=(64, 96)).reach == 96
    assert Preprocess(size=96, resize="native", patch=8, tokens=1000).reach == 256


def test_going_back_to_a_fixed_shape_forgets_the_patches() -> None:
    plain = Preprocess(size=96)
    native = plain.resizing("native", patch=8, tokens=50)
    assert (native.patch, native.tokens) == (8, 50)
    assert native.resizing("squash", patch=8) == plain


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"resize": "keep"}, "need the side of the model's patches"),
        ({"resize": "squash", "patch": 8}, "the others take none"),
        ({"resize": "keep", "patch": 8, "tokens": 9}, "a budget for resize='native'"),
        ({"tokens": 9}, "a budget for resize='native'"),
        ({"resize": "native", "patch": 8, "tokens": 0}, "at least 1 patch"),
        ({"resize": "keep", "patch": 0}, "at least one patch"),
        ({"resize": "keep", "patch": 97}, "at least one patch"),
        ({"resize": "nativ", "patch": 8}, "did you mean 'native'"),
    ],
)
def test_impossible_settings_are_refused(settings: dict, words: str) -> None:
    with pytest.raises(PerceptError, match=words):
        Preprocess(size=96, **settings)


def test_pictures_in_their_own_shapes_are_no_batch() -> None:
    preprocess = Preprocess(size=96, resize="keep", patch=8)
    assert preprocess.stack([noise(20, 30), noise(40, 60)]).shape == (2, 3, 96, 64)
    with pytest.raises(PerceptError, match="different sizes"):
        preprocess.stack([noise(20, 30), noise(30, 20)])


@pytest.mark.parametrize("size", [(640, 480), (97, 31), (30, 200), (96, 96), (5000, 3), (3, 5000)])
def test_crop_gives_what_scaling_and_then_cutting_gives(size: tuple[int, int]) -> None:
    image, side = noise(*size), 24
    scale = side / min(size)
    width, height = (max(1, round(length * scale)) for length in size)
    whole = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - side) // 2, (height - side) // 2
    expected = np.asarray(whole.crop((left, top, left + side, top + side))).astype(int)
    given = Preprocess(size=side, resize="crop")(image).permute(1, 2, 0).numpy()
    assert np.abs(given - expected).max() <= 2


def test_reading_and_preprocessing_are_one_step(tmp_path: Path) -> None:
    path, preprocess = tmp_path / "a.png", Preprocess(size=16)
    noise(40, 30).save(path)
    assert torch.equal(read_pixels(path, preprocess), preprocess(noise(40, 30)))
    with pytest.raises(PerceptError, match="more than the 99 allowed"):
        read_pixels(path, preprocess, max_pixels=99)


@pytest.mark.parametrize("field", ["mean", "std"])
def test_a_mean_or_deviation_that_is_not_finite_is_refused(field: str) -> None:
    with pytest.raises(PerceptError, match="mean and std have to be finite"):
        replace(Preprocess(size=8), **{field: (0.5, float("nan"), 0.5)})
