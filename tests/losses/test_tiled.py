"""Losses in tiles against their dense forms and against loops."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from percept.losses.contrastive import info_nce, info_nce_rows
from percept.losses.distillation import distillation_loss
from percept.losses.sigmoid import sigmoid_loss
from percept.losses.tiled import info_nce_rows_tiled, info_nce_tiled
from tests.losses.oracle import BIAS, SCALES, check, inputs, reference


def vectors(count: int, dim: int = 6, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, dim, generator=generator), dim=1).requires_grad_()


@pytest.mark.parametrize("tile", [1, 3, 7, 64])
@pytest.mark.parametrize("scale", [1.0, 20.0, 100.0])
def test_the_loss_and_its_gradients_are_those_of_the_dense_form(tile: int, scale: float) -> None:
    results = []
    for loss in (info_nce, lambda *given: info_nce_tiled(*given, tile=tile)):
        image, text, factor = vectors(11), vectors(11, seed=1), torch.tensor(scale, requires_grad=True)
        value = loss(image, text, factor)
        (3 * value).backward()
        results.append([value.detach(), image.grad, text.grad, factor.grad])
    for ours, theirs in zip(*results, strict=True):
        assert float((ours - theirs).abs().max()) <= 1e-5 * max(1.0, float(theirs.abs().max()))


def test_autocast_of_the_caller_changes_no_loss_and_no_gradient() -> None:
    def losses() -> list[Tensor]:
        image, text, factor = vectors(11), vectors(11, seed=1), torch.tensor(100.0, requires_grad=True)
        value = info_nce(image, text, factor) + info_nce_tiled(image, text, factor, tile=3)
        value = value + info_nce_rows_tiled(image[:5], text[:5], factor, images=image, texts=text, tile=3).loss
        value = value + sigmoid_loss(image, text, factor, torch.tensor(BIAS))
        value = value + distillation_loss(image, text, factor, text.detach(), image.detach())
        gradients = torch.autograd.grad(info_nce_tiled(image, text, factor, tile=3), (image, text, factor))
        return [value.detach(), *gradients]

    plain = losses()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = losses()
    for ours, theirs in zip(mixed, plain, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("tile", [2, 5, 64])
def test_shares_of_a_global_batch_sum_to_it(tile: int) -> None:
    image, text, scale = vectors(12), vectors(12, seed=1), torch.tensor(15.0, requires_grad=True)
    dense = info_nce(image, text, scale)
    dense.backward()
    expected = [image.grad, text.grad, scale.grad]
    image.grad = text.grad = scale.grad = None
    losses = []
    for first in (0, 4, 8):
        part = slice(first, first + 4)
        rows = info_nce_rows_tiled(image[part], text[part], scale, images=image, texts=text, first=first, tile=tile)
        reference = info_nce_rows(image[part], text[part], scale, images=image, texts=text, first=first)
        assert torch.equal(rows.nearest, reference.nearest)
        losses.append(rows.loss)
    torch.stack(losses).mean().backward()
    assert torch.allclose(torch.stack(losses).mean(), dense, atol=1e-6)
    for ours, theirs in zip([image.grad, text.grad, scale.grad], expected, strict=True):
        assert ours is not None
        assert theirs is not None
        assert torch.allclose(ours, theirs, atol=1e-5)


def test_the_gradients_are_those_of_finite_differences() -> None:
    image, text = (vectors(5, 3, seed).detach().double().requires_grad_() for seed in (2, 3))

    def loss(image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
        from percept.losses.tiled import _Both

        return _Both.apply(image, text, scale, 2)[0]  # type: ignore[index]

    assert torch.autograd.gradcheck(loss, (image, text, torch.tensor(3.0, dtype=torch.double, requires_grad=True)))


@pytest.mark.parametrize("rows", [1, 4, 64])
def test_the_sigmoid_loss_is_a_loop_over_pairs(rows: int) -> None:
    image, text = vectors(5), vectors(9, seed=1)
    scale, bias = torch.tensor(10.0, requires_grad=True), torch.tensor(-3.0, requires_grad=True)
    total = 0.0
    for i, x in enumerate(image.tolist()):
        for j, y in enumerate(text.tolist()):
            z = 1 if j == i + 2 else -1
            logit = 10.0 * sum(a * b for a, b in zip(x, y, strict=True)) - 3.0
            total -= math.log(1 / (1 + math.exp(-z * logit)))
    loss = sigmoid_loss(image, text, scale, bias, first=2, rows=rows)
    assert float(loss.detach()) == pytest.approx(total / 5, rel=1e-5)
    loss.backward()
    assert image.grad is not None
    assert bias.grad is not None


@pytest.mark.parametrize("rows", [2, 64])
def test_distillation_is_the_divergence_of_both_directions(rows: int) -> None:
    image, text, scale = vectors(6), vectors(6, seed=1), torch.tensor(30.0, requires_grad=True)
    teacher = vectors(6, 4, 2).detach(), vectors(6, 4, 3).detach()
    loss = distillation_loss(image, text, scale, *teacher, teacher_scale=20, rows=rows)
    total = 0.0
    for ours, theirs in (
        (30.0 * image @ text.T, 20.0 * teacher[0] @ teacher[1].T),
        (30.0 * text @ image.T, 20.0 * teacher[1] @ teacher[0].T),
    ):
        for row in range(6):
            p, q = theirs[row].softmax(0), ours[row].softmax(0)
            total += float((p * (p / q).log()).sum().detach()) / 12
    assert float(loss.detach()) == pytest.approx(total, rel=1e-4)
    loss.backward()
    assert scale.grad is not None


def test_a_student_like_its_teacher_has_no_loss() -> None:
    image, text = vectors(6), vectors(6, seed=1)
    loss = distillation_loss(image, text, torch.tensor(200.0), image, text)
    assert float(loss.detach()) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("form", ["dense", "tiled", "sigmoid"])
def test_losses_and_gradients_are_those_of_open_clip(form: str, scale: float) -> None:
    image, text = (each.requires_grad_() for each in inputs())
    factor, bias = torch.tensor(scale, requires_grad=True), torch.tensor(BIAS, requires_grad=True)
    if form == "sigmoid":
        loss = sigmoid_loss(image, text, factor, bias, rows=7)
    else:
        loss = info_nce(image, text, factor) if form == "dense" else info_nce_tiled(image, text, factor, tile=7)
    loss.backward()
    found = {"loss": loss, "image": image.grad, "text": text.grad, "scale": factor.grad}
    found |= {"bias": bias.grad} if form == "sigmoid" else {}
    check({name: value.detach() for name, value in found.items() if value is not None}, reference(form, scale, 1, 0))
