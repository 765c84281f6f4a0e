"""Attention and attention pooling against a loop and against PyTorch's own."""

import pytest
import torch
from torch import Tensor, nn

from percept.nn.attention import Attention, attend
from percept.nn.context import Context
from percept.nn.pool import AttentionPool


def naive(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, causal: bool) -> Tensor:
    """One query at a time, in float64; the queries are the last tokens of the keys."""
    q, k, v = q.double(), k.double(), v.double()
    out = torch.zeros(*q.shape[:-1], v.shape[-1], dtype=torch.float64)
    for i in range(q.shape[2]):
        logits = (q[:, :, i, None] * k).sum(-1) / q.shape[-1] ** 0.5
        if bias is not None:
            logits = logits + bias.double().expand(q.shape[0], q.shape[1], q.shape[2], -1)[:, :, i]
        if causal:
            logits[..., k.shape[2] - q.shape[2] + i + 1 :] = float("-inf")
        out[:, :, i] = (logits.softmax(-1)[..., None] * v).sum(2)
    return out


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("biased", [None, "all", "per head"])
@pytest.mark.parametrize(("m", "n"), [(6, 6), (3, 7), (1, 7)])
def test_attend_is_the_equation(dtype: torch.dtype, causal: bool, biased: str | None, m: int, n: int) -> None:
    q, k, v = (torch.randn(2, 3, length, 8).to(dtype) for length in (m, n, n))
    bias = None if biased is None else torch.randn(1, 3 if biased == "per head" else 1, m, n)
    if bias is not None:
        bias[..., 1] = float("-inf")  # a hidden key
    found = attend(q, k, v, bias=bias, causal=causal)
    assert found.dtype == dtype
    tolerance = 2e-6 if dtype == torch.float32 else 0.03
    torch.testing.assert_close(found.double(), naive(q, k, v, bias, causal), atol=tolerance, rtol=tolerance)


def test_attention_is_pytorch_multihead_attention() -> None:
    ours, theirs = Attention(24, 3), nn.MultiheadAttention(24, 3, batch_first=True)
    ours.load_state_dict(renamed(theirs))
    x = torch.randn(2, 5, 24)
    torch.testing.assert_close(ours(x), theirs(x, x, x, need_weights=False)[0])
    hidden = nn.Transformer.generate_square_subsequent_mask(5)
    expected = theirs(x, x, x, attn_mask=hidden, need_weights=False)[0]
    torch.testing.assert_close(ours(x, Context(causal=True)), expected)
    torch.testing.assert_close(ours(x, Context(bias=hidden)), expected)


def renamed(module: nn.MultiheadAttention) -> dict[str, Tensor]:
    names = {"in_proj_weight": "qkv.weight", "in_proj_bias": "qkv.bias"}
    return {names.get(key, key.replace("out_proj", "out")): value for key, value in module.state_dict().items()}


def test_pool_is_multihead_attention_of_the_probe_and_a_residual_mlp() -> None:
    pool, theirs = AttentionPool(24, 3), nn.MultiheadAttention(24, 3, batch_first=True)
    nn.init.normal_(pool.probe)
    missing, unexpected = pool.load_state_dict(renamed(theirs), strict=False)
    assert not unexpected
    assert all(name.startswith(("probe", "norm", "mlp")) for name in missing)
    x = torch.randn(4, 7, 24)
    mixed, weights = theirs(pool.probe.expand(4, -1, -1), x, x, average_attn_weights=False)
    mixed = mixed[:, 0]
    torch.testing.assert_close(pool(x), mixed + pool.mlp(pool.norm(mixed)))
    torch.testing.assert_close(pool.weights(x), weights[:, :, 0])
    torch.testing.assert_close(pool.weights(x).sum(-1), torch.ones(4, 3))


def test_pooling_ignores_the_order_of_tokens() -> None:
    pool = AttentionPool(24, 3)
    nn.init.normal_(pool.probe)
    x, order = torch.randn(2, 7, 24), torch.randperm(7)
    torch.testing.assert_close(pool(x[:, order]), pool(x))
    torch.testing.assert_close(pool.weights(x[:, order]), pool.weights(x)[..., order])


def test_pooling_over_regions_is_pooling_with_given_weights() -> None:
    pool = AttentionPool(24, 3)
    nn.init.normal_(pool.probe)
    x = torch.randn(2, 5, 24)
    single = torch.eye(5).expand(2, 5, 5)
    for token in range(5):  # a region of one token is what the query gives if there is no other
        torch.testing.assert_close(pool.over(x, single)[:, token], pool(x[:, token : token + 1]))
    weights = torch.rand(2, 3, 5)
    mixed = pool.out(weights @ pool.qkv(x)[..., 48:])
    torch.testing.assert_close(pool.over(x, weights), mixed + pool.mlp(pool.norm(mixed)))
