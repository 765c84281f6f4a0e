"""Run a stack of blocks with everything a method may want from it: hidden states, extra tokens, bias, checkpointing."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from percept.core.errors import PerceptError
from percept.nn.attention import Rope


@dataclass(frozen=True)
class StackOut:
    """What comes out of a stack: the last tokens, the number in front of the sequence proper, and hidden states."""

    tokens: Float[Tensor, "b m w"]
    prefix: int
    hidden: dict[int, Float[Tensor, "b _ w"]]


def resolve_layer(layer: int, num_layers: int) -> int:
    """Turn a layer counted from either end (0 first, -1 last) into one counted from the start.

    Raises:
        PerceptError: there is no such layer.
    """
    if not -num_layers <= layer < num_layers:
        raise PerceptError(
            f"there is no layer {layer}; this model has layers 0 to {num_layers - 1} (or -1 to -{num_layers})"
        )
    return layer % num_layers


def insert_extra(
    x: Float[Tensor, "b n w"], extra: Float[Tensor, "*b m w"], keep: int, replace: int
) -> Float[Tensor, "b k w"]:
    """Put `extra` [m, w] or [b, m, w] behind the first `keep` tokens, in place of the `replace` tokens that stood there."""
    extra = extra.to(x.dtype).expand(len(x), -1, -1) if extra.dim() == 2 else extra.to(x.dtype)
    return torch.cat([x[:, :keep], extra, x[:, keep + replace :]], dim=1)


def run_stack(
    blocks: nn.ModuleList,
    x: Float[Tensor, "b n w"],
    *,
    prefix: int = 0,
    layers: Collection[int] = (),
    extra: Mapping[int, Tensor] | None = None,
    rope: Callable[[int], Rope] | None = None,
    bias: Tensor | None = None,
    causal: bool = False,
    checkpointing: bool = False,
) -> StackOut:
    """Pass tokens through the blocks.

    Args:
        prefix: tokens in front that are no part of the sequence proper (class token).
        layers: blocks whose output to keep, counted from either end; the keys of `hidden` are as given here.
        extra: {block: tokens [m, w] or [b, m, w]} inserted behind the prefix before that block; tokens inserted
            earlier are replaced (deep prompts), and stay where no new ones come.
        rope: gives the rotation table for a prefix length.
        bias: added to attention logits in every block; of the whole sequence, inserted tokens included.
        causal: token i sees no token behind it.
        checkpointing: recompute activations in the backward pass instead of keeping them.
    """
    wanted = {layer: resolve_layer(layer, len(blocks)) for layer in layers}
    inserts = {resolve_layer(layer, len(blocks)): tokens for layer, tokens in (extra or {}).items()}
    states: dict[int, Tensor] = {}
    inserted = 0
    table = rope(prefix) if rope else None
    recompute = checkpointing and torch.is_grad_enabled()
    for index, block in enumerate(blocks):
        if index in inserts:
            x = insert_extra(x, inserts[index], prefix, inserted)
            inserted = inserts[index].shape[-2]
            table = rope(prefix + inserted) if rope else None
        if recompute:
            x = checkpoint(block, x, table, bias, causal, use_reentrant=False)
        else:
            x = block(x, table, bias, causal)
        if index in wanted.values():
            states[index] = x
    return StackOut(x, prefix + inserted, {layer: states[index] for layer, index in wanted.items()})
