"""Category of single things in six styles, and the loss against plain images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool

from percept.eval import world
from percept.eval.statistics import Score, drop, mean_of_groups, proportion
from percept.eval.table import Evaluation, Plan, Result
from percept.eval.zeroshot import classifier, judge, needs_classes, prompts
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
    classify = classifier(model, texts)
    right = {
        style: judge(classify(data.images), torch.as_tensor(data.labels), names, name=style).right
        for style, data in styles.items()
    }
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
    return Result(scores=robustness(model, styles, names, prompts(names, CLASS_TEMPLATES)))


EVALUATION = Evaluation(
    name="robustness",
    summary=__doc__,
    run=run,
    needs=needs_classes,
    targets={"drop of the mean against plain": 0.15},
)
