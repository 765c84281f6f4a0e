"""Rotary positions: the paper's numbers, complex multiplication, dependence on the difference only."""

import math

import pytest
import torch

from percept.nn.rope import frequencies, rope_2d, rotate


def test_frequencies_are_the_published_ones() -> None:
    for head_dim, count, head, last in (
        (64, 16, [1, 0.562341, 0.316228, 0.177828], 0.00017783),
        (96, 24, [1, 0.681292, 0.464159, 0.316228], 0.00014678),
    ):
        found = frequencies(head_dim)
        assert len(found) == count
        torch.testing.assert_close(found[:4], torch.tensor(head, dtype=torch.float32), atol=1e-6, rtol=0)
        assert math.isclose(float(found[-1]), last, rel_tol=1e-4)


def angles(cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    return torch.atan2(sin, cos)


@pytest.mark.parametrize(("first", "across", "down"), [(1, 3.0, 2.0), (0, 2.0, 1.0)])
def test_angles_of_the_patch_at_row_1_column_2(first: int, across: float, down: float) -> None:
    found = angles(*rope_2d((4, 5), 64, prefix=first, first=first))[first + 5 + 2]
    expected_across = torch.tensor([across, across, across * 0.5623413, across * 0.5623413])
    expected_down = torch.tensor([down, down, down * 0.5623413, down * 0.5623413])
    torch.testing.assert_close(found[:4], expected_across, atol=2e-6, rtol=0)
    torch.testing.assert_close(found[32:36], expected_down, atol=2e-6, rtol=0)


def test_prefix_tokens_are_not_rotated() -> None:
    cos, sin = rope_2d((2, 3), 16, prefix=3, first=1)
    assert cos.shape == (9, 16)
    assert bool((cos[:3] == 1).all())
    assert bool((sin[:3] == 0).all())
    assert bool((sin[3] != 0).all())  # the first patch stands at (1, 1)


def test_rotation_is_complex_multiplication() -> None:
    x = torch.randn(2, 3, 6, 16)
    cos, sin = rope_2d((2, 3), 16, prefix=0, first=1)
    turn = torch.polar(torch.ones(6, 8), angles(cos, sin)[:, ::2])
    expected = torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (8, 2))) * turn).flatten(-2)
    torch.testing.assert_close(rotate(x, cos, sin), expected)


def test_length_is_kept_and_16_bit_input_is_rotated_in_float32() -> None:
    x = torch.randn(4, 6, 16)
    table = rope_2d((2, 3), 16, prefix=0, first=1)
    torch.testing.assert_close(rotate(x, *table).norm(dim=-1), x.norm(dim=-1))
    half = x.bfloat16()
    assert torch.equal(rotate(half, *table), rotate(half.float(), *table).bfloat16())


def test_tokens_may_lie_before_heads() -> None:
    x = torch.randn(2, 3, 6, 16).bfloat16()
    cos, sin = rope_2d((2, 3), 16, prefix=0, first=1)
    swapped = rotate(x.transpose(1, 2), cos[:, None], sin[:, None]).transpose(1, 2)
    assert torch.equal(swapped, rotate(x, cos, sin))


def test_logits_depend_on_the_difference_of_positions_only() -> None:
    grid, head_dim = (7, 9), 32
    q, k = torch.randn(2, head_dim, dtype=torch.float64).float()
    table = rope_2d(grid, head_dim, prefix=0, first=1)
    turned_q, turned_k = (rotate(vector.expand(63, head_dim), *table).unflatten(0, grid) for vector in (q, k))
    by_difference: dict[tuple[int, int], list[float]] = {}
    for y in range(7):
        for x in range(9):
            by_difference.setdefault((y - 3, x - 4), []).append(float(turned_q[3, 4] @ turned_k[y, x]))
            if y + 2 < 7 and x + 3 < 9:  # both moved by (2, 3)
                moved = turned_q[2, 3] @ turned_k[y + 2, x + 3]
                torch.testing.assert_close(turned_q[0, 0] @ turned_k[y, x], moved, atol=1e-4, rtol=1e-4)
    assert len({round(logits[0], 4) for logits in by_difference.values()}) > 50  # and it does depend on it


def test_float64_stays_float64() -> None:
    x = torch.randn(3, 6, 16, dtype=torch.float64)
    table = rope_2d((2, 3), 16, prefix=0, first=1)
    found = rotate(x, *table)
    assert found.dtype == torch.float64
    rounded = rotate(x.float(), *table).double()
    assert not torch.equal(found, rounded)
    torch.testing.assert_close(found, rounded, atol=1e-5, rtol=1e-5)
