"""Robustness: the same question on pictures of other styles, and how much is lost against plain ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool

from percept.eval.statistics import Score, drop, mean_of_groups, proportion
from percept.eval.zeroshot import Encodes, judge
from percept.infer.labels import averaged


@dataclass(frozen=True, kw_only=True)
class Styled:
    """Pictures of one style with their classes."""

    images: Any
    labels: Sequence[int]
    seen: Bool[np.ndarray, " n"]
    """Whether training may have seen the variant of each picture."""


def robustness(
    encoder: Encodes,
    styles: Mapping[str, Styled],
    names: Sequence[str],
    texts: Sequence[Sequence[str]],
    *,
    plain: str = "plain",
) -> list[Score]:
    """Classify pictures of every style zero-shot; return top-1 per style, means over styles, and drops against plain.

    Args:
        styles: pictures by style, the plain one among them.
        names: class names.
        texts: texts of every class.
    """
    weights = averaged(encoder, texts)
    right = {
        style: judge(encoder.image(one.images), torch.as_tensor(one.labels), names, weights, name=style).right
        for style, one in styles.items()
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
    """Return means over styles of the variants that training may have seen, and of those it has not."""
    kinds = {
        "variants seen in training": [values[seen] for values, seen in others.values() if seen.any()],
        "variants never seen": [values[~seen] for values, seen in others.values() if not seen.all()],
    }
    return [mean_of_groups(name, groups) for name, groups in kinds.items() if groups]
