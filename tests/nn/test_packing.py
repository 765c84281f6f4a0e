"""Packed rows: laid out and cut again, and attention that stays within each sequence."""

import pytest
import torch
from torch import Tensor

from percept.fast import adopt
from percept.nn.attention import Attention, attend
from percept.nn.block import Block, DropPath
from percept.nn.context import Context
from percept.nn.mlp import MLP
from percept.nn.packing import merged, pack, unpack
from percept.nn.rope import rope_2d
from percept.nn.stack import run_stack

RUNS = [(2, 5), (1, 7), (3, 2)]
LENGTHS = [5, 5, 7, 2, 2, 2]


def parts() -> list[Tensor]:
    return [torch.randn(count, length, 16) for count, length in RUNS]


def test_unpacking_gives_back_what_was_packed() -> None:
    given = parts()
    row = pack(given)
    assert row.shape == (1, 23, 16)
    for back, part in zip(unpack(row, RUNS), given, strict=True):
        assert torch.equal(back, part)


def test_heads_are_cut_like_rows() -> None:
    row = torch.randn(1, 4, 23, 8)
    cut = unpack(row, RUNS)
    assert [tuple(one.shape) for one in cut] == [(2, 4, 5, 8), (1, 4, 7, 8), (3, 4, 2, 8)]
    assert torch.equal(cut[0][1], row[0, :, 5:10])


def test_runs_of_equal_length_are_joined_only_side_by_side() -> None:
    assert merged([(1, 4), (2, 4), (1, 3), (1, 4)]) == [(3, 4), (1, 3), (1, 4)]
    assert merged([]) == []


def block_diagonal() -> Tensor:
    """A bias that hides every token of another sequence."""
    owner = torch.arange(len(LENGTHS)).repeat_interleave(torch.tensor(LENGTHS))
    return torch.where(owner[:, None] == owner[None], 0.0, float("-inf"))


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_within_sequences_is_block_diagonal(dtype: torch.dtype, fast: bool) -> None:
    layer = Attention(16, 2)
    if fast:
        adopt(layer, pack=False)
    q, k, v = torch.randn(3, 1, 2, 23, 8).to(dtype)
    found = layer.attend_within(q, k, v, RUNS)
    tolerance = 1e-6 if dtype == torch.float32 else 0.02
    torch.testing.assert_close(found, attend(q, k, v, bias=block_diagonal()), atol=tolerance, rtol=tolerance)
    alone = layer.attend(q[:, :, 5:10], k[:, :, 5:10], v[:, :, 5:10])
    torch.testing.assert_close(found[:, :, 5:10], alone)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_packed_row_goes_through_attention_as_its_parts_do(dtype: torch.dtype) -> None:
    layer, given = Attention(16, 2).to(dtype), [part.to(dtype) for part in parts()]
    tables = [rope_2d((1, length), 8, prefix=0, first=0) for _, length in RUNS]
    cos, sin = (torch.cat([t[i].repeat(n, 1) for t, (n, _) in zip(tables, RUNS, strict=True)]) for i in (0, 1))
    found = unpack(layer(pack(given), Context(rope=(cos, sin), segments=RUNS)), RUNS)
    for one, part, table in zip(found, given, tables, strict=True):
        tolerance = 1e-5 if dtype == torch.float32 else 0.02
        torch.testing.assert_close(one, layer(part, Context(rope=table)), atol=tolerance, rtol=tolerance)


def test_a_stack_of_blocks_with_and_without_checkpointing() -> None:
    blocks = torch.nn.ModuleList(Block(16, attention=Attention(16, 2), mlp=MLP(16, 32)) for _ in range(2))
    given = parts()
    gradients = []
    for checkpointing in (False, True):
        blocks.zero_grad()
        out = run_stack(blocks, pack(given), layers=(0,), segments=RUNS, checkpointing=checkpointing)
        out.tokens.square().sum().backward()
        gradients.append([parameter.grad for parameter in blocks.parameters()])
        for row, layer in ((out.tokens, -1), (out.hidden[0], 0)):
            for one, part in zip(unpack(row, RUNS), given, strict=True):
                expected = run_stack(blocks, part, layers=(layer,)).hidden[layer]
                torch.testing.assert_close(one, expected, atol=1e-5, rtol=1e-5)
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(recomputed, plain)


def test_dropped_branches_of_a_packed_row_are_whole_sequences() -> None:
    runs = [(4000, 2), (2000, 3)]
    out = DropPath(0.3)(torch.ones(1, 14_000, 4), runs)
    for part in unpack(out, runs):
        assert torch.equal(part, part[:, :1, :1].expand_as(part))
        assert part.unique().tolist() == pytest.approx([0, 1 / 0.7])
        assert abs(float(part.mean()) - 1) < 0.06  # four standard deviations of 2 000 draws
