"""Claims as labels: classify an image or text by the numbered statements that hold for it.

The loss over words of Huang et al. 2024, arXiv:2411.03313 (SuperClass), section 3, with statements of two words in place
of words, so that a sum of features of single words cannot solve it.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F


def claim_loss(logits: Float[Tensor, "b c"], claims: Int[Tensor, "b n"], bounds: Sequence[int]) -> Float[Tensor, ""]:
    """Return the cross-entropy of the claims that hold, for each group of claims, summed over the groups.

    L = sum over groups g of mean over rows with claims in g of -mean over those claims k of log softmax(logits in g)[k]

    Args:
        logits: one per numbered claim.
        claims: ids of the claims that hold, in any order; ids outside the bounds, such as a padding of 0, are ignored.
        bounds: group g holds the ids from bounds[g] up to but not including bounds[g + 1].
    """
    return torch.stack([_group_loss(logits, claims, *group) for group in pairwise(bounds)]).sum()


def _group_loss(logits: Tensor, claims: Tensor, first: int, end: int) -> Tensor:
    inside = (claims >= first) & (claims < end)
    chances = F.log_softmax(logits[:, first:end].float(), dim=-1)
    held = chances.gather(1, (claims - first).clamp(0, end - first - 1)) * inside
    rows = held.sum(dim=1) / inside.sum(dim=1).clamp(min=1)
    return -rows.sum() / inside.any(dim=1).sum().clamp(min=1)
