"""What a user may pass as texts: strings, or token ids."""

from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from percept.core.errors import PerceptError
from percept.data.tokenizers import Tokenizer
from percept.models.config import TextConfig
from percept.weights.fingerprint import CLIP_VOCABULARY


def check_texts(texts: Any) -> list[str]:
    """Return one text or several as a list.

    Raises:
        PerceptError: neither a text nor an iterable of texts.
    """
    if isinstance(texts, str):
        return [texts]
    if not isinstance(texts, Iterable):
        raise PerceptError(
            f"give a text, a list of texts, or token ids [n, context]; {type(texts).__name__} is none of them"
        )
    strings = list(texts)
    for text in strings:
        if not isinstance(text, str):
            raise PerceptError(f"a text must be a str, got {type(text).__name__}: {text!r}")
    return strings


def check_ids(ids: Tensor) -> Int[Tensor, "n c"]:
    """Return token ids as rows; one row may come without its leading axis.

    Raises:
        PerceptError: not integers of one or two axes, or rows without tokens.
    """
    if ids.is_floating_point() or ids.dtype == torch.bool or ids.ndim not in (1, 2) or ids.shape[-1] == 0:
        raise PerceptError(f"token ids must be integers [n, context], got {ids.dtype} {list(ids.shape)}")
    return ids[None] if ids.ndim == 1 else ids


def as_ids(texts: Any, tokenizer: Tokenizer | None, config: TextConfig | None, name: str) -> Int[Tensor, "n c"]:
    """Return the token ids of one text or several; ids are returned as they are.

    Args:
        texts: strings, or token ids [n, context].
        tokenizer: of the model; None if it was loaded without one.
        config: of the model's text tower.
        name: of the model, for the message.

    Raises:
        PerceptError: neither texts nor ids, or texts without a tokenizer.
    """
    if isinstance(texts, Tensor):
        return check_ids(texts)
    strings = check_texts(texts)
    if tokenizer is not None:
        return tokenizer(strings)
    clip = config is not None and config.vocabulary == CLIP_VOCABULARY
    remedy = (
        "Install a package that brings CLIP's vocabulary (pip install open_clip_torch), or give its merges.txt"
        if clip
        else "Give the tokenizer.json it was trained with, or for weights of nano its name with --weights FILE"
    )
    raise PerceptError(
        f"{name} was loaded without a tokenizer, so it cannot read texts. {remedy}: --tokenizer FILE, tokenizer= in Python; token "
        "ids [n, context] are accepted as well"
    )
