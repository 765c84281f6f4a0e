"""Small networks on the projected vector of a tower, which methods add to it or blend with it."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn


class QuickGELU(nn.Module):
    """x sigmoid(1.702 x), the activation of OpenAI's CLIP."""

    def forward(self, x: Float[Tensor, "*b w"]) -> Float[Tensor, "*b w"]:
        """Return the activation."""
        return x * torch.sigmoid(1.702 * x)


class FeatureAdapter(nn.Module):
    """A network of one hidden layer; whoever calls it adds the result to its input, or blends both.

    Args:
        width: length of the vector.
        hidden: units of the hidden layer.
        activation: of the hidden layer.
        bias: of both linear layers.
        norm: a LayerNorm comes first.
        last: the activation is applied to the result too.
    """

    def __init__(
        self,
        width: int,
        hidden: int,
        *,
        activation: Literal["relu", "quick_gelu"] = "relu",
        bias: bool = True,
        norm: bool = False,
        last: bool = False,
    ) -> None:
        super().__init__()
        active = nn.ReLU() if activation == "relu" else QuickGELU()
        self.norm = nn.LayerNorm(width) if norm else nn.Identity()
        self.up = nn.Linear(width, hidden, bias=bias)
        self.down = nn.Linear(hidden, width, bias=bias)
        self.active, self.last = active, active if last else nn.Identity()

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        """Return what is to be mixed with `x`, in float32."""
        own = x.to(self.up.weight.dtype)
        return self.last(self.down(self.active(self.up(self.norm(own))))).float()

    @staticmethod
    def sizes(name: str, width: int, hidden: int, *, bias: bool = True, norm: bool = False) -> dict[str, int]:
        """Return the number of values of every parameter, for `Adaptation.declared`.

        >>> sum(FeatureAdapter.sizes("adapter", 512, 2048, norm=True).values())
        2100736
        """
        layers = {"up.weight": width * hidden, "down.weight": width * hidden}
        layers |= {"up.bias": hidden, "down.bias": width} if bias else {}
        layers |= {"norm.weight": width, "norm.bias": width} if norm else {}
        return {f"{name}.{part}": size for part, size in layers.items()}
