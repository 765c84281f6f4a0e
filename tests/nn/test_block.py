"""The block and its parts: what it computes, other parts in it, scales, dropped branches, resized positions."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from percept.nn.attention import Attention
from percept.nn.block import Block, DropPath, LayerScale
from percept.nn.context import Context
from percept.nn.mlp import MLP
from percept.nn.posembed import resize_positions
from percept.nn.rope import rotate
from percept.nn.stack import run_stack


def block(hidden: int = 32, layer_scale: float | None = None) -> Block:
    return Block(16, attention=Attention(16, 2), mlp=MLP(16, hidden), layer_scale=layer_scale)


def test_block_is_pre_norm_with_two_residual_branches() -> None:
    ours = block(hidden=40, layer_scale=0.5)
    x = torch.randn(2, 5, 16)
    middle = x + 0.5 * ours.attention(F.layer_norm(x, (16,)))
    mlp = ours.get_submodule("mlp")
    expected = middle + 0.5 * mlp.down(F.gelu(mlp.up(F.layer_norm(middle, (16,)))))  # type: ignore[operator]
    torch.testing.assert_close(ours(x), expected)


class RMSNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * x * (x.square().mean(dim=-1, keepdim=True) + 1e-6).rsqrt()


class SwiGLU(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate, self.up = nn.Linear(width, hidden, bias=False), nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


class GroupedAttention(nn.Module):
    """Two queries share a key; no biases; normed queries and keys."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.q, self.kv = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.q_norm, self.k_norm = RMSNorm(self.size), RMSNorm(self.size)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        q, (k, v) = self.q(x), self.kv(x).chunk(2, dim=-1)
        q, k, v = (part.unflatten(-1, (-1, self.size)).transpose(1, 2) for part in (q, k, v))
        assert context.rope is not None
        q, k = rotate(self.q_norm(q), *context.rope), rotate(self.k_norm(k), *context.rope)
        if context.cache is not None:
            k, v = context.cache.append(k, v)
        k, v = (part.repeat_interleave(2, dim=1) for part in (k, v))
        ahead = torch.full((q.shape[2], k.shape[2]), float("-inf")).triu(1 + k.shape[2] - q.shape[2])
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=ahead if context.causal else None)
        return self.out(mixed.transpose(1, 2).flatten(-2))


class Kept:
    """Keys and values seen so far."""

    def __init__(self) -> None:
        self.seen: list[Tensor] | None = None

    def append(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        new = [key, value]
        self.seen = new if self.seen is None else [torch.cat(pair, dim=2) for pair in zip(self.seen, new, strict=True)]
        return self.seen[0], self.seen[1]


def test_a_block_of_a_language_model_is_composed_of_other_parts() -> None:
    """RMSNorm, SwiGLU, grouped heads, normed queries, no biases, positions in one dimension, a cache."""
    blocks = nn.ModuleList(
        Block(16, attention=GroupedAttention(16, 4), mlp=SwiGLU(16, 24), norm=RMSNorm) for _ in range(3)
    )
    assert not [name for name, _ in blocks.named_parameters() if name.endswith("bias")]
    angles = (torch.arange(7)[:, None] * 10_000.0 ** -(torch.arange(2) / 2)).repeat_interleave(2, dim=-1)
    cos, sin = angles.cos(), angles.sin()
    x = torch.randn(2, 7, 16)
    whole = run_stack(blocks, x, causal=True, rope=lambda _: (cos, sin)).tokens
    caches = [Kept() for _ in blocks]
    parts = [
        run_stack(blocks, x[:, rows], causal=True, rope=lambda _, rows=rows: (cos[rows], sin[rows]), caches=caches)
        for rows in (slice(0, 4), *(slice(i, i + 1) for i in range(4, 7)))
    ]
    torch.testing.assert_close(torch.cat([part.tokens for part in parts], dim=1), whole)
    shuffled = x.clone()
    shuffled[:, 5:] = torch.randn(2, 2, 16)
    torch.testing.assert_close(
        run_stack(blocks, shuffled, causal=True, rope=lambda _: (cos, sin)).tokens[:, :5], whole[:, :5]
    )
    whole.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in blocks.parameters())


def test_layer_scale_of_zero_is_the_identity_and_none_adds_no_parameters() -> None:
    x = torch.randn(2, 5, 16)
    assert torch.equal(block(layer_scale=0.0)(x), x)
    assert not [name for name, _ in block().named_parameters() if "scale" in name]
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
