"""Classification of every patch of an image, with labels from the ground truth of the generated world."""

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

NOTHING = -1
"""Label of a patch that is ignored."""


def patch_loss(logits: Float[Tensor, "b n c"], labels: Int[Tensor, "b n"]) -> Float[Tensor, ""]:
    """Return the cross-entropy of each patch to its class, averaged over labelled patches; 0 if there are none.

    L = mean over labelled (b, n) of -log softmax(logits[b, n])[labels[b, n]]
    """
    labelled = labels != NOTHING
    total = F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), ignore_index=NOTHING, reduction="sum")
    return total / labelled.sum().clamp(min=1)
