"""Rotation of queries and keys for inference on a CPU."""

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from percept.core.machine import has_amx


def rotate(
    x: Float[Tensor, "*b n e"], cos: Float[Tensor, "*#b #n e"], sin: Float[Tensor, "*#b #n e"]
) -> Float[Tensor, "*b n e"]:
    """Rotate as `percept.nn.rope.rotate` does; the result is contiguous unless it is float32 and `x` is not.

    Channel pairs are complex numbers, and rotating is one product in one pass over memory. In bfloat16 with AMX, where
    matrix products cost next to nothing, one of them gives (-b, a), and the sum is in bfloat16.
    """
    if x.dtype == torch.bfloat16 and has_amx():
        return _rotate_by_product(x, cos.to(x.dtype), sin.to(x.dtype))
    exact = x.to(torch.promote_types(x.dtype, torch.float32))
    turns = torch.complex(cos[..., ::2], sin[..., ::2])
    turned = torch.view_as_real(torch.view_as_complex(exact.unflatten(-1, (-1, 2))) * turns).flatten(-2)
    return turned.to(x.dtype, memory_format=torch.contiguous_format)


def _rotate_by_product(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Take the second term from a matrix product, which is exact for finite values: it moves them and changes signs."""
    x = x.clone(memory_format=torch.contiguous_format)  # overwritten below
    turned = (x.view(-1, x.shape[-1]) @ _turn(x.shape[-1])).view_as(x)
    return x.mul_(cos).addcmul_(turned, sin)


@lru_cache
def _turn(channels: int) -> Tensor:
    """Return the matrix that maps rows of channel pairs (a, b) to (-b, a)."""
    with torch.inference_mode(False):
        a, b = torch.eye(channels, dtype=torch.bfloat16, device="cpu").unflatten(0, (-1, 2)).unbind(1)
        return torch.stack([-b, a], dim=1).flatten(0, 1).T
