"""Run a stack of blocks: hidden states, extra tokens, attention bias, a cache per block, and checkpointing."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from percept.core.errors import PerceptError
from percept.nn.context import Cache, Context, Rope
from percept.nn.packing import Segments

Call: TypeAlias = Callable[[nn.Module, Tensor, Context], Tensor]
"""Runs one block: takes the block, its tokens and their context, and returns the new tokens."""


def call_block(block: nn.Module, x: Float[Tensor, "b n w"], context: Context) -> Float[Tensor, "b n w"]:
    """Run one block as it is written."""
    return block(x, context)


@dataclass(frozen=True)
class StackOut:
    """The result of a stack."""

    tokens: Float[Tensor, "b m w"]
    """After the last block."""
    prefix: int
    """Tokens in front of the sequence proper, inserted ones included."""
    hidden: dict[int, Float[Tensor, "b _ w"]]
    """Tokens after the requested blocks; the keys are the layers as requested."""


def resolve_layer(layer: int, num_layers: int) -> int:
    """Convert a layer counted from either end (0 first, -1 last) to one counted from the start.

    Raises:
        PerceptError: the layer does not exist.
    """
    if not -num_layers <= layer < num_layers:
        raise PerceptError(
            f"there is no layer {layer}; this model has layers 0 to {num_layers - 1} (or -1 to -{num_layers})"
        )
    return layer % num_layers


def insert_extra(
    x: Float[Tensor, "b n w"], extra: Float[Tensor, "*b m w"], prefix: int, replace: int
) -> Float[Tensor, "b k w"]:
    """Insert `extra` [m, w] or [b, m, w] after the first `prefix` tokens, replacing the `replace` tokens that follow them."""
    extra = extra.to(x.dtype).expand(x.shape[0], -1, -1) if extra.dim() == 2 else extra.to(x.dtype)
    return torch.cat([x[:, :prefix], extra, x[:, prefix + replace :]], dim=1)


def fit_bias(
    bias: Float[Tensor, "... _ _"], now: int, *, prefix: int, inserted: int, most: int
) -> Float[Tensor, "... _ _"]:
    """Fit a bias to the `now` tokens of a block, of which `inserted` follow the prefix.

    A bias over the tokens without inserted ones is 0 at the inserted ones. A bias over the tokens with all `most` inserted
    ones loses the rows and columns of tokens that are not inserted yet.

    Raises:
        PerceptError: the bias has neither length.
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


def _by_block(extra: Mapping[int, Tensor], num_blocks: int) -> dict[int, Tensor]:
    """Return extra tokens by block, counted from the start.

    Raises:
        PerceptError: a block does not exist, or two keys name the same block.
    """
    inserts = {resolve_layer(layer, num_blocks): tokens for layer, tokens in extra.items()}
    if len(inserts) != len(extra):
        raise PerceptError(
            f"two of the layers {list(extra)} are the same block. Give the extra tokens of a block once."
        )
    return inserts


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
    segments: Segments | None = None,
    biases: Sequence[Tensor | None] | None = None,
    caches: Sequence[Cache] | None = None,
    checkpointing: bool = False,
    call: Call = call_block,
) -> StackOut:
    """Pass tokens through the blocks.

    Args:
        prefix: tokens in front that are not part of the sequence proper (class token, start token).
        layers: blocks whose output to return, counted from either end.
        extra: {block: tokens [m, w] or [b, m, w]} inserted after the prefix before that block. They replace tokens
            inserted earlier (deep prompts), and stay until they are replaced.
        rope: returns the rotation table for a prefix length.
        bias: added to the attention logits of every block; over prefix and sequence, with or without all inserted tokens.
            With caches it is over the cached tokens too, and used as it is.
        causal: a token attends to itself and the tokens before it only.
        segments: the tokens are one packed row of these sequences. Excludes extra, bias and caches.
        biases: of the runs of a packed row that have one, in place of `causal`.
        caches: one for each block. Excludes extra and checkpointing.
        checkpointing: recompute activations in the backward pass instead of storing them.
        call: runs a block; `percept.fast.compiled_call` returns a compiled one.

    Raises:
        PerceptError: a layer does not exist, or the bias has the wrong length or type.
    """
    if bias is not None and not bias.is_floating_point():
        raise PerceptError(
            f"a bias of {bias.dtype} was given, but it is added to the attention logits. Give 0 where a key is visible and "
            "-inf where it is hidden"
        )
    assert segments is None or (bias is None and caches is None and not extra)
    assert caches is None or (len(caches) == len(blocks) and not extra and not checkpointing)
    wanted = {layer: resolve_layer(layer, len(blocks)) for layer in layers}
    inserts = _by_block(extra or {}, len(blocks))
    most = max([0, *(tokens.shape[-2] for tokens in inserts.values())])
    recompute = checkpointing and torch.is_grad_enabled()
    table, inserted = rope(prefix) if rope else None, 0
    states: dict[int, Tensor] = {}
    for index, block in enumerate(blocks):
        if index in inserts:
            x = insert_extra(x, inserts[index], prefix, inserted)
            inserted = inserts[index].shape[-2]
            table = rope(prefix + inserted) if rope else None
        fitted, cache = bias, None if caches is None else caches[index]
        if bias is not None and caches is None:
            fitted = fit_bias(bias, x.shape[1], prefix=prefix, inserted=inserted, most=most)
        context = Context(
            rope=table, bias=fitted, causal=causal, segments=segments, biases=biases, cache=cache
        )  # fmt: skip
        x = checkpoint(call, block, x, context, use_reentrant=False) if recompute else call(block, x, context)
        if index in wanted.values():
            states[index] = x
    return StackOut(x, prefix + inserted, {layer: states[index] for layer, index in wanted.items()})
