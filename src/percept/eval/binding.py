"""Right captions against ones with two colours, or left and right, exchanged.

Both captions have the same words: only a model that knows which attribute belongs to which thing prefers the right one.
"""

from collections.abc import Sequence
from typing import Any

import torch

from percept.core.errors import PerceptError
from percept.eval import world
from percept.eval.statistics import Score, proportion
from percept.eval.table import Evaluation, Plan, Result
from percept.eval.zeroshot import needs_text
from percept.infer.contracts import Embeds

NAMES = {"attributes": "attributes exchanged", "sides": "left and right exchanged"}
"""Kind of pair: name of its score."""


def binding(model: Embeds, images: Any, pairs: Sequence[tuple[str, str]], *, name: str) -> Score:
    """Return how often an image is closer to its right caption than to the wrong one; chance is 50 %, a tie is wrong.

    Args:
        model: embeds images and texts.
        images: anything `model.image` takes.
        pairs: (right, wrong) captions of every image.
        name: name of the score.

    Raises:
        PerceptError: the numbers of images and pairs differ.
    """
    vectors = model.image(images).float()
    if len(vectors) != len(pairs):
        raise PerceptError(f"{name}: got {len(pairs)} pairs for {len(vectors)} images. Give one pair per image.")
    right = torch.linalg.vecdot(vectors, model.text([pair[0] for pair in pairs]).float())
    wrong = torch.linalg.vecdot(vectors, model.text([pair[1] for pair in pairs]).float())
    return proportion(name, (right > wrong).numpy())


def run(model: Embeds, plan: Plan) -> Result:
    """Score both kinds of pairs."""
    data = world.pairs(plan.count, seed=plan.seed, split=plan.split)
    return Result(
        scores=[binding(model, data[kind].images, data[kind].captions, name=name) for kind, name in NAMES.items()]
    )


EVALUATION = Evaluation(
    name="binding",
    summary=__doc__,
    run=run,
    needs=needs_text,
    targets={"attributes exchanged": 0.75, "left and right exchanged": 0.65},
)
