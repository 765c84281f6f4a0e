"""A counter of floating-point operations under which the twins compute on CPUs what they compute without it."""

from contextlib import nullcontext
from math import prod
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from percept.fast.attention import attention_operations
from percept.fast.conditions import KNOWING
from percept.fast.linear import direct

SILU = torch.ops.aten.silu_backward.default
"""Has no products; a counter that does not know it splits it into others, which round differently."""


def counter() -> FlopCounterMode:
    """Return a counter of the operations of matrix products and attention. On CPUs, results are the same with and without it."""
    made = FlopCounterMode(
        display=False, custom_mapping=attention_operations() | _linear_operations() | {SILU: _nothing}
    )
    made.mod_tracker = _Everything()  # pyright: ignore[reportAttributeAccessIssue]
    setattr(made, KNOWING, True)
    return made


class _Everything(nullcontext[None]):
    """In place of PyTorch's list of the modules that run, whose hooks would keep twins from running."""

    parents = ("Global",)


def _nothing(*_: Any, **__: Any) -> int:
    return 0


def _linear_operations() -> dict[Any, Any]:
    """Return the cost of direct products, where they are used."""
    used = [direct(dtype) for dtype in (torch.float32, torch.bfloat16)]  # tries them out, which is not to be counted
    return {torch.ops.mkldnn._linear_pointwise: _products} if any(used) else {}


def _products(x: Any, *_: Any, out_shape: Any, **__: Any) -> int:
    """Return multiplications and additions; shapes are [..., i] and [..., o]."""
    return 2 * prod(x) * out_shape[-1]
