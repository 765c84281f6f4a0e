"""Two-dimensional rotary positions: each patch turns its queries and keys by its column and its row.

Bolya et al. 2025, arXiv:2504.13181, section 2; the rotation is Su et al. 2021, arXiv:2104.09864.
"""

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from percept.core.machine import has_amx
from percept.nn.linear import only_inferring


def frequencies(head_dim: int, base: float = 10_000.0) -> Float[Tensor, " f"]:
    """Return the head_dim / 4 angular frequencies of one axis, in radians per patch.

    >>> [round(float(f), 4) for f in frequencies(16)]
    [1.0, 0.1, 0.01, 0.001]
    """
    half = head_dim // 2
    return base ** (-torch.arange(0, half, 2, dtype=torch.float32) / half)


def rope_2d(
    grid: tuple[int, int], head_dim: int, *, prefix: int, first: int, device: torch.device | None = None
) -> tuple[Float[Tensor, "n e"], Float[Tensor, "n e"]]:
    """Return cosines and sines of the rotation angles, for `prefix` unrotated tokens and then the patches row by row.

    Args:
        grid: patches down and across.
        head_dim: channels of one attention head, a multiple of 4. The first half turns with the column, the second with the row.
        prefix: tokens in front of the patches (class token, prompts); their angle is 0.
        first: position of the first row and column: 1 for a model with a class token, else 0.
    """
    rows, columns = grid
    rates = frequencies(head_dim).repeat_interleave(2)
    across = (torch.arange(columns) + first)[:, None] * rates
    down = (torch.arange(rows) + first)[:, None] * rates
    angles = torch.cat(
        [across[None].expand(rows, -1, -1), down[:, None].expand(-1, columns, -1)],
        dim=-1,
    ).reshape(rows * columns, head_dim)
    angles = torch.cat([torch.zeros(prefix, head_dim), angles]).to(device)
    return angles.cos(), angles.sin()


def rotate(
    x: Float[Tensor, "*b n e"], cos: Float[Tensor, "*#b #n e"], sin: Float[Tensor, "*#b #n e"]
) -> Float[Tensor, "*b n e"]:
    """Turn neighbouring channel pairs (a, b) to (a cos - b sin, b cos + a sin), in float32 but for one case.

    While only inferring on a CPU, pairs are complex numbers and turning is one product, in one pass over memory. The one
    case is bfloat16 with AMX, where matrix products cost next to nothing: one gives (-b, a), and the sum is in bfloat16.
    """
    if only_inferring(x):
        if x.dtype == torch.bfloat16 and has_amx():
            return _rotate_by_product(x, cos.to(x.dtype), sin.to(x.dtype))
        turned = torch.view_as_complex(x.float().unflatten(-1, (-1, 2))) * torch.complex(cos[..., ::2], sin[..., ::2])
        return torch.view_as_real(turned).flatten(-2).to(x.dtype, memory_format=torch.contiguous_format)
    exact = x.float()
    swapped = exact.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
    signs = torch.arange(x.shape[-1], device=x.device) % 2 * 2 - 1  # minus for the first of a pair
    turned = exact * cos + swapped * (sin * signs)
    return turned.to(
        x.dtype, memory_format=torch.contiguous_format
    ).contiguous()  # the first heeds no format without a cast


def _rotate_by_product(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn with the second term from a matrix product, which is exact of finite values: it moves them and changes signs."""
    x = x.clone(memory_format=torch.contiguous_format)  # of its own, to be written over
    turned = (x.view(-1, x.shape[-1]) @ _turn(x.shape[-1])).view_as(x)
    return x.mul_(cos).addcmul_(turned, sin)


@lru_cache
def _turn(channels: int) -> Tensor:
    """Return the matrix whose product with rows of channels is their quarter turn."""
    with torch.inference_mode(False):
        return quarter_turn(torch.eye(channels, dtype=torch.bfloat16, device="cpu")).T


def quarter_turn(rows: Float[Tensor, "*c"]) -> Float[Tensor, "*c"]:
    """Map neighbouring rows (a, b) of a weight or bias to (-b, a).

    A projection with turned rows gives the second term of the rotation directly: t cos + turned(t) sin. One larger
    matrix product then replaces slow work on channel pairs.

    >>> quarter_turn(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    tensor([-2.,  1., -4.,  3.])
    """
    a, b = rows.unflatten(0, (-1, 2)).unbind(1)
    return torch.stack([-b, a], dim=1).flatten(0, 1)
