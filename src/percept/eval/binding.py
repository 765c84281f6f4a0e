"""Right captions against ones with two colours, or left and right, exchanged.

Both captions have the same words: only a model that knows which attribute belongs to which thing prefers the right one.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool

from percept.core.errors import PerceptError
from percept.eval import world
from percept.eval.record import Records
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
    return proportion(name, chosen(model, images, pairs, name=name))


def chosen(model: Embeds, images: Any, pairs: Sequence[tuple[str, str]], *, name: str) -> Bool[np.ndarray, " n"]:
    """Return True for every image that is closer to its right caption; see `binding`."""
    vectors = model.image(images).float()
    if len(vectors) != len(pairs):
        raise PerceptError(f"{name}: got {len(pairs)} pairs for {len(vectors)} images. Give one pair per image.")
    right = torch.linalg.vecdot(vectors, model.text([pair[0] for pair in pairs]).float())
    wrong = torch.linalg.vecdot(vectors, model.text([pair[1] for pair in pairs]).float())
    return (right > wrong).numpy()


def run(model: Embeds, plan: Plan) -> Result:
    """Score both kinds of pairs."""
    data = world.pairs(plan.count, seed=plan.seed, split=plan.split)
    right = {kind: chosen(model, data[kind].images, data[kind].captions, name=name) for kind, name in NAMES.items()}
    return Result(
        scores=[proportion(name, right[kind]) for kind, name in NAMES.items()],
        records=[_records(kind, name, data[kind].captions, right[kind]) for kind, name in NAMES.items()],
    )


def _records(kind: str, name: str, pairs: Sequence[tuple[str, str]], right: Bool[np.ndarray, " n"]) -> Records:
    return Records(
        task=name, data=world.NAME, keys=[f"{kind}/plain/{number}" for number in range(len(pairs))], value=right.astype(float),
        truth=[pair[0] for pair in pairs], prediction=[pair[0 if each else 1] for pair, each in zip(pairs, right, strict=True)],
    )  # fmt: skip


EVALUATION = Evaluation(
    name="binding",
    summary=__doc__,
    run=run,
    needs=needs_text,
    targets={"attributes exchanged": 0.75, "left and right exchanged": 0.65},
)
