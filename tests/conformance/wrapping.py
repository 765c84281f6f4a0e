"""Wrappers as adapters make them: another module in the place of a layer, without a `weight` of its own."""

import torch
from torch import Tensor, nn

from percept.nn.patch import PatchEmbedding


class Wrapped(nn.Module):
    """The layer plus a learned scale of its output, as a low-rank adapter adds its product."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        dtype = next(layer.parameters()).dtype
        self.extra = nn.Parameter(torch.full((1,), 0.5, dtype=dtype))
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        y = self.layer(x)
        return y + self.extra * y.detach().roll(1, dims=1 if y.ndim == 4 else -1)

    def acted(self) -> bool:
        """True if it was called and got a gradient."""
        return self.calls > 0 and self.extra.grad is not None and bool(self.extra.grad.any())


def replaceable(tower: nn.Module) -> list[str]:
    """Names of all linear layers of a tower, and of its patch embedding."""
    return [name for name, part in tower.named_modules() if isinstance(part, nn.Linear | PatchEmbedding)]


def wrap(tower: nn.Module, name: str) -> Wrapped:
    """Put a wrapper in the place of a layer."""
    parent, _, attribute = name.rpartition(".")
    wrapper = Wrapped(tower.get_submodule(name))
    setattr(tower.get_submodule(parent), attribute, wrapper)
    return wrapper
