"""The pair of towers: the training step in parts and whole, the scale, video, and models without a text tower."""

import math
from dataclasses import replace

import pytest
import torch

from percept.core.contracts import Batch, Embeds, Trainable
from percept.core.errors import PerceptError
from percept.losses.contrastive import info_nce
from percept.models.clip import CLIP
from percept.models.config import ClipConfig
from tests.models.small import VISION, clip, images, texts


def batch(count: int = 6) -> Batch:
    return Batch(image=images(count), tokens=texts(count))


def test_it_fulfils_the_contracts() -> None:
    model = clip()
    assert isinstance(model, Trainable)
    assert isinstance(model, Embeds)


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


def test_the_training_step_is_the_loss_of_the_two_sets_of_vectors() -> None:
    model, samples = clip().requires_grad_(False), batch()
    assert samples.image is not None
    assert samples.tokens is not None
    step = model.training_step(samples)
    image, text = model.embed_image(samples.image), model.embed_text(samples.tokens)
    torch.testing.assert_close(step["loss"], info_nce(image, text, torch.tensor(1 / 0.07)))
    assert float(step["scale"]) == pytest.approx(1 / 0.07)
    nearest = [max(range(6), key=lambda j, i=i: float(image[i] @ text[j])) for i in range(6)]
    assert float(step["batch_accuracy"]) == pytest.approx(sum(j == i for i, j in enumerate(nearest)) / 6)


@pytest.mark.parametrize("micro_tokens", [1, 20, 40, 10_000])
def test_parts_are_the_whole_in_loss_and_gradient(micro_tokens: int) -> None:
    model, samples = clip(), batch()
    found = []
    for tokens in (None, micro_tokens):
        model.micro_tokens = tokens
        model.zero_grad()
        loss = model.training_step(samples)["loss"]
        loss.backward()
        found.append((loss.detach(), {name: parameter.grad for name, parameter in model.named_parameters()}))
    (whole_loss, whole), (loss, parts) = found
    torch.testing.assert_close(loss, whole_loss)
    for name, gradient in whole.items():
        assert gradient is not None, name
        torch.testing.assert_close(parts[name], gradient, atol=1e-5, rtol=1e-4)


def test_the_gradient_reaches_every_parameter() -> None:
    model = clip(layer_scale=0.1)
    model.training_step(batch())["loss"].backward()
    unreached = [name for name, one in model.named_parameters() if one.grad is None or not one.grad.any()]
    assert unreached == []


def test_the_scale_is_clamped_at_100() -> None:
    model = clip().requires_grad_(False)
    assert model.log_scale is not None
    model.log_scale.fill_(math.log(50))
    assert float(model.scale()) == pytest.approx(50)
    model.log_scale.fill_(7.0)
    assert float(model.scale()) == pytest.approx(100)
    model.reset_parameters()
    assert float(model.scale()) == pytest.approx(1 / 0.07)


def test_a_scale_beyond_the_clamp_comes_back_and_learns_again() -> None:
    model = clip()
    assert model.log_scale is not None
    with torch.no_grad():
        model.log_scale.fill_(7.0)
    model.training_step(batch())["loss"].backward()
    assert float(model.log_scale.detach()) == pytest.approx(math.log(100))
    assert model.log_scale.grad is not None
    assert float(model.log_scale.grad) != 0


def test_a_picture_whose_text_comes_twice_is_right_with_either() -> None:
    samples = batch()
    tokens = samples.tensors()["tokens"][:1].expand(len(samples), -1)
    assert float(clip().eval().training_step(replace(samples, tokens=tokens))["batch_accuracy"]) == 1


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
