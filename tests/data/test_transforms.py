"""Preprocessing: the same pixels as Pillow, exact numbers after normalising, a faithful preprocess.json."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from percept.core.errors import PerceptError
from percept.data.transforms import Preprocess


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


@pytest.mark.parametrize("way", ["squash", "crop", "pad"])
def test_json_round_trip(way: str, tmp_path: Path) -> None:
    preprocess = Preprocess(size=(64, 96), resize=way, mean=(0.48, 0.45, 0.4))
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
    with pytest.raises(PerceptError, match="no preprocessing"):
        Preprocess.load(tmp_path / "p.json")
