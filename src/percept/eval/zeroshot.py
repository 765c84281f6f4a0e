"""Category and colour of single things, zero-shot.

A class is the mean of its texts' unit vectors; an image goes to the nearest class. A `Classifies` brings its own classes
and is measured by its logits. On the evaluation split the combinations of category and colour never appeared in training.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from percept.core.errors import PerceptError
from percept.eval import world
from percept.eval.statistics import Score, mean, proportion
from percept.eval.table import Confusion, Evaluation, Plan, Result, Unsuited
from percept.infer.contracts import Classifies, Embeds
from percept.infer.labels import averaged, fill
from percept.world.language import CLASS_TEMPLATES, COLOUR_TEMPLATES, fill_template
from percept.world.objects import CATEGORIES
from percept.world.palette import COLOURS


def needs_text(model: Any) -> None:
    """Raise if the model cannot embed texts.

    Raises:
        Unsuited: it has no text tower or no tokenizer.
    """
    if not isinstance(model, Embeds):
        raise Unsuited(f"{type(model).__name__} embeds no texts. Use a model with a text tower, such as 'nano'.")
    try:
        model.text(["an image"])
    except PerceptError as error:
        raise Unsuited(str(error)) from None


def needs_classes(model: Any) -> None:
    """Raise if the model neither classifies nor embeds texts.

    Raises:
        Unsuited: as `needs_text`.
    """
    if not isinstance(model, Classifies):
        needs_text(model)


@dataclass(frozen=True, kw_only=True)
class ZeroShot:
    """Result of a classification."""

    scores: list[Score]
    confusions: list[Confusion]
    """Worst pairs first."""
    right: np.ndarray
    """True for every image whose best class is the true one."""


def prompts(names: Sequence[str], templates: Sequence[str]) -> list[list[str]]:
    """Return the texts of every class: each template with the name in it.

    >>> prompts(["owl", "cat"], ["a {}", "one {}"])
    [['an owl', 'one owl'], ['a cat', 'one cat']]
    """
    return [[fill(template, name) for template in templates] for name in names]


def zeroshot(
    model: Embeds | Classifies,
    images: Any,
    labels: Sequence[int],
    names: Sequence[str],
    texts: Sequence[Sequence[str]],
    *,
    name: str,
) -> ZeroShot:
    """Classify images among classes; the scores are called `name` top-1, top-5 and mean per class.

    Args:
        model: a `Classifies` with these classes in this order, or an `Embeds`, which gets the texts.
        images: anything the model takes.
        labels: the true class of every image.
        names: one name per class, for the confusions.
        texts: one list of texts per class; a `Classifies` does not use them.

    Raises:
        PerceptError: the model classifies, but into a different number of classes.
    """
    return judge(classifier(model, texts)(images), torch.as_tensor(labels), names, name=name)


def classifier(model: Embeds | Classifies, texts: Sequence[Sequence[str]]) -> Callable[[Any], Float[Tensor, "n c"]]:
    """Return a function from images to class logits; of an `Embeds`, the cosines with the classes of these texts.

    Raises:
        PerceptError: when called, if the model classifies into a different number of classes.
    """
    if isinstance(model, Classifies):
        return partial(_own_logits, model, len(texts))
    weights = averaged(model, texts)
    return lambda images: model.image(images).float() @ weights.T


def _own_logits(model: Classifies, classes: int, images: Any) -> Float[Tensor, "n c"]:
    logits = model.class_logits(images).float()
    if logits.shape[1] != classes:
        raise PerceptError(
            f"the model has {logits.shape[1]} classes, but this evaluation has {classes}. "
            "Train it on these classes, or use an encoder with a text tower."
        )
    return logits


def judge(logits: Float[Tensor, "n c"], labels: Int[Tensor, " n"], names: Sequence[str], *, name: str) -> ZeroShot:
    """Score class logits, or cosines, against the true classes."""
    right = hits(logits, labels, 1)
    scores = [proportion(f"{name} top-1", right.numpy())]
    if len(names) > 10:
        scores.append(proportion(f"{name} top-5", hits(logits, labels, 5).numpy()))
    by_class = [right[labels == label].float().mean().item() for label in labels.unique()]
    scores.append(mean(f"{name} mean per class", by_class))
    return ZeroShot(scores=scores, confusions=worst(labels, logits.argmax(dim=1), names), right=right.numpy())


def hits(logits: Float[Tensor, "n c"], labels: Int[Tensor, " n"], k: int) -> Bool[Tensor, " n"]:
    """True where the true class is among the `k` best; a tie counts as wrong, and so does NaN."""
    true = logits.gather(1, labels[:, None])
    above = (~(logits < true)).sum(dim=1) - 1
    return above < k


def worst(
    labels: Int[Tensor, " n"], guesses: Int[Tensor, " n"], names: Sequence[str], top: int = 10
) -> list[Confusion]:
    """Return the pairs of classes most often confused, by share of the true class."""
    table = torch.zeros(len(names), len(names), dtype=torch.int64)
    table.index_put_((labels, guesses), torch.ones(1, dtype=torch.int64), accumulate=True)
    totals = table.sum(dim=1)
    share = table.double() / totals.clamp(min=1)[:, None]
    order = share.fill_diagonal_(0).flatten().argsort(descending=True, stable=True)[:top].tolist()
    pairs = [divmod(int(position), len(names)) for position in order]
    return [
        Confusion(truth=names[row], guess=names[column], count=int(table[row, column]), of=int(totals[row]))
        for row, column in pairs
        if row != column and table[row, column]
    ]


def colour_texts(names: Sequence[str]) -> list[list[str]]:
    """Return the texts of every colour: each template with each category, so that no category is given away."""
    return [
        [fill_template(template, name, colour) for template in COLOUR_TEMPLATES for name in names] for colour in COLOURS
    ]


def run(model: Embeds | Classifies, plan: Plan) -> Result:
    """Classify images of one thing by category and, unless the model brings its own classes, by colour."""
    data = world.singles(plan.count, seed=plan.seed, split=plan.split)
    names, categories = list(CATEGORIES), torch.tensor(data.categories)
    texts = prompts(names, CLASS_TEMPLATES)
    if isinstance(model, Classifies):
        category = judge(classifier(model, texts)(data.images), categories, names, name="category")
        return Result(scores=category.scores, confusions=category.confusions)
    vectors = model.image(data.images).float()
    category = judge(vectors @ averaged(model, texts).T, categories, names, name="category")
    colours, by_colour = torch.tensor(data.colours), averaged(model, colour_texts(names))
    colour = judge(vectors @ by_colour.T, colours, list(COLOURS), name="colour")
    known = hits(_given_category(model, vectors, data.categories), colours, 1).numpy()
    return Result(
        scores=[*category.scores, *colour.scores, proportion("colour top-1, category given", known)],
        confusions=[*category.confusions, *colour.confusions[:5]],
    )


def _given_category(model: Embeds, vectors: Float[Tensor, "n d"], categories: Sequence[int]) -> Float[Tensor, "n c"]:
    """Return cosines with "a red cup", "a blue cup", … for the category that each image shows."""
    texts = [
        [fill_template(form, name, colour) for form in COLOUR_TEMPLATES] for name in CATEGORIES for colour in COLOURS
    ]
    weights = averaged(model, texts).unflatten(0, (len(CATEGORIES), len(COLOURS)))
    return torch.einsum("nd,ncd->nc", vectors, weights[torch.as_tensor(categories)])


EVALUATION = Evaluation(
    name="zeroshot",
    summary=__doc__,
    run=run,
    needs=needs_classes,
    targets={"category top-1": 0.90, "colour top-1": 0.90},
)
