"""The pre-norm transformer block, composed of parts that are passed in, with optional LayerScale and DropPath."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from percept.nn.context import EMPTY, Context
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
    """Drop the residual branch of whole samples in training (Huang et al. 2016, arXiv:1603.09382); the mean is kept."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Float[Tensor, "b n w"], segments: Segments | None = None) -> Float[Tensor, "b n w"]:
        """Zero whole samples with probability `rate` and scale up the others; a sample of a packed row is a sequence."""
        if not self.training or self.rate == 0:
            return x
        if segments is None:
            draws = torch.rand(len(x), 1, 1, device=x.device)
        else:
            draws = pack([torch.rand(count, 1, 1, device=x.device).expand(-1, length, 1) for count, length in segments])
        return x * ((draws >= self.rate) / (1 - self.rate)).to(x.dtype)


class Block(nn.Module):
    """x + scale(attention(norm x)), then x + scale(mlp(norm x)).

    Args:
        attention: called with the tokens and their `Context`.
        mlp: called with the tokens.
        norm: makes a norm of `width` channels.
        layer_scale: initial value of LayerScale; no LayerScale when None.
        drop_path: probability of dropping a branch in training.
    """

    def __init__(
        self,
        width: int,
        *,
        attention: nn.Module,
        mlp: nn.Module,
        norm: Callable[[int], nn.Module] = nn.LayerNorm,
        layer_scale: float | None = None,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm_1 = norm(width)
        self.attention = attention
        self.scale_1 = nn.Identity() if layer_scale is None else LayerScale(width, layer_scale)
        self.norm_2 = norm(width)
        self.mlp = mlp
        self.scale_2 = nn.Identity() if layer_scale is None else LayerScale(width, layer_scale)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Float[Tensor, "b n w"], context: Context = EMPTY) -> Float[Tensor, "b n w"]:
        """Transform the tokens."""
        mixed = self.attention(self.norm_1(x), context)
        x = x + self.drop_path(self.scale_1(mixed), context.segments)
        return x + self.drop_path(self.scale_2(self.mlp(self.norm_2(x))), context.segments)
