"""Patches classified one by one: what the truth of a drawn picture can teach at every place."""

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

NOTHING = -1
"""Label of a patch that is not asked about."""


def patch_loss(logits: Float[Tensor, "b n c"], labels: Int[Tensor, "b n"]) -> Float[Tensor, ""]:
    """Return the cross-entropy of each patch to its class, mean over the patches that are asked about; 0 if none is.

    L = mean over labelled (b, n) of -log softmax(logits[b, n])[labels[b, n]]
    """
    asked = labels != NOTHING
    total = F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), ignore_index=NOTHING, reduction="sum")
    return total / asked.sum().clamp(min=1)
