"""Find the image of a caption, and the caption of an image.

Images of one to six things; all long captions differ. R@k: the right one is among the k nearest.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from percept.core.errors import PerceptError
from percept.eval import world
from percept.eval.statistics import Score, proportion
from percept.eval.table import Evaluation, Plan, Result
from percept.eval.zeroshot import needs_text
from percept.infer.contracts import Embeds

RANKS = (1, 5, 10)


def retrieval(model: Embeds, images: Any, captions: Sequence[str], *, name: str = "") -> list[Score]:
    """Return R@1, R@5 and R@10 in both directions; images with equal captions are right answers for each other.

    Raises:
        PerceptError: the numbers of images and captions differ, or there are none.
    """
    vectors = model.image(images)
    if len(vectors) != len(captions) or not len(vectors):
        raise PerceptError(f"got {len(captions)} captions for {len(vectors)} images. Give one caption per image.")
    return score(vectors, model.text(list(captions)), same(captions), name=name)


def same(captions: Sequence[str]) -> Bool[Tensor, "n n"]:
    """True for pairs of equal captions, compared in lower case without surrounding blanks."""
    numbers: dict[str, int] = {}
    ids = torch.tensor([numbers.setdefault(caption.strip().lower(), len(numbers)) for caption in captions])
    return ids[:, None] == ids[None]


def score(
    images: Float[Tensor, "n d"], texts: Float[Tensor, "n d"], positive: Bool[Tensor, "n n"], *, name: str = ""
) -> list[Score]:
    """Score unit vectors; `positive[i, j]` is True if text i describes image j."""
    similarity = texts.float() @ images.float().T
    directions = (
        ("caption→image", ranks(similarity, positive)),
        ("image→caption", ranks(similarity.T, positive.T)),
    )
    prefix = f"{name} " if name else ""
    return [proportion(f"{prefix}{way} R@{k}", (rank < k).numpy()) for way, rank in directions for k in RANKS]


def ranks(similarity: Float[Tensor, "q c"], positive: Bool[Tensor, "q c"]) -> Int[Tensor, " q"]:
    """Return the rank, from 0, of each query's best right answer; wrong answers of equal similarity come first."""
    best = similarity.masked_fill(~positive, float("-inf")).amax(dim=1, keepdim=True)
    return (~(similarity < best) & ~positive).sum(dim=1)  # not ">=": NaN must never win


def run(model: Embeds, plan: Plan) -> Result:
    """Retrieve by the long captions, then by the short ones."""
    data = world.captioned(plan.third, seed=plan.seed, split=plan.split)
    vectors = model.image(data.images)
    long = score(vectors, model.text(data.long), same(data.long))
    short = score(vectors, model.text(data.short), same(data.short), name="short")
    return Result(scores=[*long, *short])


EVALUATION = Evaluation(
    name="retrieval",
    summary=__doc__,
    run=run,
    needs=needs_text,
    targets={"caption→image R@1": 0.50, "caption→image R@5": 0.80},
)
