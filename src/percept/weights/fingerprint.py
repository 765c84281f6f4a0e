"""Hashes of what decides a model's vectors: equal however the model is stored, different when anything of it changes."""

import hashlib
import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from percept.core.io import bits, content_hash
from percept.data.tokenizers import Tokenizer
from percept.data.transforms import Preprocess
from percept.models.config import PE, ClipConfig, TextConfig, TowerConfig

PART = 1 << 22
"""Bytes hashed in one piece; several pieces at a time."""
CLIP_VOCABULARY = 49_408
"""Ids of CLIP's own vocabulary."""
CLIP_PIECES = "357bb25b04340a41047b9c3b10a85a40"
"""`Tokenizer.pieces` of CLIP's vocabulary: the tokenizer of a model of that size which came without one."""


def image_identity(weights: Mapping[str, str], config: ClipConfig, preprocess: Preprocess) -> str:
    """Return the hash of what decides the vectors of images: vision tower and preprocessing.

    The same for a pair of towers and for its vision tower alone, and independent of the tokenizer.

    Args:
        weights: {our name of a tensor: its `tensor_hash`}.
        config: of the model.
        preprocess: in use, which may differ from that of the model.
    """
    vision = {name: value for name, value in weights.items() if name.startswith("vision.")}
    return content_hash(json.dumps([vision, _tower(config.vision), _facts(preprocess)], sort_keys=True).encode())


def text_identity(weights: Mapping[str, str], config: ClipConfig, tokenizer: str | None) -> str:
    """Return the hash of what decides the vectors of texts: text tower and tokenizer.

    Args:
        weights: {our name of a tensor: its `tensor_hash`}.
        config: of the model.
        tokenizer: `tokenizer_hash` of the tokenizer in use.
    """
    text = {name: value for name, value in weights.items() if name.startswith("text.")}
    facts = None if config.text is None else _facts(config.text)
    return content_hash(json.dumps([text, facts, tokenizer], sort_keys=True).encode())


def _tower(config: TowerConfig) -> dict[str, Any]:
    """Return the fields of an image tower that decide its vectors, in one form for equal towers."""
    facts = _facts(config.canonical())
    return facts if config.kind == PE else {**facts, "kind": config.kind}


def _facts(config: Any) -> dict[str, Any]:
    """Return the fields that differ from their defaults, so that a field added later does not change older hashes."""
    values = {field.name: getattr(config, field.name) for field in fields(config) if field.compare}
    return {
        field.name: values[field.name]
        for field in fields(config)
        if values.get(field.name, field.default) != field.default
    }


def joined_hash(weights: Mapping[str, str]) -> str:
    """Return one hash of {name: `tensor_hash`}."""
    return content_hash(json.dumps(dict(weights), sort_keys=True).encode())


def hash_tensors(state: Mapping[str, Tensor]) -> dict[str, str]:
    """Return {name: `tensor_hash`}."""
    return {name: tensor_hash(tensor) for name, tensor in state.items()}


def tensor_hash(tensor: Tensor) -> str:
    """Return the hash of type, shape and all bits of a tensor; a contiguous tensor is not copied.

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


def tokenizer_hash(tokenizer: Tokenizer | None, config: TextConfig | None, recorded: str | None = None) -> str | None:
    """Return the hash of the tokenizer that makes the ids of texts; None if there is no text tower, or it is unknown.

    Args:
        tokenizer: None if the model came without one.
        config: of the text tower; None if there is none.
        recorded: hash that a file records in place of the tokenizer.
    """
    if config is None:
        return None
    if tokenizer is not None:
        return f"{tokenizer.pieces} {tokenizer.context}"
    if recorded is not None:
        return recorded
    return f"{CLIP_PIECES} {config.context}" if config.vocabulary == CLIP_VOCABULARY else None
