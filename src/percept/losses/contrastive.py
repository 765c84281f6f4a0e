"""Contrastive losses between two sets of matching vectors."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def right_over_wrong(
    image: Float[Tensor, "*b d"], right: Float[Tensor, "*b d"], wrong: Float[Tensor, "*b d"], scale: float
) -> Float[Tensor, ""]:
    """Return how little each picture is closer to its right text than to a wrong one made for it.

    L = mean of log(1 + exp(-s (i r' - i w')))

    Hard negatives as in Yuksekgonul et al. 2023, arXiv:2210.01936 (NegCLIP), here a pair of its own and with a fixed
    scale, so that it asks for a difference however small the learned scale still is.

    Args:
        image: unit vectors.
        right: unit vectors of texts that are true of the pictures.
        wrong: unit vectors of texts that are not.
        scale: multiplies the cosines (s).
    """
    margin = torch.linalg.vecdot(image.float(), right.float()) - torch.linalg.vecdot(image.float(), wrong.float())
    return F.softplus(-scale * margin).mean()


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
