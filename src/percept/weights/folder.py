"""Save a model as a folder: weights, configuration, preprocessing, tokenizer, and how it was trained."""

from pathlib import Path
from typing import Any

import torch

from percept.data.tokenizers import Tokenizer
from percept.data.transforms import Preprocess
from percept.models.clip import CLIP
from percept.weights.layouts.percept import CONFIG, PREPROCESS, TOKENIZER, WEIGHTS
from percept.weights.naming import plain_name
from percept.weights.write import write_weights

__all__ = ["CONFIG", "PREPROCESS", "TOKENIZER", "WEIGHTS", "save_folder"]


def save_folder(
    folder: Path | str,
    model: CLIP,
    *,
    name: str,
    preprocess: Preprocess,
    tokenizer: Tokenizer | None,
    provenance: dict[str, Any] | None = None,
    metrics: dict[str, Any] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write a model folder.

    Args:
        folder: new, or an existing folder, whose other files stay.
        name: name of the model; characters that a file name cannot have are replaced.
        dtype: number type in which the weights are stored, except scalars; as they are if None.
    """
    state = {key: value.to(dtype) if dtype and value.dim() else value for key, value in model.state_dict().items()}
    write_weights(
        folder, state, layout="percept", name=plain_name(name), config=model.config, preprocess=preprocess,
        tokenizer=tokenizer, provenance=provenance, metrics=metrics,
    )  # fmt: skip
