"""Retrieval: find the picture of a caption among many, and the caption of a picture."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from percept.core.errors import PerceptError
from percept.eval.statistics import Score, proportion
from percept.eval.zeroshot import Encodes

RANKS = (1, 5, 10)


def retrieval(encoder: Encodes, images: Any, captions: Sequence[str], *, name: str = "") -> list[Score]:
    """Return R@1, R@5 and R@10 in both directions; pictures with equal captions are right answers for each other.

    Raises:
        PerceptError: the numbers of pictures and captions differ, or there are none.
    """
    vectors = encoder.image(images)
    if len(vectors) != len(captions) or not len(vectors):
        raise PerceptError(f"retrieval needs as many captions as pictures; given {len(captions)} and {len(vectors)}")
    return score(vectors, encoder.text(list(captions)), same(captions), name=name)


def same(captions: Sequence[str]) -> Bool[Tensor, "n n"]:
    """Tell which captions are equal, letter by letter after lower-casing."""
    numbers: dict[str, int] = {}
    ids = torch.tensor([numbers.setdefault(caption.strip().lower(), len(numbers)) for caption in captions])
    return ids[:, None] == ids[None]


def score(
    images: Float[Tensor, "n d"], texts: Float[Tensor, "n d"], positive: Bool[Tensor, "n n"], *, name: str = ""
) -> list[Score]:
    """Score unit vectors; `positive[i, j]` says that text i describes picture j."""
    similarity = texts.float() @ images.float().T
    directions = (
        ("caption→picture", ranks(similarity, positive)),
        ("picture→caption", ranks(similarity.T, positive.T)),
    )
    prefix = f"{name} " if name else ""
    return [proportion(f"{prefix}{way} R@{k}", (rank < k).numpy()) for way, rank in directions for k in RANKS]


def ranks(similarity: Float[Tensor, "q c"], positive: Bool[Tensor, "q c"]) -> Int[Tensor, " q"]:
    """Return the rank, from 0, of each query's best right answer: wrong answers that are not less similar come first."""
    best = similarity.masked_fill(~positive, float("-inf")).amax(dim=1, keepdim=True)
    return (~(similarity < best) & ~positive).sum(dim=1)  # not ">=": a NaN must never win
