"""Words as labels: weights and targets against plain loops, and the loss against its definition."""

import math

import pytest
import torch

from percept.losses.words import word_loss, word_targets, word_weights

IDS = torch.tensor([[5, 1, 2, 6, 0, 0], [5, 1, 3, 3, 6, 0], [5, 1, 4, 2, 1, 6], [5, 1, 6, 0, 0, 0]])
SPECIAL = (0, 5, 6)


def test_weights_are_inverse_document_frequencies() -> None:
    weights = word_weights(IDS, 8, special=SPECIAL)
    for word in range(8):
        texts = sum(word in row for row in IDS.tolist())
        expected = 0.0 if word in SPECIAL else max(0.0, math.log(4 / (1 + texts)))
        assert float(weights[word]) == pytest.approx(expected)


def test_targets_share_a_text_among_its_words_by_weight() -> None:
    weights = torch.tensor([0.0, 0.0, 1.0, 2.0, 3.0, 0.0, 0.0, 4.0])
    targets = word_targets(IDS, weights)
    assert targets[0].tolist() == pytest.approx([0, 0, 1, 0, 0, 0, 0, 0])
    assert targets[1].tolist() == pytest.approx([0, 0, 0, 1, 0, 0, 0, 0])  # said twice is said once
    assert targets[2].tolist() == pytest.approx([0, 0, 0.25, 0, 0.75, 0, 0, 0])
    assert targets[3].tolist() == [0] * 8  # nothing in it tells anything


def test_the_loss_is_the_cross_entropy_to_the_shares() -> None:
    targets = word_targets(IDS, word_weights(IDS, 8, special=SPECIAL))
    logits = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    rows = [
        -sum(float(share) * math.log(float(p)) for share, p in zip(target, row.softmax(0), strict=True))
        for target, row in zip(targets, logits, strict=True)
    ]
    assert float(word_loss(logits, targets)) == pytest.approx(sum(rows) / 4, rel=1e-5)


def test_the_gradient_moves_towards_the_words_said() -> None:
    targets = word_targets(IDS[:1], torch.ones(8))
    logits = torch.zeros(1, 8, requires_grad=True)
    word_loss(logits, targets).backward()
    assert logits.grad is not None
    assert ((logits.grad < 0) == (targets > 0.125)).all()
