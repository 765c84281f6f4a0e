"""What decides a model's vectors, as one hash: equal however the model is stored, another when anything of it changes."""

import hashlib
import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from percept.core.io import bits, content_hash
from percept.data.tokenizers import Tokenizer
from percept.data.transforms import Preprocess
from percept.models.config import PE, ClipConfig, TextConfig

PART = 1 << 22
"""Bytes hashed in one go; several at a time."""
CLIP_VOCABULARY = 49_408
"""Ids of CLIP's own vocabulary."""
CLIP_PIECES = "357bb25b04340a41047b9c3b10a85a40"
"""`Tokenizer.pieces` of it: a model of this vocabulary that came without tokenizer reads texts with no other."""


@dataclass(frozen=True, kw_only=True)
class Content:
    """Hashes of what a model consists of."""

    model: str
    """Weights as they are stored, configuration and preprocessing."""
    words: str | None
    """What texts become ids with; None where there are no texts, or it is not known."""

    @property
    def fingerprint(self) -> str:
        """One hash of all."""
        return content_hash(f"{self.model} {self.words}".encode())


def model_hash(weights: Mapping[str, str], config: ClipConfig, preprocess: Preprocess) -> str:
    """Return the hash of a model without its tokenizer.

    Args:
        weights: our name of every tensor: its `tensor_hash`.
        config: what is the same in other words, or shapes training only, is left aside.
        preprocess: as the model says; what leaves vectors comparable is left aside.
    """
    vision = config.vision.canonical()
    facts: list[Any] = [None if one is None else _told(one) for one in (vision, config.text, preprocess)]
    facts += [] if vision.kind == PE else [vision.kind]
    return content_hash(json.dumps([dict(weights), *facts], sort_keys=True).encode())


def _told(config: Any) -> dict[str, Any]:
    """Return the fields that differ from their defaults, so that a field added later changes no older hash."""
    told = {field.name: getattr(config, field.name) for field in fields(config) if field.compare}
    return {
        field.name: told[field.name] for field in fields(config) if told.get(field.name, field.default) != field.default
    }


def tensor_hash(tensor: Tensor) -> str:
    """Hash type, shape and every bit of a tensor in its place; no copy of one that is contiguous is made.

    >>> tensor_hash(torch.tensor([[1.0, 2.0]])) == tensor_hash(torch.tensor([[2.0, 1.0]]))
    False
    """
    data = bits(tensor).contiguous().reshape(-1).view(torch.uint8).numpy()
    parts = [data[start : start + PART] for start in range(0, len(data), PART)]
    if len(parts) > 1:
        with ThreadPoolExecutor(min(len(parts), os.cpu_count() or 1, 8)) as pool:
            digests = list(pool.map(_digest, parts))
    else:
        digests = [_digest(part) for part in parts]
    return content_hash(f"{tensor.dtype} {list(tensor.shape)} ".encode() + b"".join(digests))


def _digest(part: Any) -> bytes:
    return hashlib.blake2b(part, digest_size=16).digest()


def words_hash(tokenizer: Tokenizer | None, config: TextConfig | None, told: object = None) -> str | None:
    """Return the hash of what texts become ids with.

    Args:
        tokenizer: as it was found; None where there is none.
        config: of the text tower; None where there is none.
        told: what the file says it was, where it has no place for the tokenizer itself.
    """
    if config is None:
        return None
    if tokenizer is not None:
        return f"{tokenizer.pieces} {tokenizer.context}"
    if isinstance(told, str):
        return told
    return f"{CLIP_PIECES} {config.context}" if config.vocabulary == CLIP_VOCABULARY else None
