"""A model as a folder: weights, configuration, preprocessing, tokenizer, and how it came to be."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from percept.core.config import from_dict, to_dict
from percept.core.errors import PerceptError
from percept.core.io import content_hash, load_tensors, read_json, save_tensors, write_json
from percept.data.tokenizers import Tokenizer
from percept.data.transforms import Preprocess
from percept.models.clip import CLIP
from percept.models.config import ClipConfig
from percept.models.weights.strict import load_strict

WEIGHTS, CONFIG, PREPROCESS, TOKENIZER = "model.safetensors", "config.json", "preprocess.json", "tokenizer.json"


@dataclass(frozen=True, kw_only=True)
class Opened:
    """What a model folder holds."""

    name: str
    model: CLIP
    preprocess: Preprocess
    tokenizer: Tokenizer | None
    fingerprint: str
    """Content hash of the weights file."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """How it was trained: command, seed, samples seen, seconds."""
    metrics: dict[str, Any] = field(default_factory=dict)


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
    """Write a model folder; `dtype` stores the weights in another type, except scalars."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_tensors(
        folder / WEIGHTS,
        {key: value.to(dtype) if dtype and value.dim() else value for key, value in model.state_dict().items()},
    )
    write_json(folder / CONFIG, {"name": name, "model": to_dict(model.config), "provenance": provenance or {}})
    preprocess.save(folder / PREPROCESS)
    if tokenizer is not None:
        tokenizer.save(folder / TOKENIZER)
    if metrics is not None:
        write_json(folder / "metrics.json", metrics)


def open_folder(folder: Path | str) -> Opened:
    """Open a model folder; the weights keep the type they are stored in.

    Raises:
        PerceptError: not a model folder, or a file in it is missing, broken or does not fit.
    """
    folder = Path(folder)
    for file in (CONFIG, WEIGHTS, PREPROCESS):
        if not (folder / file).is_file():
            raise PerceptError(f"{folder} is not a model folder: it has no {file}")
    header = read_json(folder / CONFIG)
    if not isinstance(header, dict) or "model" not in header:
        raise PerceptError(f"{folder / CONFIG} has no entry 'model'; it was not written by percept")
    config = from_dict(ClipConfig, header["model"])
    with torch.device("meta"):
        model = CLIP(config)
    load_strict(model, load_tensors(folder / WEIGHTS), source=str(folder / WEIGHTS))
    metrics = folder / "metrics.json"
    return Opened(
        name=header.get("name", folder.name),
        model=model.eval(),
        preprocess=Preprocess.load(folder / PREPROCESS),
        tokenizer=Tokenizer.load(folder / TOKENIZER) if (folder / TOKENIZER).is_file() else None,
        fingerprint=content_hash((folder / WEIGHTS).read_bytes()),
        provenance=header.get("provenance", {}),
        metrics=read_json(metrics) if metrics.is_file() else {},
    )
