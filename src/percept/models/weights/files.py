"""Weight files, whatever they are named: tensors in, mapped into memory and nothing run; tensors out, whole or not at all."""

import pickle
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from percept.core.errors import PerceptError
from percept.core.io import load_metadata, load_tensors, replacing, save_tensors

PICKLED = (".pt", ".pth", ".bin")
SUFFIXES = (".safetensors", *PICKLED)
"""Endings of files that hold weights."""
WRAPPERS = ("state_dict", "weights", "model")
"""Entries of a training checkpoint that hold the weights proper."""


def read_tensors(path: Path | str) -> dict[str, Tensor]:
    """Read the tensors of a weight file under their stored names; they stay in the file until they are used.

    Raises:
        PerceptError: no such file, not a whole weight file, or a pickle that holds more than tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise PerceptError(f"there is no weight file {path}")
    state = load_tensors(path) if path.suffix == ".safetensors" else unwrap(_unpickled(path))
    if not state:
        raise PerceptError(f"{path} holds no weights at all; fetch or write it again")
    strange = [f"{key} ({type(value).__name__})" for key, value in state.items() if not isinstance(value, Tensor)]
    if strange:
        raise PerceptError(f"{path} is not a dictionary of weights alone; it also holds {', '.join(strange[:5])}")
    whole = [key for key, value in state.items() if not value.is_floating_point()]
    if whole:
        raise PerceptError(
            f"{path} holds tensors that are no floating-point numbers: {', '.join(whole[:5])}; quantised weights are "
            "not read here, take the file in float32, float16 or bfloat16"
        )
    return state


def read_facts(path: Path | str) -> dict[str, str]:
    """Return the texts that a safetensors file holds beside its tensors; nothing for other files."""
    return load_metadata(path) if Path(path).suffix == ".safetensors" else {}


def write_tensors(path: Path | str, state: dict[str, Tensor], facts: dict[str, str] | None = None) -> None:
    """Write tensors by the ending of `path`: safetensors (with `facts`) or a pickled dictionary; bit for bit.

    Raises:
        PerceptError: another ending.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise PerceptError(f"{path} ends in {path.suffix or 'nothing'}; weight files end in {', '.join(SUFFIXES)}")
    alone = {name: _alone(tensor) for name, tensor in state.items()}
    if path.suffix == ".safetensors":
        save_tensors(path, alone, {"format": "pt", **(facts or {})})
        return
    with replacing(path) as temporary:
        torch.save(alone, temporary)


def _alone(tensor: Tensor) -> Tensor:
    """Return a tensor that owns its memory: writers store or refuse the whole of what a part points into."""
    tensor = tensor.detach().contiguous()
    return tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()


def unwrap(state: Any) -> dict[str, Any]:
    """Take weights out of their wrappers and strip the prefix `module.` that parallel training leaves."""
    for wrapper in WRAPPERS:
        if isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    return {str(key).removeprefix("module."): value for key, value in state.items()}


def _unpickled(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file, warnings.catch_warnings(action="ignore"):  # what is odd about it is refused below
            archive = file.read(4) == b"PK\x03\x04"  # files of torch before 1.6 are none, and cannot be mapped
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=archive)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if "weights_only" in reason:  # the library goes on to advise running it
            reason = "damaged, or more than tensors"
        raise PerceptError(
            f"{path} is not a complete file of weights alone ({reason}); nothing in it was run"
        ) from None
    if not isinstance(state, dict):
        raise PerceptError(f"{path} holds a {type(state).__name__}, not a dictionary of weights")
    return state
