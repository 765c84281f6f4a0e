"""Attention whose queries share keys and values in groups (Ainslie et al. 2023, arXiv:2305.13245)."""

from jaxtyping import Float
from torch import Tensor, nn

from percept.nn.attention import attend, attend_within
from percept.nn.context import EMPTY, Context
from percept.nn.rope_1d import rotate_halves


class GroupedAttention(nn.Module):
    """Self-attention with fewer heads of keys and values than of queries, separate linear layers, and 1-D rotary positions.

    Args:
        heads: heads of the queries; a multiple of `kv_heads`.
        kv_heads: heads of keys and values; each serves heads / kv_heads neighbouring heads of queries.
        head_dim: channels of a head; width / heads when None.
        bias: queries, keys and values have biases; the output never does.
    """

    def __init__(
        self, width: int, heads: int, kv_heads: int, *, head_dim: int | None = None, bias: bool = False
    ) -> None:
        super().__init__()
        self.head_dim = width // heads if head_dim is None else head_dim
        self.q = nn.Linear(width, heads * self.head_dim, bias=bias)
        self.k = nn.Linear(width, kv_heads * self.head_dim, bias=bias)
        self.v = nn.Linear(width, kv_heads * self.head_dim, bias=bias)
        self.out = nn.Linear(heads * self.head_dim, width, bias=False)

    def forward(self, x: Float[Tensor, "b n w"], context: Context = EMPTY) -> Float[Tensor, "b n w"]:
        """Mix the tokens."""
        q, k, v = self.project(x, context)
        if context.cache is not None:
            k, v = context.cache.append(k, v)
        if context.segments is None:
            mixed = self.attend(q, k, v, bias=context.bias, causal=context.causal)
        else:
            mixed = attend_within(
                self.attend, q, k, v, context.segments, causal=context.causal, biases=context.biases
            )  # fmt: skip
        return self.out(mixed.transpose(1, 2).flatten(-2))

    def project(
        self, x: Float[Tensor, "b n w"], context: Context
    ) -> tuple[Float[Tensor, "b h n e"], Float[Tensor, "b g n e"], Float[Tensor, "b g n e"]]:
        """Return rotated queries, rotated keys, and values."""
        q, k, v = (layer(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        if context.rope is not None:
            q, k = rotate_halves(q, *context.rope), rotate_halves(k, *context.rope)
        return q, k, v

    def attend(
        self,
        q: Float[Tensor, "b h m e"],
        k: Float[Tensor, "b g n e"],
        v: Float[Tensor, "b g n e"],
        *,
        bias: Float[Tensor, "... #m n"] | None = None,
        causal: bool = False,
    ) -> Float[Tensor, "b h m e"]:
        """Compute the attention; see the function `percept.nn.attention.attend`.

        A single query attends to the shared keys as they are; for several, keys and values are repeated for each head.
        """
        groups = q.shape[1] // k.shape[1]
        shared = bias is None or bias.dim() < 3 or bias.shape[-3] == 1
        if q.shape[2] == 1 and shared:  # the query is the last token, which may see all keys
            grouped = q.unflatten(1, (-1, groups)).squeeze(3)
            return self.kernel(grouped, k, v, bias=bias).flatten(1, 2)[:, :, None]
        return self.kernel(q, repeated(k, groups), repeated(v, groups), bias=bias, causal=causal)

    def kernel(
        self, q: Tensor, k: Tensor, v: Tensor, *, bias: Tensor | None = None, causal: bool = False
    ) -> Float[Tensor, "b h m e"]:
        """Compute the attention of equally many heads."""
        return attend(q, k, v, bias=bias, causal=causal)


def repeated(x: Float[Tensor, "b g n e"], groups: int) -> Float[Tensor, "b h n e"]:
    """Repeat each head `groups` times, side by side.

    >>> import torch
    >>> repeated(torch.arange(2.0).view(1, 2, 1, 1), 2).flatten().tolist()
    [0.0, 0.0, 1.0, 1.0]
    """
    return x if groups == 1 else x.repeat_interleave(groups, dim=1)
