"""Claims as labels: the loss against a naive loop, and what its labels can tell that words cannot."""

import itertools
import math

import pytest
import torch

from percept.losses.claims import claim_loss

BOUNDS = (1, 4, 9)


def naive(logits: torch.Tensor, claims: list[list[int]]) -> float:
    """Go through groups, rows and claims one by one."""
    total = 0.0
    for first, end in itertools.pairwise(BOUNDS):
        rows = []
        for row, held in enumerate(claims):
            inside = [claim for claim in held if first <= claim < end]
            if inside:
                norm = math.log(sum(math.exp(float(one)) for one in logits[row, first:end]))
                rows.append(-sum(float(logits[row, claim]) - norm for claim in inside) / len(inside))
        total += sum(rows) / len(rows) if rows else 0.0
    return total


@pytest.mark.parametrize(
    "claims", [[[1, 3, 4, 0], [2, 0, 0, 0], [0, 0, 0, 0]], [[1, 0, 0, 0]] * 3, [[0, 0, 0, 0]] * 3, [[8, 5, 4, 7]] * 3]
)
def test_the_loss_is_that_of_a_naive_loop(claims: list[list[int]]) -> None:
    logits = torch.randn(3, 9, generator=torch.Generator().manual_seed(0))
    found = claim_loss(logits, torch.tensor(claims), BOUNDS)
    assert float(found) == pytest.approx(naive(logits, claims), abs=1e-5)


def test_what_is_claimed_gets_likelier_and_padding_gets_no_gradient() -> None:
    logits = torch.zeros(1, 9, requires_grad=True)
    claim_loss(logits, torch.tensor([[2, 0]]), BOUNDS).backward()
    assert logits.grad is not None
    assert logits.grad[0].sign().tolist() == [0, 1, -1, 1, 0, 0, 0, 0, 0]
