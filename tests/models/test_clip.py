"""The pair of towers: the scale, video, and models without a text tower."""

import math
from dataclasses import replace

import pytest
import torch

from percept.core.errors import PerceptError
from percept.losses.contrastive import info_nce
from percept.models.clip import CLIP
from percept.models.config import ClipConfig
from tests.models.small import VISION, clip, images, texts


def test_forward_returns_unit_vectors_and_the_scale() -> None:
    model, image, ids = clip(), images(), texts()
    both = model(image, ids)
    assert torch.equal(both.image, model.embed_image(image))
    assert torch.equal(both.text, model.embed_text(ids))
    assert float(both.scale.detach()) == pytest.approx(1 / 0.07)
    assert model(image).text is None
    assert model(tokens=ids).image is None
    assert torch.equal(model(tokens=ids).text, both.text)
    dense = CLIP(ClipConfig(vision=VISION))
    assert dense(image).scale is None
    with pytest.raises(PerceptError, match="nothing to encode"):
        model()
    with pytest.raises(PerceptError, match="no text tower"):
        dense(image, ids)


def test_forward_runs_hooks_and_reaches_every_parameter() -> None:
    model, calls = clip(layer_scale=0.1), []
    model.register_forward_hook(lambda *_: calls.append(1))
    out = model(images(), texts())
    info_nce(out.image, out.text, out.scale).backward()
    assert calls == [1]
    unreached = [name for name, one in model.named_parameters() if one.grad is None or not one.grad.any()]
    assert unreached == []


def test_vectors_have_length_1_in_float32_even_from_bfloat16() -> None:
    model = clip().bfloat16()
    for vectors in (model.embed_image(images()), model.embed_text(texts())):
        assert vectors.dtype == torch.float32
        torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(3))


def test_the_scale_is_clamped_at_100() -> None:
    model = clip().requires_grad_(False)
    assert model.log_scale is not None
    model.log_scale.fill_(math.log(50))
    assert float(model.scale()) == pytest.approx(50)
    model.log_scale.fill_(7.0)
    assert float(model.scale()) == pytest.approx(100)
    model.reset_parameters()
    assert float(model.scale()) == pytest.approx(1 / 0.07)


def test_nothing_in_is_nothing_out() -> None:
    model = clip()
    assert model.embed_image(images(0)).shape == model.embed_text(texts(0)).shape == (0, 12)


def test_video_is_the_mean_over_its_frames() -> None:
    model, frames = clip(), torch.randn(2, 3, 3, 16, 16)
    plain, unit = model.encode_video(frames), model.encode_video(frames, normalize=True)
    for row in range(2):
        torch.testing.assert_close(plain[row], model.encode_image(frames[row]).mean(dim=0))
        torch.testing.assert_close(unit[row], model.embed_image(frames[row]).mean(dim=0))
    assert bool((unit.norm(dim=-1) < 1).all())  # the mean is not scaled to length 1, as published


def test_a_vision_only_model_says_what_it_lacks() -> None:
    dense = CLIP(ClipConfig(vision=replace(VISION, pool="none", output_dim=None)))
    for call in (lambda: dense.encode_text(texts()), dense.scale):
        with pytest.raises(PerceptError, match="no text tower"):
            call()
    with pytest.raises(PerceptError, match="tokens, not one vector"):
        dense.encode_image(images())
    assert not [name for name in dense.state_dict() if not name.startswith("vision.")]


def test_vectors_of_packed_pictures() -> None:
    model, given = clip(), [images(2), images(1, 8, 20), images(3, 20, 8)]
    together = model.encode_packed(given)
    torch.testing.assert_close(
        together, torch.cat([model.encode_image(batch) for batch in given]), atol=1e-5, rtol=1e-5
    )
    with pytest.raises(PerceptError, match="tokens, not one vector"):
        model.cut(0).encode_packed(given)


def test_a_cut_pair_is_the_beginning_of_its_vision_tower() -> None:
    model, image = clip(), images()
    short = model.cut(-2)
    assert (short.text, short.log_scale, short.training) == (None, None, False)
    assert short.config.vision.layers == len(short.vision.blocks) == 2
    assert torch.equal(short.vision(image).tokens, model.vision(image, layers=(1,)).hidden[1])
    own = {id(parameter) for parameter in model.parameters()}
    assert all(id(parameter) in own for parameter in short.parameters())
