"""InfoNCE against the equation written out, one pair at a time."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from percept.losses.contrastive import info_nce, info_nce_rows, right_over_wrong, row_keys


def naive(image: Tensor, text: Tensor, scale: float) -> float:
    """L = -1/2n sum_i [ log p(text i | image i) + log p(image i | text i) ]."""
    n = len(image)
    similarity = [[scale * float(image[i] @ text[j]) for j in range(n)] for i in range(n)]
    total = 0.0
    for i in range(n):
        to_text = math.exp(similarity[i][i]) / sum(math.exp(similarity[i][j]) for j in range(n))
        to_image = math.exp(similarity[i][i]) / sum(math.exp(similarity[j][i]) for j in range(n))
        total -= (math.log(to_text) + math.log(to_image)) / (2 * n)
    return total


def vectors(n: int, d: int = 8) -> Tensor:
    return F.normalize(torch.randn(n, d), dim=-1)


@pytest.mark.parametrize("n", [1, 2, 7])
@pytest.mark.parametrize("scale", [1.0, 14.3, 100.0])
def test_it_is_the_equation(n: int, scale: float) -> None:
    image, text = vectors(n), vectors(n)
    assert float(info_nce(image, text, torch.tensor(scale))) == pytest.approx(naive(image, text, scale), abs=1e-4)


def test_known_values() -> None:
    same = torch.eye(4)
    assert float(info_nce(same, same, torch.tensor(100.0))) == pytest.approx(0, abs=1e-6)
    alike = torch.tensor([[1.0, 0.0]]).expand(5, 2)
    assert float(info_nce(alike, alike, torch.tensor(20.0))) == pytest.approx(math.log(5))


def test_it_is_symmetric_and_ignores_the_order_of_pairs() -> None:
    image, text, scale, order = vectors(6), vectors(6), torch.tensor(10.0), torch.randperm(6)
    loss = info_nce(image, text, scale)
    torch.testing.assert_close(info_nce(text, image, scale), loss)
    torch.testing.assert_close(info_nce(image[order], text[order], scale), loss)
    assert not torch.isclose(info_nce(image, text.roll(1, 0), scale), loss)


def test_the_gradient_is_the_one_of_finite_differences() -> None:
    image, text = vectors(4).requires_grad_(), vectors(4).requires_grad_()
    scale = torch.tensor(5.0, requires_grad=True)
    info_nce(image, text, scale).backward()
    for tensor, index in ((image, (1, 2)), (text, (3, 0)), (scale, ())):
        assert tensor.grad is not None
        step, found = 1e-2, []
        for sign in (1, -1):
            moved = [one.detach().clone() for one in (image, text, scale)]
            moved[0 if tensor is image else 1 if tensor is text else 2][index] += sign * step
            found.append(naive(moved[0], moved[1], float(moved[2])))
        assert float(tensor.grad[index]) == pytest.approx((found[0] - found[1]) / (2 * step), abs=2e-4)


def test_16_bit_vectors_are_compared_in_float32() -> None:
    image, text = vectors(5).bfloat16(), vectors(5).bfloat16()
    loss = info_nce(image, text, torch.tensor(50.0))
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, info_nce(image.float(), text.float(), torch.tensor(50.0)))


def test_equal_texts_need_no_targets_of_their_own() -> None:
    """Sharing the target among rows of equal text vectors (UniCL) changes neither the loss nor its gradient."""
    image, text, scale = vectors(4).requires_grad_(), vectors(4), 9.0
    text[2] = text[0]
    text.requires_grad_()
    same = torch.eye(4)
    same[0, 2] = same[2, 0] = 1
    target, logits = same / same.sum(dim=1, keepdim=True), scale * image @ text.T
    shared = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    plain = info_nce(image, text, torch.tensor(scale))
    torch.testing.assert_close(plain, shared)
    found, expected = (torch.autograd.grad(loss, (image, text)) for loss in (plain, shared))
    torch.testing.assert_close(found[0], expected[0])
    torch.testing.assert_close(found[1][0] + found[1][2], expected[1][0] + expected[1][2])


def test_right_over_wrong_is_the_equation() -> None:
    image, right, wrong = vectors(6), vectors(6), vectors(6)
    expected = sum(
        math.log(1 + math.exp(-7.0 * (float(image[i] @ right[i]) - float(image[i] @ wrong[i])))) for i in range(6)
    )
    assert float(right_over_wrong(image, right, wrong, 7.0)) == pytest.approx(expected / 6, abs=1e-5)
    assert float(right_over_wrong(image, right, right, 7.0)) == pytest.approx(math.log(2))
    pairs = right_over_wrong(image.view(2, 3, 8), right.view(2, 3, 8), wrong.view(2, 3, 8), 7.0)
    assert float(pairs) == pytest.approx(expected / 6, abs=1e-5)
    assert float(right_over_wrong(right, right, -right, 50.0)) < 1e-6


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_the_mean_over_equal_shares_is_the_loss_of_the_whole_batch(parts: int) -> None:
    image, text, scale = vectors(8), vectors(8), torch.tensor(14.3)
    size = 8 // parts
    shares = [
        info_nce_rows(
            image[first : first + size], text[first : first + size], scale, images=image, texts=text, first=first
        )
        for first in range(0, 8, size)
    ]
    mean = torch.stack([share.loss for share in shares]).mean()
    torch.testing.assert_close(mean, info_nce(image, text, scale))
    assert torch.equal(torch.cat([share.nearest for share in shares]), (image @ text.T).argmax(dim=1))


def test_rows_have_equal_keys_exactly_if_they_are_equal() -> None:
    ids = torch.randint(0, 50_000, (2_000, 77))
    ids[1_000:] = ids[:1_000]
    ids[0, 3], ids[0, 4] = ids[1_000, 4], ids[1_000, 3]  # the same ids in a different order
    keys = row_keys(ids)
    same = (ids[:, None, :8] == ids[None, :, :8]).all(dim=-1)
    assert torch.equal(keys[:, None] == keys[None], same)
