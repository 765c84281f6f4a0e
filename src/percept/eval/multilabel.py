"""Which categories an image of one to six things shows; with --data, which classes each image of a set shows.

mAP is the mean over classes of the average precision of the ranking of all images by their similarity to the class.
"""

from collections.abc import Mapping, Sequence
from itertools import islice

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from percept.core.errors import PerceptError
from percept.eval import world
from percept.eval.record import Records
from percept.eval.resampling import resampled_counts
from percept.eval.sets import EvaluationSet, Request, open_set
from percept.eval.sets.stream import Pass, chunks
from percept.eval.statistics import Score, mean_share, share_interval
from percept.eval.table import Evaluation, OnSets, Plan, Result
from percept.eval.zeroshot import classifier, needs_classes, prompts, prompts_of_set
from percept.infer.contracts import Classifies, Embeds
from percept.world.language import CLASS_TEMPLATES
from percept.world.objects import CATEGORIES

DRAWS = 400
"""Resamples of the interval of mAP; each ranks all images of all classes again."""
BLOCK = 1 << 21
"""Numbers of resamples that are ranked together."""


def average_precision(
    scores: Float[np.ndarray, " n"],
    positive: Bool[np.ndarray, " n"],
    weights: Int[np.ndarray, "r n"] | None = None,
) -> Float[np.ndarray, " r"]:
    """Return the average precision of a ranking: the mean over positives of the precision where they are found.

    Items of equal score are found together, as in scikit-learn. NaN where nothing is positive.

    Args:
        scores: of the items.
        positive: which items are right answers.
        weights: how often each item counts, in several resamples; once if None.
    """
    order = np.argsort(-scores, kind="stable")
    ordered, right = scores[order], positive[order].astype(float)
    counts = np.ones((1, len(order))) if weights is None else weights[:, order].astype(float)
    last = np.searchsorted(-ordered, -ordered, side="right") - 1
    found = np.cumsum(counts * right, axis=1)
    precision = found[:, last] / np.maximum(np.cumsum(counts, axis=1)[:, last], 1)
    with np.errstate(invalid="ignore"):
        return (counts * right * precision).sum(axis=1) / (counts * right).sum(axis=1)


def mean_average_precision(
    name: str, scores: Float[np.ndarray, "n c"], positive: Bool[np.ndarray, "n c"], *, seed: int = 0
) -> Score:
    """Return mAP over the classes that occur, with a bootstrap over images that is centred on it.

    Where the bootstrap has no width, as for a perfect ranking, the width is Wilson's for the number of images.
    """
    occurring = np.flatnonzero(positive.any(axis=0))
    value = np.mean([average_precision(scores[:, each], positive[:, each])[0] for each in occurring])
    draws = islice(resampled_counts(len(scores), seed=seed), DRAWS)
    together = max(1, BLOCK // len(scores))
    means = [
        _mean_over_classes(scores, positive, occurring, np.stack(part))
        for part in iter(lambda: list(islice(draws, together)), [])
    ]
    low, high = share_interval(np.concatenate(means), float(value), len(scores))
    return Score(name=name, value=float(value), n=len(scores), low=low, high=high)


def _mean_over_classes(
    scores: Float[np.ndarray, "n c"],
    positive: Bool[np.ndarray, "n c"],
    classes: Int[np.ndarray, " k"],
    weights: Int[np.ndarray, "r n"],
) -> Float[np.ndarray, " r"]:
    """Return mAP in several resamples, in each over the classes that occur in it."""
    total, counted = np.zeros(len(weights)), np.zeros(len(weights))
    for each in classes:
        drawn = average_precision(scores[:, each], positive[:, each], weights)
        total += np.nan_to_num(drawn)
        counted += ~np.isnan(drawn)
    return total / np.maximum(counted, 1)


def precision_of_images(scores: Float[np.ndarray, "n c"], positive: Bool[np.ndarray, "n c"]) -> Float[np.ndarray, " n"]:
    """Return for every image the average precision of its classes; `positive` has one or more per image."""
    return np.array([average_precision(row, right)[0] for row, right in zip(scores, positive, strict=True)])


def judged(
    scores: Float[np.ndarray, "n c"],
    labels: Sequence[Sequence[int]],
    names: Sequence[str],
    keys: Sequence[str],
    *,
    name: str,
    data: str,
) -> Result:
    """Score the similarity of images and classes against the true classes; an image without one counts for mAP only.

    Raises:
        PerceptError: no image has a class.
    """
    positive = np.zeros(scores.shape, dtype=bool)
    for row, each in enumerate(labels):
        positive[row, list(each)] = True
    scores = np.nan_to_num(scores, nan=-np.inf)
    shown = np.flatnonzero(positive.any(axis=1)).tolist()
    if not shown:
        raise PerceptError(
            f"{name}: no image has a class, so there is nothing to find. Give at least one image with one."
        )
    value = precision_of_images(scores[shown], positive[shown])
    best = [[int(each) for each in np.argsort(-scores[row])[: len(labels[row])]] for row in shown]
    records = Records(
        task="average precision", data=data, keys=[keys[row] for row in shown], value=value,
        truth=[sorted(names[each] for each in labels[row]) for row in shown],
        prediction=[sorted(names[each] for each in row) for row in best],
    )  # fmt: skip
    return Result(
        scores=[
            mean_average_precision(f"{name} mAP", scores, positive),
            mean_share(f"{name} average precision per image", value),
        ],
        records=[records],
    )


def multilabel_of_set(model: Embeds | Classifies, data: EvaluationSet) -> Result:
    """Rank the classes of a set for every image; one number per image and class is kept.

    Raises:
        PerceptError: no sample can be read.
    """
    seen, parts = Pass(data=data), []
    for _, logits in chunks(seen, model, classifier(model, prompts_of_set(data))):
        parts.append(logits.numpy())
    facts = seen.done().facts()
    labels = [item.labels for item in seen.items]
    found = judged(
        np.concatenate(parts), labels, data.classes, [item.key for item in seen.items], name=data.name, data=data.name
    )
    return Result(scores=found.scores, records=found.records, data=[facts])


def open_several(request: Request) -> dict[str, EvaluationSet]:
    """Open a set whose images have several classes each.

    Raises:
        PerceptError: as `open_set`, or they do not.
    """
    data = open_set(request).check("classes")
    return {data.name: data}


def run_on_sets(model: Embeds | Classifies, sets: Mapping[str, EvaluationSet], _: Request) -> Result:
    """Rank the classes of the set."""
    (data,) = sets.values()
    return multilabel_of_set(model, data)


def run(model: Embeds | Classifies, plan: Plan) -> Result:
    """Rank the categories for images of one to six things."""
    chosen = list(islice(world.scenes("multilabel", seed=plan.seed, things=world.ANY, split=plan.split), plan.third))
    names = list(CATEGORIES)
    labels = [sorted({names.index(thing.category) for thing in scene.things}) for scene in chosen]
    with torch.no_grad():
        logits = classifier(model, prompts(names, CLASS_TEMPLATES))(world.draw(chosen))
    keys = [f"multilabel/plain/{number}" for number in range(len(chosen))]
    return judged(logits.numpy(), labels, names, keys, name="categories", data=world.NAME)


EVALUATION = Evaluation(
    name="multilabel",
    summary=__doc__,
    run=run,
    needs=needs_classes,
    on_sets=OnSets(open=open_several, run=run_on_sets),
)
