"""Write a perception language model or a decoder as a folder in any layout."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from percept.core.errors import PerceptError, unknown_name
from percept.core.io import write_json
from percept.data.transforms import Preprocess
from percept.weights.assistant import LAYOUTS
from percept.weights.files import INDEX, write_tensors
from percept.weights.layout import State
from percept.weights.layouts.plm import Config, Record
from percept.weights.naming import checked_name
from percept.weights.write import whole

SHARD_BYTES = 5_000_000_000
"""Largest size of a safetensors file; larger models are split."""


def write_assistant(
    folder: Path | str,
    state: State,
    config: Config,
    *,
    name: str,
    layout: str = "percept",
    preprocess: Preprocess | None = None,
    provenance: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> Path:
    """Write a model folder and return it; `percept.assistant` opens it. Tokenizer files are not written.

    Args:
        folder: new, or an existing folder, whose other files stay.
        state: `model.state_dict()`.
        layout: percept, transformers or original.
        preprocess: how tiles are normalised; the layouts of others record mean and standard deviation only, or nothing.
        dtype: number type in which the weights are stored; as they are if None.
        shard_bytes: size above which safetensors are split over several files.

    Raises:
        PerceptError: the layout does not exist or cannot hold the model, or the files cannot be written.
    """
    if layout not in LAYOUTS:
        raise unknown_name("layout", layout, LAYOUTS)
    kind, folder = LAYOUTS[layout], Path(folder)
    parts = {
        "projector_norm": "norm before",
        "projector_positions": "positions after",
        "projector_frames": "frame numbers after",
    }
    for part, what in parts.items():
        if layout != "percept" and getattr(config, part, False):
            raise PerceptError(
                f"the {layout} layout has no place for the {what} this model's projector. Write it in the percept layout."
            )
    record = Record(
        config=config, name=checked_name(name, "this"), preprocess=preprocess, provenance=provenance or {},
        metrics=metrics or {},
    )  # fmt: skip
    files, theirs = kind.write_record(record), kind.to_theirs(state, config)
    if dtype is not None:
        theirs = {key: value.to(dtype) for key, value in theirs.items()}
    with whole(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder, kind.weights, theirs, shard_bytes)
        for file, content in files.items():
            write_json(folder / file, content)
    return folder


def _write(folder: Path, file: str, state: State, most: int) -> None:
    """Write the weight file, or several and their index; safetensors only are split."""
    parts = split(state, most) if file.endswith(".safetensors") else [state]
    for stale in folder.glob(f"{Path(file).stem}-*-of-*.safetensors*"):
        stale.unlink()
    (folder / (file + INDEX)).unlink(missing_ok=True)
    if len(parts) == 1:
        write_tensors(folder / file, state)
        return
    (folder / file).unlink(missing_ok=True)
    names = [f"{Path(file).stem}-{part + 1:05d}-of-{len(parts):05d}.safetensors" for part in range(len(parts))]
    for name, part in zip(names, parts, strict=True):
        write_tensors(folder / name, part)
    table = {key: name for name, part in zip(names, parts, strict=True) for key in part}
    total = sum(value.nbytes for value in state.values())
    write_json(folder / (file + INDEX), {"metadata": {"total_size": total}, "weight_map": table})


def split(state: State, most: int) -> list[State]:
    """Split a state, in its order, into parts of at most `most` bytes; a larger tensor is a part alone.

    >>> [list(part) for part in split({name: torch.zeros(2) for name in "abc"}, 16)]
    [['a', 'b'], ['c']]
    """
    parts: list[State] = [{}]
    size = 0
    for key, value in state.items():
        if parts[-1] and size + value.nbytes > most:
            parts.append({})
            size = 0
        parts[-1][key] = value
        size += value.nbytes
    return parts
