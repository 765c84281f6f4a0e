"""Images in their own shapes: every way to resize through the encoder, and batches of remainders of a shape."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import percept
from percept import PerceptError
from percept.infer import encoder as encoder_module
from percept.infer.encoder import Encoder
from percept.infer.runner import batches
from tests.infer import tiny


def photo(seed: int, width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


SIZES = [(30, 20), (20, 30), (24, 24), (90, 20), (30, 20), (9, 9), (61, 47), (30, 20), (20, 31)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("way", ["squash", "crop", "pad", "keep", "native"])
def test_pictures_together_are_as_each_alone(way, dtype):
    one = tiny.encoder(dtype=dtype, batch=4).resizing(way)
    photos = [photo(seed, *size) for seed, size in enumerate(SIZES)]
    together, alone = one.image(photos), torch.cat([one.image(picture) for picture in photos])
    assert (together * alone).sum(dim=1).min() > (0.9999 if dtype == torch.float32 else 0.99)
    for row, picture in zip(one.hidden(photos, 0), photos, strict=True):
        pixels = one.preprocess(picture)
        assert row.grid == (pixels.shape[1] // 8, pixels.shape[2] // 8)
    assert (len({row.grid for row in one.hidden(photos, 0)}) > 1) == (way in ("keep", "native"))


def test_the_budget_of_native_holds_and_is_the_models_own_by_default():
    one = tiny.encoder()
    assert one.resizing("native").preprocess.tokens == 9
    small, large = one.resizing("native", tokens=6), one.resizing("native", tokens=100)
    assert next(small.hidden(photo(0, 300, 200))).grid == (2, 3)
    assert next(large.hidden(photo(0, 300, 200))).grid == (8, 12)
    assert next(large.hidden(photo(0, 24, 40))).grid == (5, 3)


def test_another_way_to_resize_shares_weights_and_texts():
    one = tiny.encoder()
    vector = one.text("a cup")
    other = one.resizing("keep")
    assert other.model is one.model
    assert torch.equal(other.text("a cup"), vector)
    assert one.preprocess.resize == "squash"
    assert other.resizing("squash").preprocess == one.preprocess


def test_large_photos_keep_enough_pixels_for_a_large_budget(tmp_path):
    Image.new("RGB", (1600, 1200), "red").save(tmp_path / "large.jpg")
    one = tiny.encoder().resizing("native", tokens=4800)
    assert next(one.hidden(tmp_path / "large.jpg")).grid == (60, 80)


def test_a_way_to_resize_is_kept_with_the_folder(tmp_path):
    tiny.folder(tmp_path / "model")
    asked = percept.load(tmp_path / "model", resize="native", tokens=12)
    assert (asked.preprocess.resize, asked.preprocess.patch, asked.preprocess.tokens) == ("native", 8, 12)
    asked.preprocess.save(tmp_path / "model" / "preprocess.json")
    again = percept.load(tmp_path / "model")
    assert again.preprocess == asked.preprocess
    photos = [photo(seed, *size) for seed, size in enumerate(SIZES)]
    assert torch.equal(again.image(photos), asked.image(photos))
    assert percept.load(tmp_path / "model", tokens=5).preprocess.tokens == 5
    assert percept.load(tmp_path / "model", resize="squash").preprocess == tiny.encoder().preprocess


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"resize": "nativ"}, "did you mean 'native'"),
        ({"tokens": 9}, "a budget for resize='native'"),
        ({"resize": "crop", "tokens": 9}, "a budget for resize='native'"),
        ({"resize": "native", "tokens": 0}, "at least 1 patch"),
        ({"image_size": 36}, "give 32 or 40"),
    ],
)
def test_impossible_settings_of_load(tmp_path, settings, words):
    with pytest.raises(PerceptError, match=words):
        percept.load(tiny.folder(tmp_path), **settings)


def test_preprocessing_of_other_patches_is_refused():
    one = tiny.encoder()
    with pytest.raises(PerceptError, match="patches of 6 pixels does not fit a model with patches of 8"):
        Encoder(one.model, preprocess=one.preprocess.resizing("keep", patch=6))


def test_a_preprocessed_picture_of_the_models_own_size_is_always_taken():
    one = tiny.encoder()
    one.preprocess = replace(one.preprocess, size=28)  # as of a model trained with pixels that no patch covers
    assert one.image(torch.randn(3, 28, 28)).shape == (1, tiny.DIM)
    with pytest.raises(PerceptError, match="does not divide"):
        one.image(torch.randn(3, 28, 29))


def shapes(sizes, size: int, most: int | None = None) -> list[list[tuple[tuple[int, ...], int]]]:
    tensors = [(number, torch.zeros(3, *shape)) for number, shape in enumerate(sizes)]
    return [[(tuple(batch.shape[2:]), len(batch)) for _, batch in group] for group in batches(tensors, size, most)]


def test_full_batches_run_alone_and_remainders_together():
    a, b, c = (8, 8), (8, 16), (16, 8)
    assert shapes([a, b, a, a, c, a], 4) == [[(a, 4)], [(b, 1), (c, 1)]]
    assert shapes([b, a, b, c, a, c, b], 4) == [[(a, 2)], [(b, 3)], [(c, 2)]]
    assert shapes([], 4) == []
    assert shapes([a, b, c, a], 4, most=2 * 64 + 128) == [[(a, 2), (b, 1)], [(c, 1)]]
    assert shapes([b, a], 4, most=1) == [[(a, 1)], [(b, 1)]]  # a single image is never too long
    assert shapes([a, b], 1) == [[(a, 1)], [(b, 1)]]


def test_rows_on_a_cpu_stay_short(monkeypatch):
    monkeypatch.setattr(encoder_module, "ROW_PATCHES", 12)
    one, passes = tiny.encoder(batch=8), []
    real = one.model.vision.packed
    monkeypatch.setattr(
        one.model.vision, "packed", lambda pack, **keys: passes.append(_patches(pack)) or real(pack, **keys)
    )
    one.image([torch.randn(3, *shape) for shape in ((24, 24), (8, 16), (8, 24), (16, 24), (24, 40), (8, 8))])
    assert passes == [1 + 2 + 3 + 6]  # the 9 and the 15 patches of the others run alone


def _patches(pack) -> int:
    return sum(len(batch) * batch[0, 0].numel() // 64 for batch in pack)


def test_a_different_way_to_resize_does_not_hash_the_weights():
    def hashed():
        raise AssertionError("the weights were hashed")

    encoder = Encoder(tiny.model(), preprocess=tiny.encoder().preprocess, weight_hashes=hashed)
    assert encoder.resizing("keep").preprocess.resize == "keep"
