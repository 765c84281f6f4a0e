"""Contrastive losses between two sets of matching vectors."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F


def info_nce(
    image: Float[Tensor, "b d"],
    text: Float[Tensor, "b d"],
    scale: Float[Tensor, ""],
    *,
    same: Bool[Tensor, "b b"] | None = None,
) -> Float[Tensor, ""]:
    """Return the symmetric InfoNCE loss; row i of `image` matches row i of `text`, every other row is a negative.

    L = 1/2 [ CE(s I T', diagonal) + CE(s T I', diagonal) ]   (Radford et al. 2021, arXiv:2103.00020, figure 3)

    Args:
        image: unit vectors.
        text: unit vectors.
        scale: multiplies the cosines (s).
        same: symmetric, True on the diagonal and where two texts say the same. The target of a row is then spread
            evenly over them (Yang et al. 2022, arXiv:2204.03610, section 3.2).
    """
    logits = scale * image.float() @ text.float().T
    if same is not None:
        target = same.float() / same.sum(dim=1, keepdim=True)
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    diagonal = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, diagonal) + F.cross_entropy(logits.T, diagonal)) / 2
