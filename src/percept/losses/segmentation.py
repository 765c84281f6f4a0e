"""Losses on masks."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

IGNORED = 255
"""Value of pixels that are not counted."""


def mask_bce(logits: Float[Tensor, "b y x"], mask: Int[Tensor, "b y x"]) -> Float[Tensor, ""]:
    """Return the mean binary cross-entropy over the pixels that are not ignored; 0 if all are.

    -[m log s(z) + (1 - m) log(1 - s(z))] with the sigmoid s, averaged over pixels with m = 0 or 1.
    """
    counted = mask != IGNORED
    values = F.binary_cross_entropy_with_logits(logits.float(), (mask == 1).float(), reduction="none")
    return torch.where(counted, values, 0.0).sum() / counted.sum().clamp(min=1)
