"""A model as a folder: weights, configuration, preprocessing, tokenizer, and how it came to be."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from percept.core.config import from_dict, to_dict
from percept.core.errors import PerceptError
from percept.core.io import read_json, save_tensors, write_json
from percept.data.tokenizers import Tokenizer
from percept.data.transforms import Preprocess
from percept.models.clip import CLIP
from percept.models.config import ClipConfig
from percept.weights.cast import cast, stored_type
from percept.weights.files import read_tensors
from percept.weights.fingerprint import Content, model_hash, tensor_hash, words_hash
from percept.weights.fit import POSITIONS, load_strict
from percept.weights.naming import checked_name, plain_name
from percept.weights.open import with_image_size

WEIGHTS, CONFIG, PREPROCESS, TOKENIZER = "model.safetensors", "config.json", "preprocess.json", "tokenizer.json"


@dataclass(frozen=True, kw_only=True)
class Opened:
    """What a model folder holds."""

    name: str
    model: CLIP
    preprocess: Preprocess
    tokenizer: Tokenizer | None
    fingerprint: str
    """Hash of all that decides the vectors, equal however the model is stored."""
    content: Content | None = None
    """What that is made of; None for an export."""
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
    words: str | None = None,
) -> None:
    """Write a model folder.

    Args:
        dtype: stores the weights in another type, except scalars.
        words: the `words_hash` of the tokenizer the model goes with, where that itself is not there.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_tensors(
        folder / WEIGHTS,
        {key: value.to(dtype) if dtype and value.dim() else value for key, value in model.state_dict().items()},
    )
    told = {} if words is None or tokenizer is not None else {"tokenizer": words}
    facts = {"name": plain_name(name), "model": to_dict(model.config), "provenance": provenance or {}}
    write_json(folder / CONFIG, {**facts, **told})
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
        PerceptError: not a model folder, a file in it is missing, broken or does not fit, or its name is no file name.
    """
    folder = Path(folder)
    for file in (CONFIG, WEIGHTS, PREPROCESS):
        if not (folder / file).is_file():
            raise PerceptError(f"{folder} is not a model folder: it has no {file}")
    header = read_json(folder / CONFIG)
    if not isinstance(header, dict) or "model" not in header:
        raise PerceptError(f"{folder / CONFIG} has no entry 'model'; it was not written by percept")
    name = checked_name(header["name"], str(folder / CONFIG)) if "name" in header else plain_name(folder.resolve().name)
    stored, state = from_dict(ClipConfig, header["model"]), read_tensors(folder / WEIGHTS)
    prints: dict[str, str] = {}

    def note(key: str, tensor: Tensor) -> None:
        if key == POSITIONS:
            tensor = with_image_size(stored, {key: tensor}, image_size)[1][key]
        prints[key] = tensor_hash(tensor)

    state = cast(state, dtype and dtype(stored_type(state, source=str(folder / WEIGHTS))), before=note)
    config, state = with_image_size(stored, state, image_size)
    with torch.device("meta"):
        model = CLIP(config)
    load_strict(model, state, source=str(folder / WEIGHTS))
    metrics = folder / "metrics.json"
    preprocess = Preprocess.load(folder / PREPROCESS)
    if image_size is not None:
        preprocess = replace(preprocess, size=image_size)
    tokenizer = Tokenizer.load(folder / TOKENIZER) if (folder / TOKENIZER).is_file() else None
    content = Content(
        model=model_hash(prints, config, preprocess), words=words_hash(tokenizer, config.text, header.get("tokenizer"))
    )
    return Opened(
        name=name,
        model=model.eval(),
        preprocess=preprocess,
        tokenizer=tokenizer,
        fingerprint=content.fingerprint,
        content=content,
        provenance=header.get("provenance", {}),
        metrics=read_json(metrics) if metrics.is_file() else {},
    )
