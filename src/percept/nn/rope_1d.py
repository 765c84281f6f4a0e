"""One-dimensional rotary positions: channel i of a head is rotated together with channel i + head_dim / 2.

Su et al. 2021, arXiv:2104.09864, in the order of channels that transformers uses. `percept.nn.rope` rotates neighbouring
channels instead.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from percept.nn.context import Rope


def frequencies_1d(head_dim: int, base: float) -> Float[Tensor, " f"]:
    """Return the head_dim / 2 angular frequencies, in radians per token.

    >>> [round(float(f), 4) for f in frequencies_1d(8, 10_000.0)]
    [1.0, 0.1, 0.01, 0.001]
    """
    return 1.0 / base ** (torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)


def stretched(
    frequencies: Float[Tensor, " f"], *, factor: float, low: float, high: float, context: int
) -> Float[Tensor, " f"]:
    """Divide low frequencies by `factor`, keep high ones, and interpolate between, as Llama 3.1 does for longer texts.

    Args:
        factor: divides the frequencies that turn less than `low` times within `context` tokens.
        low: turns below which a frequency is divided.
        high: turns above which a frequency is kept.
        context: tokens of the texts that the model was trained with first.
    """
    turns = context * frequencies / (2 * math.pi)
    share = ((turns - low) / (high - low)).clamp(0, 1)  # 1 where the frequency is kept
    return share * frequencies + (1 - share) * frequencies / factor


def rope_1d(positions: Int[Tensor, "*b n"], frequencies: Float[Tensor, " f"]) -> Rope:
    """Return cosines and sines of the rotation angles; [n, e], or [b, 1, n, e] for positions [b, n]."""
    angles = positions[..., None].float() * frequencies
    angles = torch.cat([angles, angles], dim=-1)
    if positions.dim() > 1:
        angles = angles[:, None]
    return angles.cos(), angles.sin()


def rotate_halves(
    x: Float[Tensor, "*b n e"], cos: Float[Tensor, "*#b #n e"], sin: Float[Tensor, "*#b #n e"]
) -> Float[Tensor, "*b n e"]:
    """Rotate the channel pairs (a, b) = (x[i], x[i + e / 2]) to (a cos - b sin, b cos + a sin), in float32 or wider."""
    exact = x.to(torch.promote_types(x.dtype, torch.float32))
    first, second = exact.chunk(2, dim=-1)
    return (exact * cos + torch.cat([-second, first], dim=-1) * sin).to(x.dtype)
