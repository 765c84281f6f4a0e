"""The sigmoid loss of image-text pairs (SigLIP: Zhai et al. 2023, arXiv:2303.15343, eq. 1), in blocks of rows."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from percept.losses.contrastive import RowsLoss

ROWS = 2_048
"""Rows of logits that exist at once."""
INITIAL_BIAS = -10.0
"""Initial value of the learned bias, as published: most pairs do not match."""


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
        bias: added to the logits (b); starts at `INITIAL_BIAS`.
        first: row of `text` that matches row 0 of `image`.
        rows: images whose logits exist at once; the backward pass computes them again.
    """
    return sigmoid_rows(image, text, scale, bias, first=first, rows=rows).loss


def sigmoid_rows(
    image: Float[Tensor, "b d"],
    text: Float[Tensor, "k d"],
    scale: Float[Tensor, ""],
    bias: Float[Tensor, ""],
    *,
    first: int = 0,
    rows: int = ROWS,
) -> RowsLoss:
    """Return `sigmoid_loss` and the row of the nearest text of each image."""
    total, nearest = image.new_zeros((), dtype=torch.float32), []
    for start in range(0, len(image), rows):
        part = image[start : start + rows]
        with torch.autocast(image.device.type, enabled=False):
            loss, places = checkpoint(_rows, part, text, scale, bias, first + start, use_reentrant=False)
        total = total + loss
        nearest.append(places)
    return RowsLoss(total / len(image), torch.cat(nearest))


def _rows(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor, first: int) -> tuple[Tensor, Tensor]:
    """Return the summed loss of some images, and the rows of their nearest texts."""
    logits = scale * image.float() @ text.float().T + bias
    loss = F.softplus(logits).sum() - logits.diagonal(first).sum()
    return loss, logits.detach().argmax(dim=1)
