"""Two-dimensional rotary positions: queries and keys of each patch are rotated by its column and its row.

Bolya et al. 2025, arXiv:2504.13181, section 2; the rotation is Su et al. 2021, arXiv:2104.09864.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def frequencies(head_dim: int, base: float = 10_000.0) -> Float[Tensor, " f"]:
    """Return the head_dim / 4 angular frequencies of one axis, in radians per patch.

    >>> [round(float(f), 4) for f in frequencies(16)]
    [1.0, 0.1, 0.01, 0.001]
    """
    half = head_dim // 2
    return base ** (-torch.arange(0, half, 2, dtype=torch.float32) / half)


def rope_2d(
    grid: tuple[int, int],
    head_dim: int,
    *,
    prefix: int,
    first: int,
    reference: int | None = None,
    device: torch.device | None = None,
) -> tuple[Float[Tensor, "n e"], Float[Tensor, "n e"]]:
    """Return cosines and sines of the rotation angles of `prefix` unrotated tokens followed by the patches, row by row.

    Args:
        grid: patches down and across.
        head_dim: channels of one attention head, a multiple of 4. The first half encodes the column, the second the row.
        prefix: tokens in front of the patches (class token, prompts); their angle is 0.
        first: position of the first row and column: 1 for a model with a class token, 0 otherwise.
        reference: patches along a side to which the positions are stretched (Fang et al. 2023, arXiv:2303.11331); as they
            are if None.
        device: where the tables are allocated.
    """
    rows, columns = grid
    rates = frequencies(head_dim).repeat_interleave(2)
    across = _positions(columns, first, reference)[:, None] * rates
    down = _positions(rows, first, reference)[:, None] * rates
    angles = torch.cat(
        [across[None].expand(rows, -1, -1), down[:, None].expand(-1, columns, -1)],
        dim=-1,
    ).reshape(rows * columns, head_dim)
    angles = torch.cat([torch.zeros(prefix, head_dim), angles]).to(device)
    return angles.cos(), angles.sin()


def _positions(count: int, first: int, reference: int | None) -> Tensor:
    positions = torch.arange(count) + first
    return positions if reference is None else positions / count * reference


def rotate(
    x: Float[Tensor, "*b n e"], cos: Float[Tensor, "*#b #n e"], sin: Float[Tensor, "*#b #n e"]
) -> Float[Tensor, "*b n e"]:
    """Rotate neighbouring channel pairs (a, b) to (a cos - b sin, b cos + a sin); computed in float32 or wider."""
    exact = x.to(torch.promote_types(x.dtype, torch.float32))
    swapped = exact.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
    signs = torch.arange(x.shape[-1], device=x.device) % 2 * 2 - 1  # -1 for the first channel of a pair
    return (exact * cos + swapped * (sin * signs)).to(x.dtype)
