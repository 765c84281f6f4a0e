"""The loss of patches against a loop over them."""

import math

import pytest
import torch

from percept.losses.patches import NOTHING, patch_loss


def test_it_is_the_mean_over_labelled_patches() -> None:
    logits, labels = torch.randn(2, 5, 4), torch.tensor([[0, NOTHING, 3, 1, NOTHING], [NOTHING] * 4 + [2]])
    total, count = 0.0, 0
    for row, label in zip(logits.flatten(0, 1).tolist(), labels.flatten().tolist(), strict=True):
        if label != NOTHING:
            total -= row[label] - math.log(sum(math.exp(one) for one in row))
            count += 1
    assert float(patch_loss(logits, labels)) == pytest.approx(total / count, abs=1e-5)


def test_patches_without_label_get_no_gradient_and_none_at_all_cost_nothing() -> None:
    logits = torch.randn(1, 3, 4, requires_grad=True)
    patch_loss(logits, torch.tensor([[1, NOTHING, 2]])).backward()
    assert logits.grad is not None
    assert logits.grad[0, 0].any()
    assert not logits.grad[0, 1].any()
    assert float(patch_loss(logits.detach(), torch.full((1, 3), NOTHING))) == 0
