"""Real handwritten digits, which no recipe here was trained on; needs scikit-learn.

Always all 1,797 of them: seed, split and count have no effect.
"""

from typing import Any

import numpy as np
from jaxtyping import UInt8

from percept.core.errors import missing_extra
from percept.eval.table import Evaluation, Plan, Result
from percept.eval.zeroshot import ZeroShot, needs_classes, prompts, zeroshot
from percept.infer.contracts import Classifies, Embeds

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEMPLATES = ("the digit {}",)


def read_digits() -> tuple[UInt8[np.ndarray, "n y x"], list[int]]:
    """Return the 1,797 digits of scikit-learn, 8×8 pixels, light on dark, and their values.

    Raises:
        PerceptError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise missing_extra("scikit-learn", "eval", "the handwritten digits") from None
    images, labels = load_digits(return_X_y=True)
    pixels = np.round(images.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    return pixels, labels.tolist()


def digits(model: Embeds | Classifies) -> ZeroShot:
    """Classify the digits; the texts are "the digit seven" and so on."""
    images, labels = read_digits()
    return zeroshot(model, list(images), labels, NAMES, prompts(NAMES, TEMPLATES), name="handwritten digits")


def needs(model: Any) -> None:
    """Raise if scikit-learn is missing, or the model cannot classify.

    Raises:
        PerceptError: as `read_digits` and `needs_classes`.
    """
    read_digits()
    needs_classes(model)


def run(model: Embeds | Classifies, _: Plan) -> Result:
    """Classify all digits."""
    classified = digits(model)
    keys = [f"digit/{number}" for number in range(len(classified.right))]
    records = [classified.records(keys, data="digits")]
    return Result(scores=classified.scores, confusions=classified.confusions[:5], records=records)


EVALUATION = Evaluation(name="digits", summary=__doc__, run=run, needs=needs)
