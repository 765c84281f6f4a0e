"""Multi-head self-attention with rotary positions, masks, packed rows and a cache; attention pooling is in `pool`."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from percept.nn.context import EMPTY, Context
from percept.nn.packing import Segments, unpack
from percept.nn.rope import rotate


def attend(
    q: Float[Tensor, "b h m e"],
    k: Float[Tensor, "b h n e"],
    v: Float[Tensor, "b h n e"],
    *,
    bias: Float[Tensor, "... #m n"] | None = None,
    causal: bool = False,
) -> Float[Tensor, "b h m e"]:
    """Return softmax(q k' / sqrt(e) + bias) v.

    With `causal`, queries are the last m of the n tokens: query i sees the keys up to n - m + i.
    """
    if causal and (bias is not None or q.shape[2] != k.shape[2]):
        bias, causal = joined_bias(bias, q, k), False
    bias = None if bias is None else bias.to(q.dtype)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, is_causal=causal)


def joined_bias(
    bias: Float[Tensor, "... _ _"] | None, q: Float[Tensor, "b h m e"], k: Float[Tensor, "b h n e"]
) -> Float[Tensor, "... m n"]:
    """Return a bias that also hides the keys after each query; the last query is aligned with the last key."""
    m, n = q.shape[2], k.shape[2]
    ahead = torch.full((m, n), float("-inf"), device=q.device).triu(1 + n - m)
    return ahead if bias is None else bias + ahead


def attend_within(
    kernel: Callable[..., Tensor],
    q: Float[Tensor, "1 h n e"],
    k: Float[Tensor, "1 g n e"],
    v: Float[Tensor, "1 g n e"],
    segments: Segments,
    *,
    causal: bool = False,
    biases: Sequence[Float[Tensor, "_ _"] | None] | None = None,
) -> Float[Tensor, "1 h n e"]:
    """Attend within each sequence of a packed row: one dense batch for each run of equal lengths.

    Args:
        kernel: computes the attention of a batch, as `attend` does.
        biases: of the runs that have one, in place of `causal`.
    """
    runs = zip(*(unpack(part, segments) for part in (q, k, v)), strict=True)
    given = [None] * len(segments) if biases is None else biases
    mixed = [
        kernel(*run, bias=bias, causal=causal and bias is None) for run, bias in zip(runs, given, strict=True)
    ]  # fmt: skip
    return torch.cat([part.movedim(0, 1).flatten(1, 2) for part in mixed], dim=1)[None]


class Attention(nn.Module):
    """Self-attention; queries, keys and values come from one linear layer, in this order."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "b n w"], context: Context = EMPTY) -> Float[Tensor, "b n w"]:
        """Mix the tokens."""
        q, k, v = self.project(x, context)
        if context.cache is not None:
            k, v = context.cache.append(k, v)
        if context.segments is None:
            mixed = self.attend(q, k, v, bias=context.bias, causal=context.causal)
        else:
            mixed = self.attend_within(q, k, v, context.segments, causal=context.causal)
        return self.out(mixed.transpose(1, 2).flatten(-2))

    def project(
        self, x: Float[Tensor, "b n w"], context: Context
    ) -> tuple[Float[Tensor, "b h n e"], Float[Tensor, "b h n e"], Float[Tensor, "b h n e"]]:
        """Return rotated queries, rotated keys, and values."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if context.rope is not None:
            q, k = rotate(q, *context.rope), rotate(k, *context.rope)
        return q, k, v

    def attend(
        self,
        q: Float[Tensor, "b h m e"],
        k: Float[Tensor, "b h n e"],
        v: Float[Tensor, "b h n e"],
        *,
        bias: Float[Tensor, "... #m n"] | None = None,
        causal: bool = False,
    ) -> Float[Tensor, "b h m e"]:
        """Compute the attention; see the function `attend`."""
        return attend(q, k, v, bias=bias, causal=causal)

    def attend_within(
        self,
        q: Float[Tensor, "1 h n e"],
        k: Float[Tensor, "1 h n e"],
        v: Float[Tensor, "1 h n e"],
        segments: Segments,
        *,
        causal: bool = False,
    ) -> Float[Tensor, "1 h n e"]:
        """Attend within each sequence of a packed row; see the function `attend_within`."""
        return attend_within(self.attend, q, k, v, segments, causal=causal)
