"""Contrastive losses between two sets of matching vectors."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def info_nce(image: Float[Tensor, "b d"], text: Float[Tensor, "b d"], scale: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """Return the symmetric InfoNCE loss; row i of `image` matches row i of `text`, every other row is a negative.

    L = 1/2 [ CE(s I T', diagonal) + CE(s T I', diagonal) ]   (Radford et al. 2021, arXiv:2103.00020, figure 3)

    Args:
        image: unit vectors.
        text: unit vectors.
        scale: multiplies the cosines (s).
    """
    logits = scale * image.float() @ text.float().T
    diagonal = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, diagonal) + F.cross_entropy(logits.T, diagonal)) / 2
