"""Low-rank adapters (LoRA: Hu et al. 2021, arXiv:2106.09685, eq. 3): a frozen linear layer plus a product of two thin matrices."""

import math
import re

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from percept.core.errors import PerceptError


class LoRALinear(nn.Module):
    """y = W x + b + (alpha / rank) B A x, with W and b frozen and B = 0 at first, so that nothing changes before training."""

    def __init__(self, base: nn.Linear, *, rank: int, alpha: float | int) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.scale = alpha / rank
        like = {"dtype": base.weight.dtype, "device": base.weight.device}
        self.down = nn.Parameter(torch.empty(rank, base.in_features, **like))
        self.up = nn.Parameter(torch.zeros(base.out_features, rank, **like))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:
        """Apply the layer and its adapter."""
        return self.base(x) + self.scale * F.linear(F.linear(x, self.down), self.up)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """Return a plain layer with the adapter added to its weight, in float32 arithmetic."""
        change = self.scale * self.up.float() @ self.down.float()
        self.base.weight.copy_((self.base.weight.float() + change).to(self.base.weight.dtype))
        return self.base.requires_grad_(True)


def add_lora(model: nn.Module, pattern: str, *, rank: int, alpha: float | int) -> list[str]:
    """Wrap every linear layer whose name matches a regular expression; return their names.

    Raises:
        PerceptError: no linear layer matches, or rank or alpha is not positive.
    """
    if rank < 1 or not 0 < alpha < math.inf:
        raise PerceptError(f"rank={rank} and alpha={alpha} do not describe an adapter. Both have to be positive.")
    linear = {name: layer for name, layer in model.named_modules() if type(layer) is nn.Linear}
    names = [name for name in linear if re.search(pattern, name)]
    if not names:
        raise PerceptError(
            f"the pattern {pattern!r} matches no linear layer. Names look like {', '.join(list(linear)[:3]) or '(none)'}."
        )
    for name in names:
        _replace(model, name, LoRALinear(linear[name], rank=rank, alpha=alpha))
    return names


def merge_lora(model: nn.Module) -> int:
    """Replace every adapter by a plain layer that computes the same; return how many there were."""
    adapters = {name: layer for name, layer in model.named_modules() if isinstance(layer, LoRALinear)}
    for name, layer in adapters.items():
        _replace(model, name, layer.merged())
    return len(adapters)


def _replace(model: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, layer)
