"""The contrastive task: its loss, its scale, its accuracy, and that parts change nothing."""

import math
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from percept.core.errors import PerceptError
from percept.data.batch import ImageText
from percept.losses.contrastive import info_nce
from percept.methods.pretraining.contrastive import Contrastive
from tests.models.small import clip, images, texts


def batch(count: int = 6) -> ImageText:
    return ImageText(image=images(count), tokens=texts(count))


def contrastive(micro_tokens: int | None = None) -> Contrastive:
    return Contrastive(Contrastive.Config(micro_tokens=micro_tokens), clip())


def test_the_step_is_the_loss_of_the_two_sets_of_vectors() -> None:
    task, samples = contrastive().requires_grad_(False), batch()
    values = task(samples)
    image, text = task.clip.embed_image(samples.image), task.clip.embed_text(samples.tokens)
    torch.testing.assert_close(values["loss"], info_nce(image, text, torch.tensor(1 / 0.07)))
    assert float(values["scale"]) == pytest.approx(1 / 0.07)
    nearest = [max(range(6), key=lambda j, i=i: float(image[i] @ text[j])) for i in range(6)]
    assert float(values["batch_accuracy"]) == pytest.approx(sum(j == i for i, j in enumerate(nearest)) / 6)


@pytest.mark.parametrize("micro_tokens", [1, 20, 40, 10_000])
def test_parts_are_the_whole_in_loss_and_gradient(micro_tokens: int) -> None:
    task, samples = contrastive(), batch()
    results = []
    for tokens in (None, micro_tokens):
        task.config = Contrastive.Config(micro_tokens=tokens)
        task.zero_grad()
        loss = task(samples)["loss"]
        loss.backward()
        results.append((loss.detach(), {name: parameter.grad for name, parameter in task.named_parameters()}))
    (whole_loss, whole), (loss, parts) = results
    torch.testing.assert_close(loss, whole_loss)
    for name, gradient in whole.items():
        assert gradient is not None, name
        torch.testing.assert_close(parts[name], gradient, atol=1e-5, rtol=1e-4)
    with pytest.raises(PerceptError, match="micro_tokens=0"):
        Contrastive.Config(micro_tokens=0)


def test_a_scale_beyond_the_clamp_comes_back_and_learns_again() -> None:
    task = contrastive()
    assert task.clip.log_scale is not None
    with torch.no_grad():
        task.clip.log_scale.fill_(7.0)
    task(batch())["loss"].backward()
    assert float(task.clip.log_scale.detach()) == pytest.approx(math.log(100))
    assert task.clip.log_scale.grad is not None
    assert float(task.clip.log_scale.grad) != 0


def test_an_image_whose_text_comes_twice_is_right_with_either() -> None:
    samples = batch()
    tokens = samples.tokens[:1].expand(len(samples), -1)
    assert float(contrastive().eval()(replace(samples, tokens=tokens))["batch_accuracy"]) == 1


class Largest(TorchDispatchMode):
    """Remembers the most elements that any result had."""

    most = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.most = max(self.most, result.numel())
        return result


def test_no_tensor_of_all_pairs_of_texts_is_made_for_the_accuracy() -> None:
    task, count = contrastive(), 64
    from percept.methods.contrast import contrast

    vectors, tokens = torch.randn(count, 12), texts(count)
    with torch.no_grad(), Largest() as largest:
        contrast(task.clip, vectors, vectors, tokens)
    assert largest.most == count**2
