"""Multi-head self-attention with rotary positions and an optional bias, and attention pooling."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from percept.core.machine import has_amx
from percept.nn.linear import is_plain, linear, only_inferring, only_inferring_on_gpu
from percept.nn.mlp import MLP
from percept.nn.packing import Segments, unpack
from percept.nn.rope import quarter_turn, rotate

Rope = tuple[Tensor, Tensor]
"""Cosines and sines [n, head_dim] of `percept.nn.rope.rope_2d`."""


LONG = 640
"""Tokens from which the fused kernel is faster than two matrix products on a CPU in bfloat16, while training."""
LONG_WITH_AMX = 383
"""The same for only inferring with AMX. With fewer it is the slower one at some lengths, see `benchmarks/attention.py`."""
VERY_LONG = 2048
"""The same for only inferring without AMX: there the fused kernel takes 1.6 times as long even at 1,024 tokens."""
LEAST_QUERIES = 64
"""Queries from which cuDNN's attention is taken; the one query of attention pooling is not worth its plans."""
CUDNN = 90_100
"""The first version of cuDNN whose attention is taken."""
LOGITS = 64 * 2**20
"""Bytes of attention logits that are in memory at once while only inferring."""


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
    fused = q.device.type != "cpu" or q.dtype != torch.bfloat16 or k.shape[2] > _longest(q)
    if causal and (bias is not None or not fused):  # the fused kernel takes one of the two
        ahead = torch.full((q.shape[2], k.shape[2]), float("-inf"), device=q.device).triu(1)
        bias, causal = ahead if bias is None else bias + ahead, False
    bias = None if bias is None else bias.to(q.dtype)
    if fused and bias is None and _for_cudnn(q, k):
        return torch.ops.aten._scaled_dot_product_cudnn_attention(q, k, v, None, False, 0.0, causal)[0]
    if fused:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, is_causal=causal)
    if only_inferring(q):
        return _attend_in_parts(q, k, v, bias)
    logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    return (logits if bias is None else logits + bias).softmax(dim=-1) @ v


def _for_cudnn(q: Tensor, k: Tensor) -> bool:
    """Tell whether cuDNN's kernel takes it and is the fastest: 1.4 times as fast as torch's own choice on Hopper GPUs.

    Called by its own operator, for what torch would take differs between eager and compiled.
    """
    fits = q.dtype in (torch.bfloat16, torch.float16) and q.shape[-1] % 8 == 0 and q.shape[-1] <= 128
    return fits and q.shape[2] >= LEAST_QUERIES and only_inferring_on_gpu(q) and _is_hopper(q.device.index or 0)


@torch.compiler.assume_constant_result
def _is_hopper(index: int) -> bool:
    """Tell whether a GPU is of compute capability 9.0, and cuDNN new enough for its attention there."""
    if torch.version.cuda is None or not torch.backends.cuda.cudnn_sdp_enabled():
        return False
    version = torch.backends.cudnn.version() if torch.backends.cudnn.is_available() else None
    return version is not None and version >= CUDNN and torch.cuda.get_device_capability(index) == (9, 0)


def _longest(q: Tensor) -> int:
    """Return the number of keys up to which two products are faster than the fused kernel."""
    if not only_inferring(q):
        return LONG
    return LONG_WITH_AMX if has_amx() else VERY_LONG


def _attend_in_parts(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    """Attend a few samples at a time, the softmax written over its logits."""
    each = q.shape[1] * q.shape[2] * k.shape[2] * q.element_size()
    count, mixed = max(1, LOGITS // max(1, each)), q.new_empty((*q.shape[:-1], v.shape[-1]))
    nothing, scale = q.new_empty(()), q.shape[-1] ** -0.5
    bias = None if bias is None else bias.expand(len(q), q.shape[1], q.shape[2], k.shape[2])
    for part in (slice(start, start + count) for start in range(0, len(q), count)):
        queries, keys, values = (x[part].flatten(0, 1) for x in (q, k, v))
        logits = torch.baddbmm(nothing, queries, keys.transpose(-1, -2), beta=0, alpha=scale)
        if bias is not None:
            logits += bias[part].flatten(0, 1)
        torch.softmax(logits, dim=-1, out=logits)
        torch.bmm(logits, values, out=mixed[part].flatten(0, 1))
    return mixed


def attend_within(
    q: Float[Tensor, "1 h n e"], k: Float[Tensor, "1 h n e"], v: Float[Tensor, "1 h n e"], segments: Segments
) -> Float[Tensor, "1 h n e"]:
    """Attend within each sequence of a packed row: block-diagonal attention, one dense batch per run of equal lengths."""
    runs = zip(*(unpack(part, segments) for part in (q, k, v)), strict=True)
    return torch.cat([attend(*run).movedim(0, 1).flatten(1, 2) for run in runs], dim=1)[None]


def _rotated(x: Float[Tensor, "*b h n e"], rope: Rope) -> Float[Tensor, "*b h n e"]:
    """Turn queries and keys by their positions.

    On a GPU they lie in memory token by token, as do attention's results then: its output projection copies nothing.
    """
    if x.device.type == "cpu":
        return rotate(x, *rope)
    cos, sin = (table[:, None] for table in rope)
    return rotate(x.transpose(-3, -2), cos, sin).transpose(-3, -2)


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
        narrow = x.dtype == torch.bfloat16 and x.device.type == "cpu"
        if rope is not None and narrow and is_plain(self.qkv) and not only_inferring(x):
            q, k, v = self._turned(x, rope)
        else:
            parts = linear(self.qkv, x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
            q, k = parts[:2] if rope is None else _rotated(parts[:2], rope)
            v = parts[2]
        mixed = attend(q, k, v, bias=bias, causal=causal) if segments is None else attend_within(q, k, v, segments)
        return linear(self.out, mixed.transpose(1, 2).flatten(-2))

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

    no_decay = ("probe",)

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
        query = F.linear(self.probe, weight[:width], bias[:width]).expand(x.shape[0], -1, -1)
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
        return self._finish(attend(query, key, value).transpose(1, 2).flatten(-2)).squeeze(1)

    def over(self, x: Float[Tensor, "b n w"], weights: Float[Tensor, "b k n"]) -> Float[Tensor, "b k w"]:
        """Pool with given weights in place of those of the query, one vector for each of k regions.

        What a region would give if the query looked at nothing else (the value path of Zhou et al. 2022,
        arXiv:2112.01071, MaskCLIP).
        """
        width = x.shape[-1]
        value = F.linear(x, self.qkv.weight[2 * width :], self.qkv.bias[2 * width :])
        return self._finish(weights.to(value.dtype) @ value)

    def _finish(self, mixed: Float[Tensor, "b k w"]) -> Float[Tensor, "b k w"]:
        pooled = self.out(mixed)
        return pooled + self.mlp(self.norm(pooled))
