"""Running a stack: hidden states, inserted tokens, caches, checkpointing, and layers that do not exist."""

import pytest
import torch
from torch import Tensor, nn

from percept.core.errors import PerceptError
from percept.nn.attention import Attention
from percept.nn.block import Block
from percept.nn.context import Context
from percept.nn.mlp import MLP
from percept.nn.rope import rope_2d
from percept.nn.stack import resolve_layer, run_stack


def stack(depth: int = 4, drop_path: float = 0.0) -> nn.ModuleList:
    return nn.ModuleList(
        Block(16, attention=Attention(16, 2), mlp=MLP(16, 32), drop_path=drop_path) for _ in range(depth)
    )


def rope(prefix: int) -> tuple[Tensor, Tensor]:
    return rope_2d((2, 3), 8, prefix=prefix, first=1)


def test_hidden_states_are_the_outputs_of_the_blocks_under_the_requested_keys() -> None:
    blocks, x = stack(), torch.randn(2, 7, 16)
    out = run_stack(blocks, x, prefix=1, layers=(0, -2, 2, -1), rope=rope)
    expected = []
    for block in blocks:
        x = block(x, Context(rope=rope(1)))
        expected.append(x)
    assert list(out.hidden) == [0, -2, 2, -1]
    for key, value in out.hidden.items():
        assert torch.equal(value, expected[key])
    assert torch.equal(out.tokens, expected[-1])
    assert out.prefix == 1


@pytest.mark.parametrize("layer", [4, -5, 100])
def test_a_layer_that_does_not_exist(layer: int) -> None:
    with pytest.raises(PerceptError, match="layers 0 to 3"):
        run_stack(stack(), torch.randn(1, 2, 16), layers=(layer,))
    with pytest.raises(PerceptError, match=f"no layer {layer}"):
        run_stack(stack(), torch.randn(1, 2, 16), extra={layer: torch.randn(1, 16)})
    assert [resolve_layer(one, 4) for one in (0, 3, -1, -4)] == [0, 3, 3, 0]


@pytest.mark.parametrize("batched", [False, True])
def test_extra_tokens_are_inserted_replaced_and_stay(batched: bool) -> None:
    blocks, x = stack(), torch.randn(2, 7, 16)
    first, second = torch.randn(2, 16), torch.randn(3, 16)
    given = {0: first, 2: second}
    if batched:
        given = {key: value.expand(2, -1, -1) for key, value in given.items()}
    out = run_stack(blocks, x, prefix=1, layers=(1, 3), extra=given, rope=rope)

    y = torch.cat([x[:, :1], first.expand(2, -1, -1), x[:, 1:]], dim=1)
    for block in blocks[:2]:
        y = block(y, Context(rope=rope(3)))
    torch.testing.assert_close(out.hidden[1], y)
    y = torch.cat([y[:, :1], second.expand(2, -1, -1), y[:, 3:]], dim=1)
    for block in blocks[2:]:
        y = block(y, Context(rope=rope(4)))
    torch.testing.assert_close(out.tokens, y)
    assert out.prefix == 4


def test_a_hidden_key_changes_nothing_behind_it() -> None:
    blocks, x = stack(), torch.randn(1, 5, 16)
    bias = torch.zeros(5, 5)
    bias[:, 3] = float("-inf")
    changed = x.clone()
    changed[:, 3] = torch.randn(16)
    others = [0, 1, 2, 4]
    before, after = (run_stack(blocks, y, bias=bias).tokens[:, others] for y in (x, changed))
    assert torch.equal(before, after)
    assert not torch.equal(run_stack(blocks, x).tokens[:, others], run_stack(blocks, changed).tokens[:, others])


def test_a_bias_goes_with_inserted_tokens() -> None:
    blocks, x, extra = stack(), torch.randn(1, 5, 16), torch.randn(2, 16)
    bias = torch.randn(5, 5)
    whole = torch.zeros(7, 7)
    rows = [0, 3, 4, 5, 6]
    whole[torch.tensor(rows)[:, None], torch.tensor(rows)] = bias
    for at in (0, 1):
        found = [run_stack(blocks, x, prefix=1, extra={at: extra}, bias=one).tokens for one in (bias, whole)]
        assert found[0].shape == (1, 7, 16)
        torch.testing.assert_close(*found)
    by_hand = blocks[0](x, Context(bias=bias))
    by_hand = torch.cat([by_hand[:, :1], extra[None], by_hand[:, 1:]], dim=1)
    for block in blocks[1:]:
        by_hand = block(by_hand, Context(bias=whole))
    torch.testing.assert_close(found[0], by_hand)
    row = bias[:1]
    torch.testing.assert_close(
        run_stack(blocks, x, prefix=1, extra={1: extra}, bias=row).tokens,
        run_stack(
            blocks, x, prefix=1, extra={1: extra}, bias=torch.cat([row[:, :1], torch.zeros(1, 2), row[:, 1:]], 1)
        ).tokens,
    )
    with pytest.raises(PerceptError, match="over 6 tokens"):
        run_stack(blocks, x, prefix=1, extra={1: extra}, bias=torch.zeros(6, 6))


def test_causal_tokens_do_not_see_ahead() -> None:
    blocks, x = stack(), torch.randn(1, 5, 16)
    changed = x.clone()
    changed[:, 3] = torch.randn(16)
    one, other = (run_stack(blocks, y, causal=True).tokens for y in (x, changed))
    assert torch.equal(one[:, :3], other[:, :3])
    assert not torch.isclose(one[:, 4], other[:, 4]).all()


class KeptKeysAndValues:
    """A cache in a few lines."""

    def __init__(self) -> None:
        self.rows: list[tuple[Tensor, Tensor]] = []

    def append(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        self.rows.append((key, value))
        keys, values = zip(*self.rows, strict=True)
        return torch.cat(keys, dim=2), torch.cat(values, dim=2)


@pytest.mark.parametrize("steps", [(1,) * 6, (3, 1, 2), (1, 5), (6,)])
@pytest.mark.parametrize("biased", [False, True])
def test_cached_tokens_are_uncached_tokens(steps: tuple[int, ...], biased: bool) -> None:
    blocks, x, table = stack(), torch.randn(2, 6, 16), rope(0)
    bias = torch.randn(6, 6) if biased else None
    whole = run_stack(blocks, x, causal=True, rope=lambda _: table, bias=bias).tokens
    caches, parts, start = [KeptKeysAndValues() for _ in blocks], [], 0
    for count in steps:
        rows = slice(start, start + count)
        now = table[0][rows], table[1][rows]
        part = None if bias is None else bias[rows, : rows.stop]
        parts.append(
            run_stack(blocks, x[:, rows], causal=True, rope=lambda _: now, bias=part, caches=caches).tokens  # noqa: B023
        )
        start += count
    torch.testing.assert_close(torch.cat(parts, dim=1), whole)
    assert all(len(cache.rows) == len(steps) for cache in caches)


@pytest.mark.parametrize("drop_path", [0.0, 0.5])
def test_checkpointing_changes_neither_values_nor_gradients(drop_path: float) -> None:
    blocks, start, extra = stack(drop_path=drop_path), torch.randn(4, 7, 16), torch.randn(2, 16)
    found = []
    for checkpointing in (False, True):
        torch.manual_seed(3)  # the same branches are dropped
        x, tokens = start.clone().requires_grad_(), extra.clone().requires_grad_()
        out = run_stack(
            blocks, x, prefix=1, layers=(1,), extra={1: tokens}, rope=rope, bias=None, checkpointing=checkpointing
        )
        blocks.zero_grad()
        (out.tokens.square().sum() + out.hidden[1].sum()).backward()
        gradients = [parameter.grad for parameter in (*blocks.parameters(), x, tokens)]
        found.append([out.tokens, out.hidden[1], *gradients])
    for plain, recomputed in zip(*found, strict=True):
        assert plain is not None
        assert recomputed is not None
        assert torch.equal(plain, recomputed)


def test_checkpointing_keeps_fewer_activations() -> None:
    blocks, kept = stack(6), {}
    for checkpointing in (False, True):
        sizes: list[int] = []

        def pack(tensor: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            run_stack(blocks, torch.randn(8, 32, 16, requires_grad=True), checkpointing=checkpointing)
        kept[checkpointing] = sum(sizes)
    assert kept[True] < kept[False] / 5


def test_a_mask_of_booleans_is_refused() -> None:
    with pytest.raises(PerceptError, match=r"torch\.bool .* -inf where it is hidden"):
        run_stack(stack(1), torch.randn(1, 3, 16), bias=torch.ones(3, 3, dtype=torch.bool))


def test_extra_tokens_of_one_block_are_given_once() -> None:
    blocks = torch.nn.ModuleList([torch.nn.Identity(), torch.nn.Identity()])
    tokens = torch.zeros(1, 4)
    with pytest.raises(PerceptError, match="are the same block"):
        run_stack(blocks, torch.zeros(1, 3, 4), extra={1: tokens, -1: tokens})
