"""Give the layers of a model their faster twins."""

from torch import nn

from percept.fast import attention, linear, merged
from percept.nn.attention import Attention
from percept.nn.grouped import GroupedAttention
from percept.nn.mlp import MLP, SwiGLU
from percept.nn.pool import AttentionPool
from percept.nn.tied import TiedEmbedding

TWINS: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: linear.Linear,
    TiedEmbedding: linear.TiedEmbedding,
    MLP: linear.MLP,
    Attention: attention.Attention,
    GroupedAttention: merged.GroupedAttention,
    SwiGLU: merged.SwiGLU,
    AttentionPool: attention.AttentionPool,
}
"""Plain layer: its twin, which has the same parameters and attributes and returns the same values."""

PACKED = (nn.Linear, linear.Linear, TiedEmbedding, linear.TiedEmbedding)
"""Layers of which `adopt` makes a packed copy."""


def adopt(module: nn.Module, *, pack: bool) -> None:
    """Turn layers of exactly the types in `TWINS` into their twins, in place; names, weights and hooks stay.

    Subclasses, wrappers and parametrised layers are left alone. A twin takes the plain form wherever the faster one could be
    noticed: with gradients enabled, under tracing, compiling on a CPU, vmap or dispatch modes. One form serves training
    too: attention in bfloat16 on a CPU, which is computed by differentiable products.

    Args:
        pack: also store frozen weights a second time in the layout that CPU products use, see `packed_bytes`. The copy is
            dropped by `.to` and once PyTorch has counted a change of the weight, and is not part of pickles and copies.
            Call `adopt` again after writing to `weight.data`, which PyTorch does not count.
    """
    for part in module.modules():
        part.__class__ = TWINS.get(type(part), type(part))
        if isinstance(part, attention.Attention | attention.GroupedAttention):
            part.cudnn = attention.prefers_cudnn(next(part.parameters()).device)
    if pack:
        _pack(module)


def _pack(module: nn.Module) -> None:
    """Store frozen weights a second time; those of layers with the same input together."""
    together = {
        id(layer)
        for part in module.modules()
        if isinstance(part, merged.Merging) and part.pack()
        for layer in part.alike()
    }
    for part in module.modules():
        if isinstance(part, linear.Packs) and id(part) not in together:
            part.pack()


def packed_bytes(module: nn.Module) -> int:
    """Return the memory in bytes that packing takes."""
    layers = (part for part in module.modules() if type(part) in PACKED)
    return sum(parameter.nbytes for layer in layers for parameter in (layer.get_parameter("weight"),))
