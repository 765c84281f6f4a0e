"""Linear layers with the same input, computed as one product with one packed weight.

A token that is generated alone reads every weight once, so what is between the products counts: one product in place of three for
queries, keys and values, and one in place of two for a gated MLP, save a tenth of the time of a token in bfloat16 on a CPU (`benchmarks/plm.py`).
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from percept.fast.attention import GroupedAttention as FastGrouped
from percept.fast.conditions import has_hooks
from percept.fast.linear import Linear, direct, product, reordered
from percept.nn.context import Context
from percept.nn.mlp import SwiGLU as PlainSwiGLU
from percept.nn.rope_1d import rotate_halves


class Merged:
    """The weights of some layers in one packed weight, and what it was made from."""

    def __init__(self, layers: Sequence[Linear]) -> None:
        with torch.inference_mode(False), torch.no_grad():
            self.weight = reordered(torch.cat(tuple(layer.weight for layer in layers)))
            biases = tuple(layer.bias for layer in layers if layer.bias is not None)
            self.bias = torch.cat(biases) if biases else None
        self._state = _state(layers)

    def __call__(self, x: Float[Tensor, "*b i"], layers: Sequence[nn.Module]) -> Float[Tensor, "*b o"] | None:
        """Return the outputs of the layers side by side; None if they have to be called one by one."""
        first = layers[0]
        if type(first) is not Linear or not first.is_direct(x) or _state(layers) != self._state:
            return None
        if any(type(layer) is not Linear or has_hooks(layer) for layer in layers):
            return None
        return product(x, self.weight, self.bias, "none")


def _state(layers: Sequence[nn.Module]) -> list[tuple[int, int]]:
    """Return what changes when a parameter is replaced or written to."""
    parameters = [parameter for layer in layers for parameter in layer._parameters.values()]
    return [(id(parameter), -1 if parameter is None else parameter._version) for parameter in parameters]


def merged(layers: Sequence[nn.Module]) -> Merged | None:
    """Merge layers; None unless they are frozen bfloat16 layers on a CPU, all with a bias or all without."""
    linear = [layer for layer in layers if type(layer) is Linear]
    if len(linear) < len(layers) or len({layer.bias is None for layer in linear}) > 1:
        return None
    parameters = [parameter for layer in linear for parameter in layer.parameters()]
    for parameter in parameters:
        frozen = type(parameter) is nn.Parameter and not parameter.requires_grad and not parameter.is_inference()
        if not frozen or parameter.device.type != "cpu" or parameter.dtype != torch.bfloat16:
            return None
    return Merged(linear) if direct(torch.bfloat16) else None


class Merging(nn.Module):
    """A layer some of whose linear layers have the same input."""

    merged: Merged | None = None

    def alike(self) -> tuple[nn.Module, ...]:
        """Return the linear layers with the same input."""
        raise NotImplementedError

    def pack(self) -> bool:
        """Merge these layers; return True if that was possible."""
        self.merged = merged(self.alike())
        return self.merged is not None

    def together(self, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"] | None:
        """Return the outputs of these layers side by side; None if they have to be called one by one."""
        return None if self.merged is None else self.merged(x, self.alike())

    def _apply(self, fn: Any, recurse: bool = True) -> "Merging":
        self.merged = None
        return super()._apply(fn, recurse)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "merged"}


class GroupedAttention(Merging, FastGrouped):
    """`percept.fast.attention.GroupedAttention` with one product for queries, keys and values."""

    def alike(self) -> tuple[nn.Module, ...]:
        """Return the layers of queries, keys and values."""
        return self.q, self.k, self.v

    def project(self, x: Float[Tensor, "b n w"], context: Context) -> tuple[Tensor, Tensor, Tensor]:
        """Return rotated queries, rotated keys, and values."""
        together = self.together(x)
        if together is None:
            return super().project(x, context)
        heads = together.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
        shared = self.k.out_features // self.head_dim
        turned, v = heads[:, :-shared], heads[:, -shared:]
        if context.rope is not None:
            turned = rotate_halves(turned, *context.rope)
        return turned[:, :-shared], turned[:, -shared:], v


class SwiGLU(Merging, PlainSwiGLU):
    """`percept.nn.mlp.SwiGLU` with one product for gate and values; adopted by `percept.fast.adopt`."""

    def alike(self) -> tuple[nn.Module, ...]:
        """Return the layers of gate and values."""
        return self.gate, self.up

    def forward(self, x: Float[Tensor, "*b w"]) -> Float[Tensor, "*b w"]:
        """Transform each token independently."""
        together = self.together(x)
        if together is None:
            return super().forward(x)
        gate, up = together.chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)
