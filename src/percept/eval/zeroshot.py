"""Category and colour of single things, zero-shot; with --data, the class of each image or video of a set, zero-shot.

A class is the mean of its texts' unit vectors; an image goes to the nearest class. A `Classifies` brings its own classes
and is measured by its logits. On the evaluation split the combinations of category and colour never appeared in training.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from percept.core.errors import PerceptError
from percept.eval import world
from percept.eval.record import Records
from percept.eval.sets import EvaluationSet, Request, open_set
from percept.eval.sets.stream import Pass, chunks, unit_vectors
from percept.eval.statistics import Score, mean_per_class, proportion
from percept.eval.table import Confusion, Evaluation, OnSets, Plan, Result, Unsuited
from percept.infer.clips import Sampling
from percept.infer.contracts import Classifies, Embeds
from percept.infer.labels import TEMPLATES, averaged, fill
from percept.world.language import CLASS_TEMPLATES, COLOUR_TEMPLATES, fill_template
from percept.world.objects import CATEGORIES
from percept.world.palette import COLOURS

NOUNS = ("photo", "video", "example", "demonstration")
ACTS = (
    "{}",
    "a person {}",
    *(f"a person {verb} {{}}" for verb in ("using", "doing", "during", "performing", "practicing")),
)
VIDEO_TEMPLATES = tuple(f"a {noun} of {act}" for noun in NOUNS for act in ACTS)
"""The 28 prompts of the Perception Encoder for Kinetics; used for videos of a set that brings no templates. As published, the
article is "a" before "example" too."""


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
    labels: Int[np.ndarray, " n"]
    guesses: Int[np.ndarray, " n"]
    """The best class of every image; a class of equal score may be the true one, which does not count as right."""
    ranks: Int[np.ndarray, " n"]
    """Rank of the true class, from 1."""
    names: Sequence[str]

    def records(self, keys: Sequence[str], *, data: str, task: str = "top-1") -> Records:
        """Return the outcome of every image."""
        return Records(
            task=task, data=data, keys=keys, value=self.right.astype(float), rank=self.ranks.tolist(),
            truth=[self.names[label] for label in self.labels], prediction=[self.names[guess] for guess in self.guesses],
        )  # fmt: skip


def prompts(names: Sequence[str], templates: Sequence[str]) -> list[list[str]]:
    """Return the texts of every class: each template with the name in it.

    >>> prompts(["owl", "cat"], ["a {}", "one {}"])
    [['an owl', 'one owl'], ['a cat', 'one cat']]
    """
    return [[fill(template, name) for template in templates] for name in names]


def prompts_of_set(data: EvaluationSet) -> list[list[str]]:
    """Return the texts of every class of a set: by its own templates literally, else by the default ones for its kind."""
    if data.templates:
        return [[template.replace("{}", name) for template in data.templates] for name in data.classes]
    if data.video:
        return [[template.replace("{}", name) for template in VIDEO_TEMPLATES] for name in data.classes]
    return prompts(data.classes, TEMPLATES)


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
    tally = Tally(names)
    tally.add(logits, labels)
    return tally.result(name)


@dataclass(kw_only=True)
class _Outcomes:
    """The true class, the best class and the rank of the true class, of some images."""

    labels: list[Tensor] = field(default_factory=list)
    guesses: list[Tensor] = field(default_factory=list)
    ranks: list[Tensor] = field(default_factory=list)


class Tally:
    """Scores logits that come in parts; the logits themselves are not kept."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names, self._outcomes = names, _Outcomes()

    def add(self, logits: Float[Tensor, "n c"], labels: Int[Tensor, " n"]) -> None:
        """Add the logits of some images with their true classes."""
        self._outcomes.labels.append(labels)
        self._outcomes.guesses.append(logits.argmax(dim=1))
        self._outcomes.ranks.append(true_ranks(logits, labels))

    def result(self, name: str) -> ZeroShot:
        """Return the scores of all images so far; they are called `name` top-1, top-5 and mean per class."""
        labels, guesses, ranks = map(torch.cat, (self._outcomes.labels, self._outcomes.guesses, self._outcomes.ranks))
        right = (ranks < 1).numpy()
        scores = [proportion(f"{name} top-1", right)]
        if len(self.names) > 10:
            scores.append(proportion(f"{name} top-5", (ranks < 5).numpy()))
        scores.append(mean_per_class(f"{name} mean per class", right, labels.numpy()))
        return ZeroShot(
            scores=scores, confusions=worst(labels, guesses, self.names), right=right, labels=labels.numpy(),
            guesses=guesses.numpy(), ranks=ranks.numpy() + 1, names=self.names,
        )  # fmt: skip


def true_ranks(logits: Float[Tensor, "n c"], labels: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
    """Return the rank of the true class, from 0; others of equal score come first, and so does NaN."""
    true = logits.gather(1, labels[:, None])
    return (~(logits < true)).sum(dim=1) - 1


def hits(logits: Float[Tensor, "n c"], labels: Int[Tensor, " n"], k: int) -> Bool[Tensor, " n"]:
    """True where the true class is among the `k` best; a tie counts as wrong, and so does NaN."""
    return true_ranks(logits, labels) < k


def worst(
    labels: Int[Tensor, " n"], guesses: Int[Tensor, " n"], names: Sequence[str], top: int = 10
) -> list[Confusion]:
    """Return the pairs of classes most often confused, by share of the true class."""
    pairs: list[tuple[int, int]] = list(zip(labels.tolist(), guesses.tolist(), strict=True))
    totals = Counter(truth for truth, _ in pairs)
    counts = Counter(pair for pair in pairs if pair[0] != pair[1])
    order = sorted(counts, key=lambda pair: (-counts[pair] / totals[pair[0]], pair))[:top]
    return [
        Confusion(truth=names[row], guess=names[column], count=counts[row, column], of=totals[row])
        for row, column in order
    ]


def colour_texts(names: Sequence[str]) -> list[list[str]]:
    """Return the texts of every colour: each template with each category, so that no category is given away."""
    return [
        [fill_template(template, name, colour) for template in COLOUR_TEMPLATES for name in names] for colour in COLOURS
    ]


def zeroshot_of_set(
    model: Embeds | Classifies,
    data: EvaluationSet,
    *,
    sampling: Sampling | None = None,
    logits: Callable[[Any], Float[Tensor, "n c"]] | None = None,
) -> tuple[Result, ZeroShot]:
    """Classify the images or videos of a set among its classes, as a stream; return scores and the outcome of every sample.

    Args:
        model: as for `zeroshot`; videos need an `Encoder`.
        data: a set that holds classes.
        sampling: which frames stand for a video; 8 by default, whose raw vectors are averaged.
        logits: the result of `classifier_of_set`, where several sets share it.

    Raises:
        PerceptError: no sample can be read, or the model classifies into a different number of classes.
    """
    seen, tally = Pass(data=data), Tally(data.classes)
    for items, rows in chunks(seen, model, logits or classifier_of_set(model, data), sampling=sampling):
        tally.add(rows, torch.tensor([item.labels[0] for item in items]))
    facts = seen.done().facts()
    found = tally.result(data.name)
    records = found.records([item.key for item in seen.items], data=data.name)
    return Result(scores=found.scores, confusions=found.confusions, records=[records], data=[facts]), found


def classifier_of_set(model: Embeds | Classifies, data: EvaluationSet) -> Callable[[Any], Float[Tensor, "n c"]]:
    """Return a function from the images or clips of a set to class logits.

    Raises:
        PerceptError: the set holds videos, and the model is not an encoder.
    """
    texts = prompts_of_set(data)
    if not data.video:
        return classifier(model, texts)
    if not hasattr(model, "pooled"):
        raise PerceptError(f"{type(model).__name__} cannot embed videos. Use an encoder, such as 'nano'.")
    vectors, weights = unit_vectors(model, data, "zero-shot"), averaged(model, texts)  # type: ignore[arg-type]
    return lambda clips: vectors(clips) @ weights.T


def open_classes(request: Request) -> dict[str, EvaluationSet]:
    """Open a set whose samples have one class each.

    Raises:
        PerceptError: as `open_set`, or they do not.
    """
    data = open_set(request).check("class")
    return {data.name: data}


def run_on_sets(model: Embeds | Classifies, sets: Mapping[str, EvaluationSet], request: Request) -> Result:
    """Classify the samples of the set."""
    (data,) = sets.values()
    return zeroshot_of_set(model, data, sampling=request.sampling)[0]


def run(model: Embeds | Classifies, plan: Plan) -> Result:
    """Classify images of one thing by category and, unless the model brings its own classes, by colour."""
    data = world.singles(plan.count, seed=plan.seed, split=plan.split)
    names, categories = list(CATEGORIES), torch.tensor(data.categories)
    keys = [f"single/plain/{number}" for number in range(len(data.images))]
    texts = prompts(names, CLASS_TEMPLATES)
    if isinstance(model, Classifies):
        category = judge(classifier(model, texts)(data.images), categories, names, name="category")
        return Result(scores=category.scores, confusions=category.confusions, records=[_of_world(category, keys)])
    vectors = model.image(data.images).float()
    category = judge(vectors @ averaged(model, texts).T, categories, names, name="category")
    colours, by_colour = torch.tensor(data.colours), averaged(model, colour_texts(names))
    colour = judge(vectors @ by_colour.T, colours, list(COLOURS), name="colour")
    known = hits(_given_category(model, vectors, data.categories), colours, 1).numpy()
    return Result(
        scores=[*category.scores, *colour.scores, proportion("colour top-1, category given", known)],
        confusions=[*category.confusions, *colour.confusions[:5]],
        records=[_of_world(category, keys), _of_world(colour, keys, "colour")],
    )


def _of_world(found: ZeroShot, keys: Sequence[str], kind: str = "category") -> Records:
    return found.records(keys, data=world.NAME, task=f"{kind} top-1")


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
    on_sets=OnSets(open=open_classes, run=run_on_sets),
    targets={"category top-1": 0.90, "colour top-1": 0.90},
)
