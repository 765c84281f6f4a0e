"""The block and its parts: scales, dropped branches, resized positions."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from percept.nn.block import Block, DropPath, LayerScale
from percept.nn.posembed import resize_positions


def test_block_is_pre_norm_with_two_residual_branches() -> None:
    block = Block(16, 2, 40, layer_scale=0.5)
    x = torch.randn(2, 5, 16)
    middle = x + 0.5 * block.attention(F.layer_norm(x, (16,)))
    expected = middle + 0.5 * block.mlp.down(F.gelu(block.mlp.up(F.layer_norm(middle, (16,)))))
    torch.testing.assert_close(block(x), expected)


def test_layer_scale_of_zero_is_the_identity_and_none_adds_no_parameters() -> None:
    x = torch.randn(2, 5, 16)
    assert torch.equal(Block(16, 2, 32, layer_scale=0.0)(x), x)
    assert not [name for name, _ in Block(16, 2, 32).named_parameters() if "scale" in name]
    assert torch.equal(LayerScale(3, 0.1).gamma, torch.full((3,), 0.1))


def test_drop_path_drops_whole_samples_and_keeps_the_mean() -> None:
    drop = DropPath(0.3)
    out = drop(torch.ones(20_000, 2, 3))
    assert out.unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert torch.equal(out, out[:, :1, :1].expand_as(out))
    assert abs(float(out.mean()) - 1) < 0.02  # four standard deviations of 20 000 draws
    assert drop.eval()(torch.ones(1, 1, 1)).item() == 1


def test_drop_path_keeps_the_number_type() -> None:
    assert DropPath(0.5)(torch.ones(4, 1, 1).bfloat16()).dtype == torch.bfloat16


def test_positions_of_the_same_grid_are_untouched() -> None:
    positions = torch.randn(13, 4)
    assert resize_positions(positions, (3, 4), (3, 4), prefix=1) is positions


def test_resizing_keeps_the_prefix_and_interpolates_rows_and_columns() -> None:
    rows, columns = torch.arange(6.0), torch.arange(4.0)
    grid = torch.stack([rows[:, None].expand(6, 4), columns[None].expand(6, 4)], dim=-1)
    positions = torch.cat([torch.full((2, 2), -7.0), grid.flatten(0, 1)])
    resized = resize_positions(positions, (6, 4), (3, 8), prefix=2)
    assert resized.shape == (2 + 24, 2)
    assert bool((resized[:2] == -7).all())
    back = resized[2:].unflatten(0, (3, 8))
    # corners not aligned: cell centres of the new grid, in cells of the old one
    torch.testing.assert_close(back[:, 0, 0], torch.tensor([0.5, 2.5, 4.5]))
    torch.testing.assert_close(back[0, :, 1], torch.tensor([0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3]))


def test_resizing_is_differentiable_and_keeps_the_number_type() -> None:
    positions = nn.Parameter(torch.randn(9, 4).bfloat16())
    resized = resize_positions(positions, (3, 3), (2, 5), prefix=0)
    assert resized.dtype == torch.bfloat16
    resized.float().sum().backward()
    assert positions.grad is not None
    assert bool(positions.grad.any())
