"""A model as a folder: weights, configuration, preprocessing, tokenizer, and how it came to be."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from percept.core.config import from_dict, to_dict
from percept.core.errors import PerceptError
from percept.core.io import content_hash, file_hash, read_json, save_tensors, write_json
from percept.data.tokenizers import Tokenizer
from percept.data.transforms import Preprocess
from percept.models.clip import CLIP
from percept.models.config import ClipConfig
from percept.models.weights.files import read_tensors
from percept.models.weights.memory import cast, stored_type
from percept.models.weights.opening import with_image_size
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
    """Hash of the weights: of the whole file in a folder of ours, of a spread of values elsewhere."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """How it was trained: command, seed, samples seen, seconds."""
    layout: str = "percept"
    """How the weights were stored."""
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


def open_folder(
    folder: Path | str, *, image_size: int | None = None, dtype: Callable[[torch.dtype], torch.dtype] | None = None
) -> Opened:
    """Open a model folder.

    Args:
        folder: what `save_folder` wrote.
        image_size: side in pixels whose grid the positions are resized to.
        dtype: from the stored number type to the wanted one; as stored when None.

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
    config, state = from_dict(ClipConfig, header["model"]), read_tensors(folder / WEIGHTS)
    if dtype is not None:
        state = cast(state, dtype(stored_type(state, source=str(folder / WEIGHTS))))
    config, state = with_image_size(config, state, image_size)
    with torch.device("meta"):
        model = CLIP(config)
    load_strict(model, state, source=str(folder / WEIGHTS))
    metrics = folder / "metrics.json"
    preprocess = Preprocess.load(folder / PREPROCESS)
    return Opened(
        name=header.get("name", folder.name),
        model=model.eval(),
        preprocess=preprocess if image_size is None else replace(preprocess, size=image_size),
        tokenizer=Tokenizer.load(folder / TOKENIZER) if (folder / TOKENIZER).is_file() else None,
        fingerprint=_fingerprint(folder / WEIGHTS, image_size),
        provenance=header.get("provenance", {}),
        metrics=read_json(metrics) if metrics.is_file() else {},
    )


def _fingerprint(file: Path, image_size: int | None) -> str:
    """Hash the file, and the size of the pictures where it is not the stored one: it changes the vectors."""
    plain = file_hash(file)
    return plain if image_size is None else content_hash(f"{plain} {image_size}".encode())
