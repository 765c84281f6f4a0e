"""The sigmoid loss of image-text pairs (SigLIP: Zhai et al. 2023, arXiv:2303.15343, eq. 1), in blocks of rows."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

ROWS = 2_048
"""Rows of logits that exist at once."""


def sigmoid_loss(
    image: Float[Tensor, "b d"],
    text: Float[Tensor, "k d"],
    scale: Float[Tensor, ""],
    bias: Float[Tensor, ""],
    *,
    first: int = 0,
    rows: int = ROWS,
) -> Float[Tensor, ""]:
    """Return -1/b sum over i, j of log sigmoid(z_ij (s x_i y_j + b)), with z = 1 for matching pairs and -1 for all others.

    The mean of the losses of equal shares of a global batch is that of the global batch.

    Args:
        image: unit vectors; row i matches row `first` + i of `text`.
        text: unit vectors of the global batch.
        scale: multiplies the cosines (s); starts at 10.
        bias: added to the logits (b); starts at -10.
        rows: images whose logits exist at once; the backward pass computes them again.
    """
    total = image.new_zeros((), dtype=torch.float32)
    for start in range(0, len(image), rows):
        part = image[start : start + rows]
        total = total + checkpoint(_rows, part, text, scale, bias, first + start, use_reentrant=False)
    return total / len(image)


def _rows(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor, first: int) -> Tensor:
    logits = scale * image.float() @ text.float().T + bias
    matching = logits[torch.arange(len(image)), torch.arange(first, first + len(image))]
    return F.softplus(logits).sum() - matching.sum()
