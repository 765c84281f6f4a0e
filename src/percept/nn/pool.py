"""Attention pooling: from the tokens of an image to one vector."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from percept.nn.attention import attend
from percept.nn.mlp import MLP


class AttentionPool(nn.Module):
    """One learned query attends to all tokens, and a residual MLP follows.

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

    def forward(self, x: Float[Tensor, "b n w"]) -> Float[Tensor, "b w"]:
        """Pool the tokens to one vector."""
        return self._finish(self.attend(*self._project(x)).transpose(1, 2).flatten(-2)).squeeze(1)

    def weights(self, x: Float[Tensor, "b n w"]) -> Float[Tensor, "b h n"]:
        """Return the attention of each head of the query to each token; it sums to 1 over the tokens."""
        query, key, _ = self._project(x)
        logits = (query.float() @ key.float().transpose(-1, -2)) * query.shape[-1] ** -0.5
        return logits.softmax(dim=-1).squeeze(2)

    def over(self, x: Float[Tensor, "b n w"], weights: Float[Tensor, "b k n"]) -> Float[Tensor, "b k w"]:
        """Pool with the given weights instead of those of the query: one vector for each of k regions.

        Equals pooling if the query attended to nothing outside the region (the value path of Zhou et al. 2022,
        arXiv:2112.01071, MaskCLIP).
        """
        value = self.qkv(x).chunk(3, dim=-1)[2]
        return self._finish(weights.to(value.dtype) @ value)

    def attend(
        self, query: Float[Tensor, "b h 1 e"], key: Float[Tensor, "b h n e"], value: Float[Tensor, "b h n e"]
    ) -> Float[Tensor, "b h 1 e"]:
        """Compute the attention of the query; see the function `attend`."""
        return attend(query, key, value)

    def _project(self, x: Float[Tensor, "b n w"]) -> tuple[Tensor, Tensor, Tensor]:
        """Return the query [b, h, 1, e] of the probe, and keys and values [b, h, n, e] of the tokens.

        One call projects the probe and the tokens together, so a layer in place of `qkv` is called once.
        """
        rows = torch.cat([self.probe.to(x.dtype).expand(x.shape[0], -1, -1), x], dim=1)
        q, k, v = self.qkv(rows).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return q[:, :, :1], k[:, :, 1:], v[:, :, 1:]

    def _finish(self, mixed: Float[Tensor, "b k w"]) -> Float[Tensor, "b k w"]:
        pooled = self.out(mixed)
        return pooled + self.mlp(self.norm(pooled))
