"""Run a stack of blocks with everything a method may want from it: hidden states, extra tokens, bias, checkpointing."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from itertools import count
from types import FunctionType
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from percept.core.errors import PerceptError
from percept.nn.attention import Rope
from percept.nn.block import Block
from percept.nn.packing import Segments
from percept.nn.watch import listened

Step: TypeAlias = Callable[
    [nn.Module, Tensor, Tensor | None, Rope | None, Tensor | None, bool, Segments | None], tuple[Tensor, Tensor | None]
]
"""How a block is called: with tokens and what is still to be added to them, rotation table, bias, causal, segments.

It gives tokens, and what is still to be added to those.
"""
_numbers = count(1)


def call_block(
    block: nn.Module,
    x: Tensor,
    late: Tensor | None,
    rope: Rope | None,
    bias: Tensor | None,
    causal: bool,
    segments: Segments | None,
) -> tuple[Tensor, Tensor | None]:
    """Run one block, and leave nothing to be added."""
    return block(summed(x, late), rope, bias, causal, segments), None


def open_block(
    block: Block,
    x: Tensor,
    late: Tensor,
    rope: Rope | None,
    bias: Tensor | None,
    causal: bool,
    segments: Segments | None,
) -> tuple[Tensor, Tensor | None]:
    """Run one block, and leave its last sum to the next one: compiled, that and the norm behind it are one pass over memory."""
    return block.unsummed(x + late, rope, bias, causal, segments)


def summed(x: Tensor, late: Tensor | None) -> Tensor:
    """Add what is still to be added."""
    return x if late is None else x + late


def compiled_step(**options: Any) -> Step:
    """Return `open_block` compiled: blocks of the same shapes share what is compiled at the first call of one of them.

    Blocks of another kind, and those with hooks anywhere in them, are called as they are written.
    Every step compiled has a code object of its own, for `torch.compile` counts and limits what it compiles by those.

    Args:
        options: for `torch.compile`.
    """
    name = f"open_block_{next(_numbers)}"
    code = open_block.__code__.replace(co_name=name)
    compiled = torch.compile(FunctionType(code, open_block.__globals__, name, None, open_block.__closure__), **options)

    def step(block: nn.Module, x: Tensor, late: Tensor | None, *rest: Any) -> tuple[Tensor, Tensor | None]:
        if type(block) is not Block or any(listened(one) for one in block.modules()):
            return call_block(block, x, late, *rest)  # the compiler does not ask whether hooks are new
        return compiled(block, x, torch.zeros_like(x) if late is None else late, *rest)  # compiled once, not for both

    return step


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


def fit_bias(
    bias: Float[Tensor, "... _ _"], now: int, *, prefix: int, inserted: int, most: int
) -> Float[Tensor, "... _ _"]:
    """Fit a bias to the `now` tokens of a block, of which `inserted` stand behind the prefix.

    A bias of the tokens without inserted ones is 0 at those; of one with all `most` that will be there, those that are
    not there yet are left out.

    Raises:
        PerceptError: it is of neither length.
    """
    size = bias.shape[-1]
    if size == now:
        return bias
    bare = now - inserted
    if size == bare:
        keep = [*range(prefix), *([bare] * inserted), *range(prefix, bare)]  # `bare` is the row of zeros
        bias = F.pad(bias, (0, 1, 0, int(bias.shape[-2] > 1)))
    elif size == bare + most:
        keep = [*range(prefix + inserted), *range(prefix + most, size)]
    else:
        raise PerceptError(
            f"a bias over {size} tokens was given; this model has {bare}, or {bare + most} with all inserted ones"
        )
    bias = bias[..., keep]
    return bias[..., keep, :] if bias.shape[-2] > 1 else bias


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
    segments: Segments | None = None,
    step: Step = call_block,
) -> StackOut:
    """Pass tokens through the blocks.

    Args:
        prefix: tokens in front that are no part of the sequence proper (class token).
        layers: blocks whose output to keep, counted from either end; the keys of `hidden` are as given here.
        extra: {block: tokens [m, w] or [b, m, w]} inserted behind the prefix before that block; tokens inserted
            earlier are replaced (deep prompts), and stay where no new ones come.
        rope: gives the rotation table for a prefix length.
        bias: added to attention logits in every block; of prefix and sequence, or of these with all inserted tokens.
        causal: token i sees no token behind it.
        checkpointing: recompute activations in the backward pass instead of keeping them.
        segments: the tokens are one packed row of these sequences; goes with no extra tokens, bias or causal.
        step: calls a block, as `call_block` does or `compiled_step` gives.
    """
    wanted = {layer: resolve_layer(layer, len(blocks)) for layer in layers}
    inserts = {resolve_layer(layer, len(blocks)): tokens for layer, tokens in (extra or {}).items()}
    states: dict[int, Tensor] = {}
    inserted = 0
    table = rope(prefix) if rope else None
    late: Tensor | None = None
    most = max((tokens.shape[-2] for tokens in inserts.values()), default=0)
    recompute = checkpointing and torch.is_grad_enabled()
    for index, block in enumerate(blocks):
        if index in inserts:
            x = insert_extra(x, inserts[index], prefix, inserted)
            inserted = inserts[index].shape[-2]
            table = rope(prefix + inserted) if rope else None
        added = None if bias is None else fit_bias(bias, x.shape[1], prefix=prefix, inserted=inserted, most=most)
        if recompute:
            x, late = checkpoint(step, block, x, late, table, added, causal, segments, use_reentrant=False)
        else:
            x, late = step(block, x, late, table, added, causal, segments)
        if index in wanted.values() or index + 1 in inserts or index + 1 == len(blocks):
            x, late = summed(x, late), None
        if index in wanted.values():
            states[index] = x
    return StackOut(x, prefix + inserted, {layer: states[index] for layer, index in wanted.items()})
