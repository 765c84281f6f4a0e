"""Real handwritten digits, which no recipe here was trained on: a plain look at how far a model carries."""

import numpy as np
from jaxtyping import UInt8

from percept.core.errors import missing_extra
from percept.eval.zeroshot import Encodes, ZeroShot, prompts, zeroshot

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEMPLATES = ("the digit {}",)


def read_digits() -> tuple[UInt8[np.ndarray, "n y x"], list[int]]:
    """Return the 1,797 digits of scikit-learn, 8×8 pixels, light on dark, and what they are.

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


def digits(encoder: Encodes) -> ZeroShot:
    """Classify the digits as "the digit seven" and so on."""
    images, labels = read_digits()
    return zeroshot(encoder, list(images), labels, NAMES, prompts(NAMES, TEMPLATES), name="handwritten digits")
