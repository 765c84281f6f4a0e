"""Fast attention and rotation: the numbers of the plain ones, by the kernel that was chosen."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from percept.fast import adopt, attention, rope
from percept.fast.attention import attend
from percept.nn import attention as plain
from percept.nn.context import Context
from percept.nn.pool import AttentionPool
from percept.nn.rope import rope_2d, rotate

TYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])


def close(found: Tensor, expected: Tensor) -> None:
    tolerance = 1e-5 if found.dtype == torch.float32 else 0.03
    assert found.dtype == expected.dtype
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)


@pytest.fixture
def fused(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The queries that torch's own kernel got."""
    seen: list[Tensor] = []
    kernel = F.scaled_dot_product_attention
    monkeypatch.setattr(
        F, "scaled_dot_product_attention", lambda *inputs, **more: seen.append(inputs[0]) or kernel(*inputs, **more)
    )
    return seen


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize(("m", "n"), [(6, 6), (3, 7), (1, 7)])
@TYPES
def test_it_is_the_plain_attention(
    dtype: torch.dtype, training: bool, causal: bool, biased: bool, m: int, n: int
) -> None:
    q, k, v = (torch.randn(2, 3, length, 8).to(dtype) for length in (m, n, n))
    bias = torch.randn(3, m, n) if biased else None
    with torch.set_grad_enabled(training):
        close(attend(q, k, v, bias=bias, causal=causal), plain.attend(q, k, v, bias=bias, causal=causal))


@pytest.mark.parametrize("training", [False, True])
@TYPES
def test_a_query_that_sees_no_key_gets_zeros(dtype: torch.dtype, training: bool) -> None:
    q, k, v = (torch.randn(2, 3, 5, 8).to(dtype).requires_grad_(training) for _ in range(3))
    bias = torch.zeros(5, 5).index_fill(0, torch.tensor([1]), float("-inf"))
    with torch.set_grad_enabled(training):
        mixed = attend(q, k, v, bias=bias)
    close(mixed, plain.attend(q, k, v, bias=bias))
    assert not mixed[:, :, 1].any()
    if training:
        mixed.float().sum().backward()
        assert all(part.grad is not None and part.grad.isfinite().all() for part in (q, k, v))


@pytest.mark.parametrize("amx", [True, False])
@TYPES
@torch.no_grad()
def test_layers_for_inference_are_the_plain_ones(
    dtype: torch.dtype, amx: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (attention, rope):
        monkeypatch.setattr(module, "has_amx", lambda: amx)
    layer, pool, x = plain.Attention(64, 4).to(dtype), AttentionPool(64, 4).to(dtype), torch.randn(2, 13, 64).to(dtype)
    nn.init.normal_(pool.probe)
    table = rope_2d((3, 4), 16, prefix=1, first=1)
    contexts = [Context(rope=table), Context(rope=table, bias=torch.randn(1, 4, 13, 13)), Context(causal=True)]
    q = torch.randn(2, 13, 4, 16).to(dtype).transpose(1, 2)
    expected = [*(layer(x, context) for context in contexts), pool(x), pool.weights(x)]
    adopt(nn.ModuleList([layer, pool]), pack=False)
    for found, other in zip(
        [*(layer(x, context) for context in contexts), pool(x), pool.weights(x)], expected, strict=True
    ):
        close(found, other)
    turned = rope.rotate(q, *table)
    close(turned, rotate(q, *table))
    assert dtype == torch.float32 or turned.is_contiguous()  # as matrix products want it


@pytest.mark.parametrize(("amx", "longest"), [(True, attention.LONG_WITH_AMX), (False, attention.VERY_LONG)])
@torch.no_grad()
def test_long_sequences_take_the_fused_kernel(
    amx: bool, longest: int, monkeypatch: pytest.MonkeyPatch, fused: list[Tensor]
) -> None:
    monkeypatch.setattr(attention, "has_amx", lambda: amx)
    for length in (longest, longest + 1):
        q = torch.randn(1, 1, length, 8).bfloat16()
        attend(q, q, q)
    assert [q.shape[2] for q in fused] == [longest + 1]


def test_training_takes_products_up_to_another_length(monkeypatch: pytest.MonkeyPatch, fused: list[Tensor]) -> None:
    monkeypatch.setattr(attention, "LONG", 39)
    for length in (39, 40):
        q, k, v = torch.randn(3, 1, 2, length, 16).bfloat16().requires_grad_()
        attend(q, k, v, causal=True).float().square().sum().backward()
    assert [q.shape[2] for q in fused] == [40]


def test_gradients_in_bfloat16_are_those_of_float32() -> None:
    x, table = torch.randn(2, 7, 32), rope_2d((2, 3), 16, prefix=1, first=1)
    wide, narrow = plain.Attention(32, 2), plain.Attention(32, 2).bfloat16()
    wide.load_state_dict({key: value.float() for key, value in narrow.state_dict().items()})
    adopt(narrow, pack=False)
    for layer in (wide, narrow):
        layer(x.to(layer.out.weight.dtype), Context(rope=table)).float().square().sum().backward()
    for parameter, other in zip(wide.parameters(), narrow.parameters(), strict=True):
        assert parameter.grad is not None
        assert other.grad is not None
        assert torch.cosine_similarity(parameter.grad.flatten(), other.grad.float().flatten(), dim=0) > 0.999


@torch.no_grad()
def test_attention_in_parts_is_attention_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = torch.randn(3, 5, 2, 9, 8).bfloat16()
    bias = torch.randn(5, 1, 9, 9)
    whole = attend(q, k, v, bias=bias)
    monkeypatch.setattr(attention, "LOGITS", 2 * 2 * 9 * 9 * 2)  # two samples
    assert torch.equal(attend(q, k, v, bias=bias), whole)


def test_no_processor_prefers_cudnn() -> None:
    assert not attention.prefers_cudnn(torch.device("cpu"))


def test_on_a_gpu_queries_and_keys_lie_token_by_token() -> None:
    layer = plain.Attention(32, 2).to("meta")
    adopt(layer, pack=False)
    table = rope_2d((2, 3), 16, prefix=1, first=1, device=torch.device("meta"))
    q, k, _ = layer.project(torch.empty(2, 7, 32, device="meta", dtype=torch.float32), Context(rope=table))
    assert q.transpose(1, 2).is_contiguous()
    assert k.transpose(1, 2).is_contiguous()
