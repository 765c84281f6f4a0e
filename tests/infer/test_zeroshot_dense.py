"""Texts at places of an image: the value path against the pooling head, windows, towers of several kinds, and the background."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from percept.core.errors import PerceptError
from percept.data.transforms import Preprocess
from percept.infer.encoder import Encoder
from percept.infer.zeroshot_dense import (
    ELSEWHERE,
    heat,
    is_weak,
    label_maps,
    patch_vectors,
    pooled_patches,
    segment,
    shown,
    text_maps,
    windows,
)  # fmt: skip
from percept.models.clip import CLIP
from percept.nn.context import Context
from tests.infer import tiny


def pixels(seed: int = 0, size: tuple[int, int] = (30, 40)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))


def encoder_of(**changes) -> Encoder:
    config = tiny.config()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = CLIP(replace(config, vision=replace(config.vision, **changes))).eval()
    return Encoder(model, preprocess=Preprocess(size=tiny.SIZE), tokenizer=tiny.tokenizer(), name="tiny")


def test_a_patch_gets_what_pooling_over_it_alone_gives() -> None:
    encoder = encoder_of()
    tower, batch = encoder.model.vision, torch.randn(2, 3, 24, 24)
    with torch.no_grad():
        found = pooled_patches(tower, batch)
        out = tower(batch, pool=False)
        weights = torch.zeros(2, 9, out.tokens.shape[1])
        weights[:, torch.arange(9), torch.arange(9) + out.prefix] = 1
        expected = tower.pool_regions(out.tokens, weights)
    assert found.shape == (2, 3, 3, tiny.DIM)
    torch.testing.assert_close(found.flatten(1, 2), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(patch_vectors(encoder, batch), F.normalize(found, dim=-1))


def test_the_last_block_of_a_class_token_tower_does_not_mix() -> None:
    encoder = encoder_of(pool="class")
    tower, batch = encoder.model.vision, torch.randn(1, 3, 24, 24)
    with torch.no_grad():
        found = pooled_patches(tower, batch)
        before = tower(batch, layers=(-2,), pool=False).hidden[-2]
        lone = tower.blocks[-1](before[:, 5:6], Context())  # a token that attends to itself, whatever its place
        expected = tower.norm_post(lone) @ tower.projection
    torch.testing.assert_close(found.flatten(1, 2)[:, 4], expected[:, 0], atol=1e-5, rtol=1e-4)


def test_a_tower_that_averages_projects_each_token() -> None:
    encoder = encoder_of(pool="average")
    tower, batch = encoder.model.vision, torch.randn(1, 3, 24, 24)
    with torch.no_grad():
        out = tower(batch, pool=False)
        expected = out.tokens[:, out.prefix :] @ tower.projection
        torch.testing.assert_close(pooled_patches(tower, batch).flatten(1, 2), expected)


@pytest.mark.parametrize("length", [3, 4, 6, 7, 11])
def test_windows_cover_every_patch(length: int) -> None:
    starts = windows(length, 3)
    covered = {start + place for start in starts for place in range(3)}
    assert covered == set(range(length))
    assert max(np.diff(starts), default=0) <= 2


def test_one_window_of_a_square_image_is_the_image_itself() -> None:
    encoder, image = encoder_of(), pixels(size=(24, 24))
    texts = encoder.text(["a dog", "a cup"])
    maps = text_maps(encoder, image, texts, levels=(1.0,))
    vectors = patch_vectors(encoder, encoder.prepare(image)[None])[0]
    torch.testing.assert_close(maps, torch.einsum("hwd,cd->chw", vectors, texts), atol=1e-5, rtol=1e-4)
    assert text_maps(encoder, pixels(), texts, levels=(1.0, 2.0)).shape == (2, 6, 8)


def test_segmenting_equals_a_loop_over_pixels() -> None:
    encoder, image = encoder_of(), pixels()
    found = segment(encoder, image, ["cup", "background", "dog"], sure=0.4, levels=(1.0,))
    texts = torch.cat([_averaged(encoder, name) for name in ("cup", "dog")] + [encoder.text(list(ELSEWHERE))])
    shares = (encoder.scale * text_maps(encoder, image, texts, (1.0,))).softmax(0)[:2]
    large = F.interpolate(shares[None], (30, 40), mode="bilinear", align_corners=False)[0]
    for y, x in ((0, 0), (7, 31), (29, 39)):
        values = large[:, y, x].tolist()
        expected = 1 if max(values) < 0.4 else (0, 2)[values.index(max(values))]
        assert found.numbers[y, x] == expected
    assert sum(found.share(label) for label in found.labels) == pytest.approx(1)


def _averaged(encoder: Encoder, name: str) -> torch.Tensor:
    texts = [f"a picture of a {name}", f"a photo of a {name}", f"a {name}"]
    return F.normalize(encoder.text(texts).mean(0, keepdim=True), dim=-1)


def test_without_background_every_pixel_has_a_label() -> None:
    encoder = encoder_of()
    maps, names = label_maps(encoder, pixels(), ["cup", "dog"])
    assert names == ["cup", "dog"]
    torch.testing.assert_close(maps.sum(0), torch.ones_like(maps[0]))
    assert set(np.unique(segment(encoder, pixels(), ["cup", "dog"]).numbers)) <= {0, 1}


def test_heat_is_the_difference_to_plain_texts() -> None:
    encoder = encoder_of()
    values = heat(encoder, pixels(), "a red cup")
    assert values.shape == (6, 8)


def test_heat_maps_have_one_scale_and_a_weak_one_stays_dark() -> None:
    encoder = encoder_of()
    unit = 1 / encoder.scale
    strong, weak = (torch.tensor([[0.0, 0, 0, most * unit]]) for most in (28, 7))
    one, other = shown(encoder, [strong, weak])
    assert (float(one.max()), float(other.max())) == (pytest.approx(1), pytest.approx(0.25))
    assert float(shown(encoder, [weak])[0].max()) == pytest.approx(0.5)  # alone it is not light either
    assert not shown(encoder, [torch.zeros(2, 3)])[0].any()
    assert [is_weak(encoder, most * unit) for most in (7, 28)] == [True, False]


def test_what_is_refused() -> None:
    encoder = encoder_of()
    with pytest.raises(PerceptError, match="only label is background"):
        segment(encoder, pixels(), ["background"])
    with pytest.raises(PerceptError, match="no vectors"):
        segment(tiny.encoder(text=False), pixels(), ["cup"])
    with pytest.raises(PerceptError, match="text is empty"):
        heat(encoder, pixels(), "  ")
