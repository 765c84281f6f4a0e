"""The named evaluations on the labelled world: which pictures, which texts, which scores."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from percept.eval import world
from percept.eval.binding import binding
from percept.eval.digits import digits
from percept.eval.retrieval import same, score
from percept.eval.robustness import Styled, robustness
from percept.eval.statistics import Score, proportion
from percept.eval.zeroshot import Confusion, Encodes, hits, judge, prompts
from percept.infer.labels import averaged
from percept.world.language import CLASS_TEMPLATES, COLOUR_TEMPLATES, fill_template
from percept.world.objects import CATEGORIES
from percept.world.palette import COLOURS
from percept.world.variants import STYLES, UNSEEN


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much to measure."""

    count: int = world.PICTURES
    """Pictures of the main set; retrieval and every style take a third of it."""
    seed: int = world.SEED
    split: str = world.SPLIT
    """Of the labelled world."""

    @property
    def third(self) -> int:
        """Pictures of the smaller sets."""
        return max(1, self.count // 3)


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one evaluation found."""

    scores: list[Score]
    confusions: list[Confusion] = field(default_factory=list)


def zeroshot_suite(encoder: Encodes, plan: Plan) -> Result:
    """Category and colour of single things; evaluation: in combinations that training never showed alone."""
    data = world.singles(plan.count, seed=plan.seed, split=plan.split)
    vectors = encoder.image(data.images)
    names, colours = list(CATEGORIES), list(COLOURS)
    by_category = averaged(encoder, prompts(names, CLASS_TEMPLATES))
    category = judge(vectors, torch.tensor(data.categories), names, by_category, name="category")
    truth, by_colour = torch.tensor(data.colours), averaged(encoder, colour_texts(names))
    colour = judge(vectors, truth, colours, by_colour, name="colour")
    known = _given_category(encoder, vectors, data.categories)
    right = hits(known, truth, 1).numpy()
    return Result(
        scores=[*category.scores, *colour.scores, proportion("colour top-1, category told", right)],
        confusions=[*category.confusions, *colour.confusions[:5]],
    )


def colour_texts(names: Sequence[str]) -> list[list[str]]:
    """Return the texts of every colour: in each template with each category, so that no category is given away."""
    return [
        [fill_template(template, name, colour) for template in COLOUR_TEMPLATES for name in names] for colour in COLOURS
    ]


def _given_category(encoder: Encodes, vectors: Float[Tensor, "n d"], categories: Sequence[int]) -> Float[Tensor, "n c"]:
    """Return cosines with "a red cup", "a blue cup", … for the category that each picture shows."""
    texts = [
        [fill_template(form, name, colour) for form in COLOUR_TEMPLATES] for name in CATEGORIES for colour in COLOURS
    ]
    weights = averaged(encoder, texts).unflatten(0, (len(CATEGORIES), len(COLOURS)))
    return torch.einsum("nd,ncd->nc", vectors.float(), weights[torch.as_tensor(categories)])


def retrieval_suite(encoder: Encodes, plan: Plan) -> Result:
    """Captions and pictures of one to six things, all captions different."""
    data = world.captioned(plan.third, seed=plan.seed, split=plan.split)
    vectors = encoder.image(data.images)
    long = score(vectors, encoder.text(data.long), same(data.long))
    short = score(vectors, encoder.text(data.short), same(data.short), name="short")
    return Result(scores=[*long, *short])


def robustness_suite(encoder: Encodes, plan: Plan) -> Result:
    """Category of single things in six styles."""
    counts: dict[str, int] = dict.fromkeys(STYLES, plan.third)
    styles = {
        style: Styled(
            images=data.images,
            labels=data.categories,
            seen=np.array([scene.variant not in UNSEEN[style] for scene in data.scenes]),
        )
        for style, data in world.singles_by_style(counts, seed=plan.seed, split=plan.split).items()
    }
    names = list(CATEGORIES)
    return Result(scores=robustness(encoder, styles, names, prompts(names, CLASS_TEMPLATES)))


def binding_suite(encoder: Encodes, plan: Plan) -> Result:
    """Right captions against ones with two colours, or left and right, exchanged."""
    data = world.pairs(plan.count, seed=plan.seed, split=plan.split)
    names = {"attributes": "attributes exchanged", "sides": "left and right exchanged"}
    return Result(scores=[binding(encoder, data[kind].images, data[kind].captions, name=names[kind]) for kind in names])


def digits_suite(encoder: Encodes, plan: Plan) -> Result:
    """Real handwritten digits, never trained on; always all 1,797 of them."""
    found = digits(encoder)
    return Result(scores=found.scores, confusions=found.confusions[:5])


SUITES: dict[str, Callable[[Encodes, Plan], Result]] = {
    "zeroshot": zeroshot_suite,
    "retrieval": retrieval_suite,
    "robustness": robustness_suite,
    "binding": binding_suite,
    "digits": digits_suite,
}
