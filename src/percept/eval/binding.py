"""Binding: does the encoder know which attribute belongs to which thing, or has it read a bag of words."""

from collections.abc import Sequence
from typing import Any

import torch

from percept.core.errors import PerceptError
from percept.eval.statistics import Score, proportion
from percept.eval.zeroshot import Encodes


def binding(encoder: Encodes, images: Any, pairs: Sequence[tuple[str, str]], *, name: str) -> Score:
    """Return how often a picture is closer to its right caption than to the wrong one; chance is 50 %, a tie is wrong.

    Args:
        pairs: (right, wrong) caption of every picture.

    Raises:
        PerceptError: the numbers of pictures and pairs differ.
    """
    vectors = encoder.image(images).float()
    if len(vectors) != len(pairs):
        raise PerceptError(f"{name} needs one pair of captions per picture; given {len(pairs)} for {len(vectors)}")
    right = torch.linalg.vecdot(vectors, encoder.text([pair[0] for pair in pairs]).float())
    wrong = torch.linalg.vecdot(vectors, encoder.text([pair[1] for pair in pairs]).float())
    return proportion(name, (right > wrong).numpy())
