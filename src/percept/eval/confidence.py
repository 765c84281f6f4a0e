"""Whether the probability of the best category is how often it is right.

The confidence is the largest probability among all categories, from the model's own scale and cosines. The images show one thing
each, equally often in every style.
"""

from typing import Any

import numpy as np
import torch

from percept.eval import world
from percept.eval.calibration import BINS, bin_numbers, calibration
from percept.eval.record import Records
from percept.eval.statistics import mean
from percept.eval.table import Evaluation, Plan, Result, Unsuited
from percept.eval.zeroshot import needs_classes, prompts
from percept.infer.contracts import Classifies
from percept.infer.labels import averaged
from percept.world.language import CLASS_TEMPLATES
from percept.world.objects import CATEGORIES
from percept.world.variants import STYLES

BRIER = "Brier score of the best category"
"""Mean of (confidence − 1)² of right answers and confidence² of wrong ones. Runs are compared by its values on single images."""


def needs(model: Any) -> None:
    """Raise if the model gives no probabilities.

    Raises:
        Unsuited: as `needs_classes`, or vectors without a scale.
    """
    needs_classes(model)
    if not isinstance(model, Classifies) and not hasattr(model, "scale"):
        raise Unsuited(
            f"{type(model).__name__} has no scale, so its cosines are not probabilities. Use an encoder of percept.load."
        )


def run(model: Any, plan: Plan) -> Result:
    """Measure calibration on images of one thing in every style."""
    names = list(CATEGORIES)
    counts: dict[str, int] = dict.fromkeys(STYLES, max(1, plan.count // len(STYLES)))
    styles = world.singles_by_style(counts, seed=plan.seed, split=plan.split)
    images, labels = (
        [image for data in styles.values() for image in data.images],
        [label for data in styles.values() for label in data.categories],
    )
    if isinstance(model, Classifies):
        logits = model.class_logits(images).float()
    else:
        logits = model.scale * model.image(images).float() @ averaged(model, prompts(names, CLASS_TEMPLATES)).T
    confidence, best = torch.softmax(logits, dim=1).max(dim=1)
    right = (best == torch.tensor(labels)).numpy()
    shares = confidence.double().clamp(0, 1).numpy()
    squared = (shares - right) ** 2
    records = Records(
        task=BRIER, data=world.NAME, better="less", value=squared,
        keys=[f"single/{style}/{number}" for style, data in styles.items() for number in range(len(data.images))],
        truth=[names[label] for label in labels],
        prediction=[f"{names[guess]}, {share:.0%}" for guess, share in zip(best.tolist(), shares, strict=True)],
    )  # fmt: skip
    return Result(
        scores=[
            *calibration(shares, right, seed=plan.seed),
            mean(BRIER, squared, unit="", better="less", seed=plan.seed),
        ],
        curves={"reliability": reliability(shares, right)},
        records=[records],
    )


def reliability(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> list[dict[str, float]]:
    """Return mean confidence, accuracy and number of answers of every bin of the calibration error that is not empty.

    >>> reliability(np.array([0.95, 0.97]), np.array([True, False]))
    [{'confidence': 0.96, 'accuracy': 0.5, 'n': 2}]
    """
    numbers = bin_numbers(confidence, bins)
    return [
        {
            "confidence": float(confidence[inside].mean()),
            "accuracy": float(right[inside].mean()),
            "n": int(inside.sum()),
        }
        for inside in (numbers == each for each in range(bins))
        if inside.any()
    ]


EVALUATION = Evaluation(name="calibration", summary=__doc__, run=run, needs=needs)
