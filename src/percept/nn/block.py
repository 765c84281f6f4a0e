"""The pre-norm transformer block, with optional LayerScale and DropPath."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from percept.nn.attention import Attention, Rope
from percept.nn.mlp import MLP
from percept.nn.packing import Segments, pack


class LayerScale(nn.Module):
    """Multiply each channel by a learned factor (Touvron et al. 2021, arXiv:2103.17239)."""

    def __init__(self, width: int, initial: float) -> None:
        super().__init__()
        self.initial = initial
        self.gamma = nn.Parameter(torch.full((width,), initial))

    def forward(self, x: Float[Tensor, "*b w"]) -> Float[Tensor, "*b w"]:
        """Scale the channels."""
        return x * self.gamma


class DropPath(nn.Module):
    """Drop a residual branch per sample while training (Huang et al. 2016, arXiv:1603.09382); the mean is kept."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Float[Tensor, "b n w"], segments: Segments | None = None) -> Float[Tensor, "b n w"]:
        """Zero whole samples with probability `rate` and scale up the others; the samples of a packed row are its sequences."""
        if not self.training or self.rate == 0:
            return x
        if segments is None:
            draws = torch.rand(len(x), 1, 1, device=x.device)
        else:
            draws = pack([torch.rand(count, 1, 1, device=x.device).expand(-1, length, 1) for count, length in segments])
        return x * ((draws >= self.rate) / (1 - self.rate)).to(x.dtype)


class Block(nn.Module):
    """x + scale(attention(norm x)), then x + scale(mlp(norm x))."""

    def __init__(
        self, width: int, heads: int, hidden: int, *, layer_scale: float | None = None, drop_path: float = 0.0
    ) -> None:
        super().__init__()
        self.norm_1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.scale_1 = nn.Identity() if layer_scale is None else LayerScale(width, layer_scale)
        self.norm_2 = nn.LayerNorm(width)
        self.mlp = MLP(width, hidden)
        self.scale_2 = nn.Identity() if layer_scale is None else LayerScale(width, layer_scale)
        self.drop_path = DropPath(drop_path)

    def forward(
        self,
        x: Float[Tensor, "b n w"],
        rope: Rope | None = None,
        bias: Tensor | None = None,
        causal: bool = False,
        segments: Segments | None = None,
    ) -> Float[Tensor, "b n w"]:
        """Transform the tokens; see `Attention` for `rope`, `bias`, `causal` and `segments`."""
        x, branch = self.unsummed(x, rope, bias, causal, segments)
        return x + branch

    def unsummed(
        self,
        x: Float[Tensor, "b n w"],
        rope: Rope | None = None,
        bias: Tensor | None = None,
        causal: bool = False,
        segments: Segments | None = None,
    ) -> tuple[Float[Tensor, "b n w"], Float[Tensor, "b n w"]]:
        """Do it but for the last sum: return its two terms, the residual stream and the branch of the MLP."""
        mixed = self.attention(self.norm_1(x), rope=rope, bias=bias, causal=causal, segments=segments)
        x = x + self.drop_path(self.scale_1(mixed), segments)
        return x, self.drop_path(self.scale_2(self.mlp(self.norm_2(x))), segments)
