"""Weight files, whatever they are named: tensors in, mapped into memory and nothing run; tensors out, whole or not at all."""

import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from percept.core.errors import PerceptError
from percept.core.io import load_metadata, load_tensors, replacing, save_tensors
from percept.weights.rename import renamed

PICKLED = (".pt", ".pth", ".bin")
SUFFIXES = (".safetensors", *PICKLED)
"""Endings of files that hold weights."""
ARCHIVE = b"PK\x03\x04"
"""What torch.save writes begins so."""
WRAPPERS = ("state_dict", "weights", "model")
"""Entries of a training checkpoint that hold the weights proper."""
NESTED = 4
"""Wrappers that may lie in one another; a dictionary can also hold itself."""
NUMBERS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""Types of weights that can be computed with."""


def read_tensors(path: Path | str) -> dict[str, Tensor]:
    """Read the tensors of a weight file under their stored names; they stay in the file until they are used.

    Raises:
        PerceptError: no such file, not a whole weight file, or a pickle that holds more than tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise PerceptError(f"there is no weight file {path}")
    state = _stored(path)
    if not state:
        raise PerceptError(f"{path} holds no weights at all; fetch or write it again")
    strange = [f"{key} ({type(value).__name__})" for key, value in state.items() if not isinstance(value, Tensor)]
    if strange:
        raise PerceptError(f"{path} is not a dictionary of weights alone; it also holds {', '.join(strange[:5])}")
    return _numbers(path, state)


def is_safetensors(path: Path | str) -> bool:
    """Tell by its first bytes whether a file is safetensors: the length of its header in eight, then the header, json."""
    return _head(Path(path))[4:9] == b"\0\0\0\0{"  # headers have at most 100 MB


def read_facts(path: Path | str) -> dict[str, str]:
    """Return the texts that a safetensors file holds beside its tensors; nothing for other files."""
    return load_metadata(path) if is_safetensors(path) else {}


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(64)


def _stored(path: Path) -> dict[str, Any]:
    """Read a file by what it begins with, whatever its name ends in."""
    head = _head(path)
    if is_safetensors(path):
        return unwrap(load_tensors(path))
    if head.startswith((ARCHIVE, b"\x80")):
        return unwrap(_unpickled(path, archive=head.startswith(ARCHIVE)))
    if head.startswith(b"version https://git-lfs"):
        raise PerceptError(
            f"{path} is a pointer of Git LFS in place of the weights; run 'git lfs pull' where it came from"
        )
    raise PerceptError(
        f"{path} is not a complete file of weights: it begins neither as safetensors nor as what torch.save writes; "
        "fetch or write it again"
    )


def _numbers(path: Path, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the state if every tensor of it is plain numbers that can be computed with."""
    bare = [key for key, value in state.items() if value.layout != torch.strided or value.is_nested or value.is_meta]
    if bare:
        raise PerceptError(
            f"{path} holds tensors that are sparse, nested or without values: {', '.join(bare[:5])}; write it again with "
            "dense ones"
        )
    types = {key: str(value.dtype).removeprefix("torch.") for key, value in state.items() if value.dtype not in NUMBERS}
    if types:
        shown = ", ".join(f"{key} ({name})" for key, name in list(types.items())[:5])
        raise PerceptError(
            f"{path} holds numbers of types that are not computed in: {shown}; quantised weights are not "
            "read here, take the file in float32, float16 or bfloat16"
        )
    return state


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
    """Take weights out of their wrappers and strip what parallel training (`module.`) and compiling put into their names.

    Raises:
        PerceptError: several wrappers hold weights, a wrapper and what it lies among do, or two keys are one without
            what is stripped.
    """
    for _ in range(NESTED):
        inner = [wrapper for wrapper in WRAPPERS if isinstance(state.get(wrapper), dict) and state[wrapper]]
        full = [wrapper for wrapper in inner if _holds_weights(state[wrapper])]
        bare = [key for key, value in state.items() if isinstance(value, Tensor) and "." in str(key)]
        if full and len(full + bare) > 1:
            raise PerceptError(
                f"this file holds weights more than once, under {', '.join(map(str, [*full, *bare][:5]))}; write a file with "
                "those alone that are meant"
            )
        state = state[(full or inner)[0]] if inner else state
    filled = {key: value for key, value in state.items() if not (isinstance(value, dict) and not value)}
    return renamed(filled, lambda key: str(key).replace("_orig_mod.", "").removeprefix("module."))


def _holds_weights(state: dict[Any, Any], depth: int = NESTED) -> bool:
    """Tell whether tensors lie in a dictionary, or in a wrapper of it."""
    within = [state[wrapper] for wrapper in WRAPPERS if isinstance(state.get(wrapper), dict)] if depth else []
    return any(isinstance(value, Tensor) for value in state.values()) or any(
        _holds_weights(one, depth - 1) for one in within
    )


def _unpickled(path: Path, *, archive: bool) -> dict[str, Any]:
    try:
        with path.open("rb") as file, warnings.catch_warnings(action="ignore"):  # what is odd about it is refused below
            # Files of torch before 1.6 are no archives and cannot be mapped; nor what torch takes for safetensors by name.
            mapped = archive and path.suffix != ".safetensors"
            state = torch.load(path if mapped else file, map_location="cpu", weights_only=True, mmap=mapped)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if isinstance(error, KeyError) or re.search("[Ww]eights.only", reason):  # a number, or advice to run it
            reason = "damaged, or more than tensors"
        raise PerceptError(
            f"{path} is not a complete file of weights alone ({reason}); nothing in it was run"
        ) from None
    if not isinstance(state, dict):
        raise PerceptError(f"{path} holds a {type(state).__name__}, not a dictionary of weights")
    return state
