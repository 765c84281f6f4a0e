"""Parts of a language decoder against naive loops written from their equations; packed causal rows."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from percept.fast import adopt
from percept.nn.attention import Attention
from percept.nn.block import Block
from percept.nn.context import Context
from percept.nn.grouped import GroupedAttention
from percept.nn.mlp import SwiGLU
from percept.nn.norm import RMSNorm
from percept.nn.rope_1d import frequencies_1d, rope_1d, rotate_halves, stretched
from percept.nn.stack import run_stack

RUNS = [(2, 5), (1, 7), (3, 2)]
LENGTHS = [5, 5, 7, 2, 2, 2]


def rope(count: int, head_dim: int = 4) -> tuple[Tensor, Tensor]:
    return rope_1d(torch.arange(count), frequencies_1d(head_dim, 10_000.0))


def test_rms_norm_is_its_equation_and_computes_in_float32() -> None:
    norm = RMSNorm(6, eps=1e-3)
    nn.init.normal_(norm.weight)
    x = torch.randn(2, 3, 6)
    for row, normed in zip(x.flatten(0, 1), norm(x).flatten(0, 1), strict=True):
        root = math.sqrt(sum(float(value) ** 2 for value in row) / 6 + 1e-3)
        torch.testing.assert_close(normed, norm.weight * row / root)
    large = torch.full((1, 6), 300.0, dtype=torch.float16)  # whose square overflows
    assert torch.equal(RMSNorm(6).half()(large), torch.ones(1, 6, dtype=torch.float16))


def test_swiglu_is_its_equation() -> None:
    layer, x = SwiGLU(4, 10), torch.randn(3, 4)
    gate, up = x @ layer.gate.weight.T, x @ layer.up.weight.T
    torch.testing.assert_close(layer(x), (gate / (1 + (-gate).exp()) * up) @ layer.down.weight.T)


def test_llama_scaling_keeps_fast_frequencies_and_slows_the_others() -> None:
    rates = frequencies_1d(128, 500_000.0)
    found = stretched(rates, factor=32.0, low=1.0, high=4.0, context=8192)
    for rate, new in zip(rates.tolist(), found.tolist(), strict=True):
        wavelength = 2 * math.pi / rate
        if wavelength < 8192 / 4:
            expected = rate
        elif wavelength > 8192 / 1:
            expected = rate / 32
        else:
            share = (8192 / wavelength - 1) / (4 - 1)
            expected = (1 - share) * rate / 32 + share * rate
        assert new == pytest.approx(expected, rel=1e-5)
    assert float(found[0]) == 1
    assert float(found[-1]) == pytest.approx(float(rates[-1]) / 32)


def test_rotation_is_that_of_complex_numbers_half_a_head_apart() -> None:
    x, positions = torch.randn(2, 3, 5, 8), torch.tensor([[0, 1, 2, 3, 4], [7, 8, 9, 10, 11]])
    rates = frequencies_1d(8, 100.0)
    found = rotate_halves(x, *rope_1d(positions, rates))
    turn = torch.polar(torch.ones(2, 1, 5, 4), positions[:, None, :, None] * rates)
    expected = torch.complex(x[..., :4], x[..., 4:]) * turn
    torch.testing.assert_close(found, torch.cat([expected.real, expected.imag], dim=-1))


def naive(layer: GroupedAttention, x: Tensor, heads: int, kv_heads: int) -> Tensor:
    """One query, one head at a time."""
    table = rope(x.shape[1], layer.head_dim)
    q, k, v = (part(x).unflatten(-1, (-1, layer.head_dim)).transpose(1, 2) for part in (layer.q, layer.k, layer.v))
    q, k = rotate_halves(q, *table), rotate_halves(k, *table)
    rows = torch.zeros(x.shape[0], x.shape[1], heads, layer.head_dim)
    for b in range(x.shape[0]):
        for h in range(heads):
            shared = h // (heads // kv_heads)
            for i in range(x.shape[1]):
                logits = k[b, shared, : i + 1] @ q[b, h, i] / math.sqrt(layer.head_dim)
                rows[b, i, h] = logits.softmax(0) @ v[b, shared, : i + 1]
    return layer.out(rows.flatten(-2))


@pytest.mark.parametrize("adopted", [False, True])
@pytest.mark.parametrize(("heads", "kv_heads", "bias"), [(4, 2, False), (4, 1, True), (3, 3, True)])
@torch.no_grad()
def test_grouped_attention_is_its_equation(heads: int, kv_heads: int, bias: bool, adopted: bool) -> None:
    layer = GroupedAttention(12, heads, kv_heads, head_dim=4, bias=bias)
    x = torch.randn(2, 6, 12)
    expected = naive(layer, x, heads, kv_heads)
    if adopted:
        adopt(layer, pack=False)
    torch.testing.assert_close(layer(x, Context(rope=rope(6), causal=True)), expected, atol=1e-6, rtol=1e-5)


def test_a_bias_per_head_works_for_a_single_query_too() -> None:
    layer = GroupedAttention(16, 4, 2, head_dim=4)
    q, k, v = torch.randn(1, 4, 1, 4), torch.randn(1, 2, 5, 4), torch.randn(1, 2, 5, 4)
    bias = torch.randn(1, 4, 1, 5)
    keys, values = (part.repeat_interleave(2, dim=1) for part in (k, v))
    expected = F.scaled_dot_product_attention(q, keys, values, attn_mask=bias)
    torch.testing.assert_close(layer.attend(q, k, v, bias=bias), expected)
    shared = layer.attend(q, k, v, bias=bias[:, :1])
    torch.testing.assert_close(shared, F.scaled_dot_product_attention(q, keys, values, attn_mask=bias[:, :1]))


@pytest.mark.parametrize("kind", ["grouped", "plain"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_causal_packed_row_equals_its_sequences_alone(kind: str, dtype: torch.dtype) -> None:
    """Through a stack, with gradients: nothing leaks between sequences, and positions restart."""
    make = (lambda: GroupedAttention(16, 4, 2)) if kind == "grouped" else (lambda: Attention(16, 4))
    blocks = nn.ModuleList(Block(16, attention=make(), mlp=SwiGLU(16, 24), norm=RMSNorm) for _ in range(2)).to(dtype)
    sequences = [torch.randn(1, length, 16).to(dtype) for length in LENGTHS]
    row = torch.cat(sequences, dim=1).requires_grad_()
    positions = torch.cat([torch.arange(length) for length in LENGTHS])
    table = rope_1d(positions, frequencies_1d(4, 10_000.0))
    packed = run_stack(blocks, row, segments=RUNS, causal=True, rope=lambda _: table).tokens
    tolerance = 1e-5 if dtype == torch.float32 else 0.05
    start = 0
    for sequence in sequences:
        length = sequence.shape[1]
        short = rope_1d(torch.arange(length), frequencies_1d(4, 10_000.0))
        alone = run_stack(blocks, sequence, causal=True, rope=lambda _, short=short: short).tokens
        torch.testing.assert_close(packed[:, start : start + length], alone, atol=tolerance, rtol=tolerance)
        start += length
    packed[:, 5:8].float().sum().backward()  # the first three tokens of the second sequence
    assert row.grad is not None
    reached = row.grad[0].abs().sum(dim=-1) > 0
    assert reached.nonzero().flatten().tolist() == [5, 6, 7]


def test_gradcheck_of_a_decoder_block() -> None:
    attention = GroupedAttention(8, 4, 2, head_dim=2, bias=True)
    block = Block(8, attention=attention, mlp=SwiGLU(8, 6), norm=RMSNorm).double()
    x = torch.randn(1, 4, 8, dtype=torch.float64, requires_grad=True)
    for context in (Context(rope=rope(4, 2), causal=True), Context(rope=rope(4, 2), causal=True, segments=[(2, 2)])):
        assert torch.autograd.gradcheck(lambda x, *_: block(x, context), (x, *block.parameters()))  # noqa: B023
