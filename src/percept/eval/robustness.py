"""Category of single things in six styles, and the loss against plain images; with --data, ImageNet's shifts or other domains, and these styles."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool

from percept.core.errors import PerceptError
from percept.core.report import notice
from percept.eval import world
from percept.eval.record import Records
from percept.eval.sets import EvaluationSet, Request
from percept.eval.sets.domains import SUITE, is_suite, open_domains
from percept.eval.statistics import Score, drop, mean_of_groups, proportion
from percept.eval.table import WORLD, Evaluation, OnSets, Plan, Result
from percept.eval.zeroshot import (
    ZeroShot,
    classifier,
    classifier_of_set,
    judge,
    needs_classes,
    prompts,
    prompts_of_set,
    zeroshot_of_set,
)
from percept.infer.contracts import Classifies, Embeds
from percept.world.language import CLASS_TEMPLATES
from percept.world.objects import CATEGORIES
from percept.world.variants import STYLES, UNSEEN


@dataclass(frozen=True, kw_only=True)
class Styled:
    """Images of one style with their classes."""

    images: Any
    labels: Sequence[int]
    seen: Bool[np.ndarray, " n"]
    """True where training may have seen the variant of the style."""


def robustness(
    model: Embeds | Classifies,
    styles: Mapping[str, Styled],
    names: Sequence[str],
    texts: Sequence[Sequence[str]],
    *,
    plain: str = "plain",
) -> list[Score]:
    """Classify images of every style; return top-1 per style, means over styles, and drops against plain images.

    Args:
        model: as for `zeroshot.zeroshot`.
        styles: images by style; one of the styles is `plain`.
        names: class names.
        texts: texts of every class.
    """
    return _scores({style: found.right for style, found in _judged(model, styles, names, texts).items()}, styles, plain)


def _judged(
    model: Embeds | Classifies, styles: Mapping[str, Styled], names: Sequence[str], texts: Sequence[Sequence[str]]
) -> dict[str, ZeroShot]:
    classify = classifier(model, texts)
    return {
        style: judge(classify(data.images), torch.as_tensor(data.labels), names, name=style)
        for style, data in styles.items()
    }


def _scores(right: Mapping[str, np.ndarray], styles: Mapping[str, Styled], plain: str = "plain") -> list[Score]:
    others = {style: values for style, values in right.items() if style != plain}
    return [
        *(proportion(f"style {style}", values) for style, values in right.items()),
        *_by_novelty({style: (values, styles[style].seen) for style, values in others.items()}),
        mean_of_groups("mean of the styles", list(right.values())),
        mean_of_groups("mean of the styles other than plain", list(others.values())),
        drop("drop of the mean against plain", right[plain], list(right.values())),
        drop("drop of the styles other than plain", right[plain], list(others.values())),
    ]


def _by_novelty(others: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> list[Score]:
    """Return means over styles of the variants that training may have seen, and of the others."""
    kinds = {
        "variants seen in training": [values[seen] for values, seen in others.values() if seen.any()],
        "variants never seen": [values[~seen] for values, seen in others.values() if not seen.all()],
    }
    return [mean_of_groups(name, groups) for name, groups in kinds.items() if groups]


def run(model: Embeds | Classifies, plan: Plan) -> Result:
    """Draw each style and classify by category."""
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
    judged = _judged(model, styles, names, prompts(names, CLASS_TEMPLATES))
    records = [_records(style, found) for style, found in judged.items()]
    return Result(scores=_scores({style: found.right for style, found in judged.items()}, styles), records=records)


def _records(style: str, found: ZeroShot) -> Records:
    keys = [f"single/{style}/{number}" for number in range(len(found.right))]
    return found.records(keys, data=world.NAME, task=f"style {style} top-1")


def robustness_of_sets(model: Embeds | Classifies, sets: Mapping[str, EvaluationSet]) -> Result:
    """Classify the images of several sets; return top-1 and mean per class of each, and means over the sets.

    Of ImageNet and its shifts, the mean of all six is the robustness of the paper (arXiv:2504.13181, "Avg. class"). Intervals of
    means resample every set within itself.

    Raises:
        PerceptError: no sample of a set can be read.
    """
    shared: dict[str, Any] = {}
    parts, right = [], dict[str, np.ndarray]()
    for name, data in sets.items():
        texts = str(prompts_of_set(data))
        shared[texts] = shared.get(texts) or classifier_of_set(model, data)
        result, found = zeroshot_of_set(model, data, logits=shared[texts])
        parts.append(result)
        right[name] = found.right
    return Result(
        scores=[*(score for part in parts for score in part.scores), *_means(right)],
        confusions=[
            replace(confusion, data=name)
            for name, part in zip(sets, parts, strict=True)
            for confusion in part.confusions[:2]
        ],
        records=[records for part in parts for records in part.records],
        data=[facts for part in parts for facts in part.data],
    )


def _means(right: Mapping[str, np.ndarray]) -> list[Score]:
    """Return the means over sets; of the suite also the mean of the shifts, and how far it is below ImageNet."""
    if not is_suite(right):
        worst = min(right, key=lambda name: float(np.mean(right[name])))
        return [
            mean_of_groups(f"mean of the {len(right)} domains", list(right.values())),
            proportion(f"lowest domain, {worst}", right[worst]),
        ]
    missing = [name for name in SUITE if name not in right]
    name = "robustness, mean of the six sets" if not missing else f"mean of {len(right)} of the six sets"
    if missing:
        notice(f"{', '.join(missing)} not found, so the mean is not the robustness of the paper")
    scores = [mean_of_groups(name, list(right.values()))]
    shifts = [values for each, values in right.items() if each != "ImageNet"]
    if "ImageNet" in right and shifts:
        scores += [
            mean_of_groups(f"mean of the {len(shifts)} shifts", shifts),
            drop("drop of the shifts against ImageNet", right["ImageNet"], shifts),
        ]
    return scores


def run_on_sets(model: Embeds | Classifies, sets: Mapping[str, EvaluationSet], request: Request) -> Result:
    """Classify the samples of the sets, and the styles of the labelled world, whose scores begin with `world:`.

    The limit of the sets also limits the images of a style. A classifier of other classes is measured on the sets only.
    """
    found = robustness_of_sets(model, sets)
    plan = Plan(seed=request.seed)
    if request.limit is not None and request.limit < plan.third:
        plan = replace(plan, count=3 * request.limit)
    try:
        of_world = run(model, plan)
    except PerceptError as error:
        notice(f"the labelled world is left out: {error}")
        return found
    scores = [replace(score, name=f"{WORLD}{score.name}") for score in of_world.scores]
    return replace(found, scores=[*found.scores, *scores], records=[*found.records, *of_world.records])


EVALUATION = Evaluation(
    name="robustness",
    summary=__doc__,
    run=run,
    needs=needs_classes,
    on_sets=OnSets(open=open_domains, run=run_on_sets),
    targets={"drop of the mean against plain": 0.15},
)
