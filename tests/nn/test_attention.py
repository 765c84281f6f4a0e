"""Attention against PyTorch's own, in every path: fused, plain products, widened projection, pooling."""

import pytest
import torch
from torch import Tensor, nn

from percept.nn import attention
from percept.nn.attention import Attention, AttentionPool, attend
from percept.nn.rope import rope_2d, rotate


def naive(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, causal: bool) -> Tensor:
    """One query at a time, in float64."""
    q, k, v = q.double(), k.double(), v.double()
    out = torch.zeros(*q.shape[:-1], v.shape[-1], dtype=torch.float64)
    for i in range(q.shape[2]):
        logits = (q[:, :, i, None] * k).sum(-1) / q.shape[-1] ** 0.5
        if bias is not None:
            logits = logits + bias.double().expand(q.shape[0], q.shape[1], q.shape[2], -1)[:, :, i]
        if causal:
            logits[..., i + 1 :] = float("-inf")
        out[:, :, i] = (logits.softmax(-1)[..., None] * v).sum(2)
    return out


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("biased", [None, "all", "per head"])
@pytest.mark.parametrize(("m", "n"), [(6, 6), (3, 7)])
def test_attend_is_the_equation(dtype: torch.dtype, causal: bool, biased: str | None, m: int, n: int) -> None:
    q, k, v = (torch.randn(2, 3, length, 8).to(dtype) for length in (m, n, n))
    bias = None if biased is None else torch.randn(1, 3 if biased == "per head" else 1, m, n)
    if bias is not None:
        bias[..., 1:, 1] = float("-inf")  # a hidden key
    found = attend(q, k, v, bias=bias, causal=causal)
    assert found.dtype == dtype
    tolerance = 2e-6 if dtype == torch.float32 else 0.03
    torch.testing.assert_close(found.double(), naive(q, k, v, bias, causal), atol=tolerance, rtol=tolerance)


def test_long_sequences_in_bfloat16_take_the_fused_kernel_and_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = torch.randn(3, 1, 2, 40, 16).bfloat16()
    plain = attend(q, k, v, causal=True)
    monkeypatch.setattr(attention, "LONG", 39)
    torch.testing.assert_close(attend(q, k, v, causal=True), plain, atol=0.02, rtol=0.02)


def test_attention_is_pytorch_multihead_attention() -> None:
    ours, theirs = Attention(24, 3), nn.MultiheadAttention(24, 3, batch_first=True)
    ours.load_state_dict(renamed(theirs))
    x = torch.randn(2, 5, 24)
    torch.testing.assert_close(ours(x), theirs(x, x, x, need_weights=False)[0])
    hidden = nn.Transformer.generate_square_subsequent_mask(5)
    expected = theirs(x, x, x, attn_mask=hidden, need_weights=False)[0]
    torch.testing.assert_close(ours(x, causal=True), expected)
    torch.testing.assert_close(ours(x, bias=hidden), expected)


def renamed(module: nn.MultiheadAttention) -> dict[str, Tensor]:
    names = {"in_proj_weight": "qkv.weight", "in_proj_bias": "qkv.bias"}
    return {names.get(key, key.replace("out_proj", "out")): value for key, value in module.state_dict().items()}


@pytest.mark.parametrize("prefix", [0, 1, 3])
def test_widened_projection_gives_the_rotated_queries_and_keys(prefix: int) -> None:
    layer = Attention(32, 2)
    x, rope = torch.randn(2, 6 + prefix, 32), rope_2d((2, 3), 16, prefix=prefix, first=1)
    q, k, v = layer.qkv(x).unflatten(-1, (3, 2, 16)).permute(2, 0, 3, 1, 4)
    for found, expected in zip(layer._turned(x, rope), (rotate(q, *rope), rotate(k, *rope), v), strict=True):
        torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-5)


def test_bfloat16_gradients_are_those_of_float32() -> None:
    x, rope = torch.randn(2, 7, 32), rope_2d((2, 3), 16, prefix=1, first=1)
    wide, narrow = Attention(32, 2), Attention(32, 2).bfloat16()
    wide.load_state_dict({key: value.float() for key, value in narrow.state_dict().items()})
    for layer in (wide, narrow):
        layer(x.to(layer.out.weight.dtype), rope=rope).float().square().sum().backward()
    for one, other in zip(wide.parameters(), narrow.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        agreement = torch.cosine_similarity(one.grad.flatten(), other.grad.float().flatten(), dim=0)
        assert agreement > 0.999


class Doubled(nn.Linear):
    """A stand-in for a method's own linear layer."""

    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


def test_a_replaced_linear_layer_is_called_in_bfloat16_too() -> None:
    layer = Attention(32, 2).bfloat16()
    doubled = Doubled(32, 96).bfloat16()
    doubled.load_state_dict(layer.qkv.state_dict())
    reference = Attention(32, 2).bfloat16()
    reference.load_state_dict({k: 2 * v if k.startswith("qkv") else v for k, v in layer.state_dict().items()})
    layer.qkv = doubled
    x, rope = torch.randn(1, 6, 32).bfloat16(), rope_2d((2, 3), 16, prefix=0, first=1)
    torch.testing.assert_close(layer(x, rope=rope), reference(x, rope=rope), atol=0.05, rtol=0.05)


def test_who_listens_to_the_projection_hears_it_in_bfloat16_too() -> None:
    layer, heard = Attention(32, 2).bfloat16(), []
    x, rope = torch.randn(1, 6, 32).bfloat16(), rope_2d((2, 3), 16, prefix=0, first=1)
    quiet = layer(x, rope=rope)
    layer.qkv.register_forward_hook(lambda *_: heard.append(1))
    torch.testing.assert_close(layer(x, rope=rope), quiet, atol=0.02, rtol=0.02)
    assert heard == [1]
    layer.qkv = nn.Linear(32, 96, bias=False).bfloat16()
    assert layer(x, rope=rope).shape == x.shape


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


def test_on_a_gpu_queries_and_keys_lie_token_by_token() -> None:
    x = torch.empty(2, 1, 2, 7, 16, device="meta")
    q, k = attention._rotated(x, rope_2d((2, 3), 16, prefix=1, first=1, device=x.device))
    assert q.transpose(1, 2).is_contiguous()
    assert k.transpose(1, 2).is_contiguous()
