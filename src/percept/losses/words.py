"""Words of a text as labels of its image: classification without a list of classes and without a text tower.

Huang et al. 2024, arXiv:2411.03313 (SuperClass), section 3: the ids of the text are the classes.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F


def word_weights(ids: Int[Tensor, "t n"], vocabulary: int, *, special: tuple[int, ...]) -> Float[Tensor, " v"]:
    """Return the inverse document frequency of every id, log(t / (1 + texts with it)), at least 0; 0 for `special` ids.

    >>> word_weights(torch.tensor([[1, 2], [1, 3], [1, 1], [1, 1]]), 4, special=(0,))
    tensor([0.0000, 0.0000, 0.6931, 0.6931])
    """
    present = torch.zeros(len(ids), vocabulary, dtype=torch.bool).scatter_(1, ids, value=True)
    weights = (len(ids) / (1 + present.sum(dim=0).float())).log().clamp(min=0)
    weights[list(special)] = 0
    return weights


def word_targets(ids: Int[Tensor, "b n"], weights: Float[Tensor, " v"]) -> Float[Tensor, "b v"]:
    """Return the weight of each id as a share of its text; a row sums to 1, or to 0 if all its weights are 0."""
    present = torch.zeros(len(ids), len(weights), device=ids.device).scatter_(1, ids, 1.0)
    weighted = present * weights
    return weighted / weighted.sum(dim=1, keepdim=True).clamp(min=1e-6)


def word_loss(logits: Float[Tensor, "b v"], targets: Float[Tensor, "b v"]) -> Float[Tensor, ""]:
    """Return the cross-entropy of softmax(logits) to the shares of the words, mean over the batch."""
    return -(targets * F.log_softmax(logits.float(), dim=-1)).sum(dim=-1).mean()
