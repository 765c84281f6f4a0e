"""Multi-head self-attention with rotary positions and an optional bias, and attention pooling."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from percept.nn.mlp import MLP
from percept.nn.packing import Segments, unpack
from percept.nn.rope import quarter_turn, rotate

Rope = tuple[Tensor, Tensor]
"""Cosines and sines [n, head_dim] of `percept.nn.rope.rope_2d`."""


LONG = 640
"""Tokens from which the fused kernel is faster than two matrix products on a CPU in bfloat16."""


def attend(
    q: Float[Tensor, "b h m e"],
    k: Float[Tensor, "b h n e"],
    v: Float[Tensor, "b h n e"],
    *,
    bias: Float[Tensor, "... #m n"] | None = None,
    causal: bool = False,
) -> Float[Tensor, "b h m e"]:
    """Return softmax(q k' / sqrt(e) + bias) v; with `causal`, token i sees the keys 0 to i and no further.

    On a CPU in bfloat16 the fused kernel runs at a fraction of the speed of two plain products (a quarter, with its
    backward pass, at 145 tokens), so short sequences take those.
    """
    fused = q.device.type != "cpu" or q.dtype != torch.bfloat16 or k.shape[2] > LONG
    if causal and (bias is not None or not fused):  # the fused kernel takes one of the two
        ahead = torch.full((q.shape[2], k.shape[2]), float("-inf"), device=q.device).triu(1)
        bias, causal = ahead if bias is None else bias + ahead, False
    bias = None if bias is None else bias.to(q.dtype)
    if fused:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, is_causal=causal)
    logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    return (logits if bias is None else logits + bias).softmax(dim=-1) @ v


def attend_within(
    q: Float[Tensor, "1 h n e"], k: Float[Tensor, "1 h n e"], v: Float[Tensor, "1 h n e"], segments: Segments
) -> Float[Tensor, "1 h n e"]:
    """Attend within each sequence of a packed row: block-diagonal attention, one dense batch per run of equal lengths."""
    runs = zip(*(unpack(part, segments) for part in (q, k, v)), strict=True)
    return torch.cat([attend(*run).movedim(0, 1).flatten(1, 2) for run in runs], dim=1)[None]


def _plain(layer: nn.Module) -> bool:
    """Tell whether a layer is linear with a bias, and nobody listens to it: only then its weights stand for it."""
    listened = layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks
    return type(layer) is nn.Linear and layer.bias is not None and not listened


class Attention(nn.Module):
    """Self-attention; queries, keys and values come from one linear layer, in that order."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self,
        x: Float[Tensor, "b n w"],
        *,
        rope: Rope | None = None,
        bias: Float[Tensor, "... #n n"] | None = None,
        causal: bool = False,
        segments: Segments | None = None,
    ) -> Float[Tensor, "b n w"]:
        """Mix tokens. `bias` is added to the attention logits (-inf hides a key); `causal` hides the keys ahead.

        With `segments`, `x` is one packed row whose sequences do not see each other; bias and causal do not go with it.
        """
        assert segments is None or (bias is None and not causal)
        if rope is not None and x.dtype == torch.bfloat16 and x.device.type == "cpu" and _plain(self.qkv):
            q, k, v = self._turned(x, rope)
        else:
            q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
            if rope is not None:
                q, k = rotate(q, *rope), rotate(k, *rope)
        mixed = attend(q, k, v, bias=bias, causal=causal) if segments is None else attend_within(q, k, v, segments)
        return self.out(mixed.transpose(1, 2).flatten(-2))

    def _turned(self, x: Float[Tensor, "b n w"], rope: Rope) -> tuple[Tensor, Tensor, Tensor]:
        """Project to rotated queries and keys with one wider product; only plain linear layers can be widened."""
        both, width = 2 * x.shape[-1], x.shape[-1]
        weight = torch.cat([self.qkv.weight, quarter_turn(self.qkv.weight[:both])])
        offset = torch.cat([self.qkv.bias, quarter_turn(self.qkv.bias[:both])])
        qkv, turned = F.linear(x, weight, offset).split([3 * width, both], dim=-1)
        v = qkv[..., both:].unflatten(-1, (self.heads, -1)).transpose(1, 2)
        straight = qkv[..., :both].unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        turned = turned.unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        cos, sin = (table.to(x.dtype) for table in rope)
        q, k = torch.addcmul(straight * cos, turned, sin)
        return q, k, v


class AttentionPool(nn.Module):
    """One learned query looks at all tokens and a residual MLP follows.

    The map head of Zhai et al. 2022, arXiv:2106.04560, as used by the Perception Encoder: no residual from the query.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.probe = nn.Parameter(torch.empty(1, 1, width))
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.mlp = MLP(width, 4 * width)

    def _query_key_value(self, x: Float[Tensor, "b n w"]) -> tuple[Tensor, Tensor, Tensor]:
        width = x.shape[-1]
        weight, bias = self.qkv.weight, self.qkv.bias
        query = F.linear(self.probe, weight[:width], bias[:width]).expand(len(x), -1, -1)
        key, value = F.linear(x, weight[width:], bias[width:]).chunk(2, dim=-1)
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (query, key, value))
        return query, key, value

    def weights(self, x: Float[Tensor, "b n w"]) -> Float[Tensor, "b h n"]:
        """Return how much each head of the query looks at each token; sums to 1 over the tokens."""
        query, key, _ = self._query_key_value(x)
        logits = (query.float() @ key.float().transpose(-1, -2)) * query.shape[-1] ** -0.5
        return logits.softmax(dim=-1).squeeze(2)

    def forward(self, x: Float[Tensor, "b n w"]) -> Float[Tensor, "b w"]:
        """Pool the tokens to one vector."""
        query, key, value = self._query_key_value(x)
        pooled = self.out(attend(query, key, value).transpose(1, 2).flatten(-2))
        return (pooled + self.mlp(self.norm(pooled))).squeeze(1)
