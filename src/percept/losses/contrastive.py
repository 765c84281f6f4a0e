"""Contrastive losses between two sets of matching vectors."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

BASE = 6364136223846793005
"""Base of the row hash: the multiplier of a well-known 64-bit congruential generator (Knuth, MMIX)."""


def right_over_wrong(
    image: Float[Tensor, "*b d"], right: Float[Tensor, "*b d"], wrong: Float[Tensor, "*b d"], scale: float
) -> Float[Tensor, ""]:
    """Return a loss that decreases as each image gets closer to its right text than to its wrong text.

    L = mean of log(1 + exp(-s (i r' - i w')))

    Hard negatives as in Yuksekgonul et al. 2023, arXiv:2210.01936 (NegCLIP), here as a separate loss with a fixed scale,
    so that it has a strong gradient while the learned scale is still small.

    Args:
        image: unit vectors.
        right: unit vectors of texts that are true of the images.
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
    return info_nce_rows(image, text, scale, images=image, texts=text).loss


@dataclass(frozen=True)
class RowsLoss:
    """A contrastive loss of some rows of a global batch."""

    loss: Float[Tensor, ""]
    nearest: Int[Tensor, " b"]
    """Row of the global batch whose text is nearest to each image."""


def info_nce_rows(
    image: Float[Tensor, "b d"],
    text: Float[Tensor, "b d"],
    scale: Float[Tensor, ""],
    *,
    images: Float[Tensor, "k d"],
    texts: Float[Tensor, "k d"],
    first: int = 0,
) -> RowsLoss:
    """Return the mean InfoNCE loss of b rows among the k of a global batch, holding b x k logits.

    The mean of the losses of equal shares is `info_nce` of the global batch.

    Args:
        image: unit vectors, rows `first` to `first` + b of `images`.
        text: unit vectors, the same rows of `texts`.
        scale: multiplies the cosines.
        images: unit vectors of the global batch.
        texts: unit vectors of the global batch.
        first: row of the global batch that is row 0 here.
    """
    with torch.autocast(image.device.type, enabled=False):  # 16-bit logits at a scale of 100 are wrong by up to 0.25
        logits = scale * image.float() @ texts.float().T
        columns = logits.T if images is image and texts is text else scale * text.float() @ images.float().T
        target = torch.arange(first, first + len(logits), device=logits.device)
        loss = (F.cross_entropy(logits, target) + F.cross_entropy(columns, target)) / 2
    nearest = logits.detach().argmax(dim=1) if logits.numel() else target
    return RowsLoss(loss, nearest)


def row_keys(ids: Int[Tensor, "b n"]) -> Int[Tensor, " b"]:
    """Return a 64-bit hash of each row: a polynomial in a fixed odd base modulo 2^64.

    Equal rows have equal hashes, and different rows almost always have different hashes, so b numbers are compared
    instead of b n. Use it for logged metrics only.
    """
    powers = ids.new_full((ids.shape[1],), BASE).cumprod(dim=0)
    return (ids * powers).sum(dim=1)
