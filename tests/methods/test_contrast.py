"""Parts of a batch that are computed again in the backward pass, and the forms of the contrastive loss."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from percept.core.errors import PerceptError
from percept.data.batch import ImageText
from percept.methods import contrast as module
from percept.methods.contrast import contrast, encode_images, encode_parts, encode_texts
from percept.methods.pretraining.contrastive import Contrastive
from percept.models.clip import CLIP
from tests.models.small import clip, images, texts

COUNT, PARTS = 32, 16


def model() -> CLIP:
    """A model in training mode that drops branches."""
    torch.manual_seed(0)
    return clip(drop_path=0.4).train()


def dropped(model: CLIP) -> Callable[[Tensor], Tensor]:
    """Return a function that encodes images without a random half of their patches."""

    def encode(image: Tensor) -> Tensor:
        pooled = model.vision(image, keep=torch.randperm(16)[:8].sort().values).pooled
        assert pooled is not None
        return pooled

    return encode


def gradients(recompute: bool) -> tuple[Tensor, dict[str, Tensor], int]:
    """Return loss, gradients, and the number of elements stored for the backward pass outside parts that are computed again."""
    towers, image, tokens = model(), images(COUNT), texts(COUNT)
    stored = 0

    def pack(tensor: Tensor) -> Tensor:
        nonlocal stored
        stored += tensor.numel()
        return tensor

    torch.manual_seed(1)
    with saved_tensors_hooks(pack, lambda tensor: tensor):
        seen = encode_parts(dropped(towers), image, COUNT // PARTS, recompute=recompute)
        read = encode_texts(towers, tokens, COUNT // PARTS * tokens.shape[1], recompute)
        loss = contrast(towers, seen, read, tokens)["loss"]
    loss.backward()
    return loss.detach(), {n: p.grad for n, p in towers.named_parameters() if p.grad is not None}, stored


def test_16_parts_computed_again_have_the_same_gradients_with_dropped_branches_and_patches() -> None:
    torch.manual_seed(5)
    plain = gradients(recompute=False)
    torch.manual_seed(5)
    again = gradients(recompute=True)
    assert torch.equal(plain[0], again[0])
    assert plain[1].keys() == again[1].keys() == {name for name, _ in model().named_parameters()}
    for name, gradient in plain[1].items():
        torch.testing.assert_close(again[1][name], gradient, atol=1e-7, rtol=1e-5)
    assert again[2] < plain[2] / 10


def test_parts_computed_again_are_the_whole_batch() -> None:
    towers, image, tokens = clip().train(), images(COUNT), texts(COUNT)
    results = []
    for limit, recompute in ((None, False), (2 * 16, True), (None, True)):
        towers.zero_grad()
        seen = encode_images(towers, image, limit, recompute)
        loss = contrast(towers, seen, encode_texts(towers, tokens, limit, recompute), tokens)["loss"]
        loss.backward()
        results.append({name: parameter.grad for name, parameter in towers.named_parameters()})
    for other in results[1:]:
        for name, gradient in results[0].items():
            assert gradient is not None
            torch.testing.assert_close(other[name], gradient, atol=1e-5, rtol=1e-4)


def test_random_numbers_after_the_parts_are_not_affected() -> None:
    drawn = []
    for recompute in (False, True):
        gradients(recompute)
        drawn.append(torch.rand(3))
    assert torch.equal(*drawn)


def test_without_gradients_nothing_is_kept() -> None:
    towers, image = clip(), images(4)
    with torch.no_grad():
        torch.testing.assert_close(encode_images(towers, image, 16, True), towers.encode_image(image))


def test_auto_is_dense_up_to_a_number_of_logits_and_tiled_above(monkeypatch: pytest.MonkeyPatch) -> None:
    towers, vectors, tokens = clip(), torch.randn(6, 12), texts(6)
    called = []
    for name in ("info_nce_rows", "info_nce_rows_tiled"):
        loss = getattr(module, name)
        monkeypatch.setattr(
            module, name, lambda *given, loss=loss, name=name, **options: called.append(name) or loss(*given, **options)
        )
    values = [contrast(towers, vectors, vectors.flip(0), tokens, form=form) for form in ("auto", "dense", "tiled")]
    monkeypatch.setattr(module, "DENSE_LOGITS", 35)
    values.append(contrast(towers, vectors, vectors.flip(0), tokens))
    assert called == ["info_nce_rows", "info_nce_rows", "info_nce_rows_tiled", "info_nce_rows_tiled"]
    for value in values[1:]:
        torch.testing.assert_close(value, values[0])


def test_the_sigmoid_form_learns_its_bias() -> None:
    task = Contrastive(Contrastive.Config(form="sigmoid"), clip())
    values = task(ImageText(image=images(6), tokens=texts(6)))
    values["loss"].backward()
    assert task.bias is not None
    assert float(task.bias.detach()) == -10
    assert task.bias.grad is not None
    assert float(task.bias.grad) != 0
    assert 0 <= float(values["batch_accuracy"]) <= 1
    with pytest.raises(PerceptError, match="Pass it as `bias`"):
        contrast(task.clip, torch.randn(2, 12), torch.randn(2, 12), texts(2), form="sigmoid")
    with pytest.raises(PerceptError, match="'tiled'"):
        Contrastive.Config(form="tile")
