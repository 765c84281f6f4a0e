"""Compile one transformer block for all blocks of a tower."""

from types import FunctionType
from typing import Any
from uuid import uuid4

import torch
from torch import Tensor, nn

from percept.fast.conditions import has_hooks
from percept.nn.context import Context
from percept.nn.stack import Call, call_block


def compiled_call(**options: Any) -> Call:
    """Return a `Call` for `percept.nn.stack.run_stack` that runs blocks through `torch.compile`.

    Blocks with the same shapes share what is compiled when the first of them is called. Packed rows, whose lengths are
    always new, and blocks with hooks, which the compiler does not check for, are called as they are written.

    Args:
        options: of `torch.compile`.
    """
    # torch.compile counts compilations and remembers sizes by code object and name, so every caller gets its own
    name = f"call_block_{uuid4().hex}"
    function = FunctionType(call_block.__code__.replace(co_name=name), call_block.__globals__, name)
    compiled = torch.compile(function, **options)

    def call(block: nn.Module, x: Tensor, context: Context) -> Tensor:
        plain = context.segments is not None or any(map(has_hooks, block.modules()))
        return call_block(block, x, context) if plain else compiled(block, x, context)

    return call
