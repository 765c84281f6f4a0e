"""Weight files, whatever their names: tensors are mapped into memory and no code is run; writing is atomic."""

import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from percept.core.errors import PerceptError
from percept.core.io import load_tensors, read_json, reasons, replacing, save_tensors
from percept.core.report import notice
from percept.weights.layout import State
from percept.weights.unwrap import unwrap

PICKLED = (".pt", ".pth", ".bin")
SUFFIXES = (".safetensors", *PICKLED)
"""Extensions of weight files."""
INDEX = ".index.json"
"""Extension of the index of weights that are split over several files: {"weight_map": {key: file}}."""
ARCHIVE = b"PK\x03\x04"
"""First bytes of what torch.save writes."""
NUMBERS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""Number types that can be computed with."""
QUANTISED = ("int8", "uint8", "float8", "int4", "uint4", "float4", "bits", "qint", "quint")
"""Prefixes of number types that quantised weights have."""
COUNTERS = ("position_ids", "num_batches_tracked")
"""Last parts of names of integer buffers that the weights decide nothing by."""


def read_tensors(path: Path | str) -> State:
    """Read the tensors of a weight file, or of all files of an index, under their stored names.

    They stay in the file until they are used.

    Raises:
        PerceptError: no such file, not a complete weight file, or a pickle that holds more than tensors.
    """
    path = Path(path)
    with reasons(path):
        state = unwrap(_read_shards(path) if path.name.endswith(INDEX) else _stored(path))
    if not state:
        raise PerceptError(f"{path} holds no weights at all; fetch or write it again")
    strange = [f"{key} ({type(value).__name__})" for key, value in state.items() if not isinstance(value, Tensor)]
    if strange:
        raise PerceptError(f"{path} is not a dictionary of weights alone; it also holds {', '.join(strange[:5])}")
    return _dense_numbers(path, state)


def shard_files(index: Path) -> list[Path]:
    """Return the files of an index, which have to be next to it.

    Raises:
        PerceptError: it is not an index, or a file is missing.
    """
    files = [index.with_name(name) for name in listed_files(index)]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise PerceptError(f"{index} lists files that are not next to it: {', '.join(missing[:5])}; fetch them too")
    return files


def listed_files(index: Path) -> list[str]:
    """Return the names of the files that an index lists.

    Raises:
        PerceptError: it is not an index of files next to it.
    """
    names = set(_weight_map(index).values())
    if any(Path(name).name != name or not name.endswith(SUFFIXES) for name in names):
        raise PerceptError(f"{index} lists files that are not weight files next to it; fetch or write it again")
    return sorted(names)


def _weight_map(index: Path) -> dict[str, str]:
    table = read_json(index)
    names = table.get("weight_map") if isinstance(table, dict) else None
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise PerceptError(
            f"{index} is not an index of weight files: it has no table 'weight_map' of keys and file names"
        )
    return names


def _read_shards(index: Path) -> dict[str, Any]:
    """Read all files of an index and check that they hold what the index lists.

    Raises:
        PerceptError: a file is missing or damaged, lacks a key, or holds one that another file holds too.
    """
    state: dict[str, Any] = {}
    for file in shard_files(index):
        shard = _stored(file)
        if twice := state.keys() & shard.keys():
            raise PerceptError(f"{file} holds {min(twice)}, which another file of {index} holds too; fetch them again")
        state |= shard
    if lacking := sorted(_weight_map(index).keys() - state.keys()):
        raise PerceptError(f"the files of {index} lack keys that it lists: {', '.join(lacking[:5])}; fetch them again")
    return state


def again(path: Path, state: State) -> Callable[[], State]:
    """Return a function that gives the tensors of a file as they were when it was read.

    The file is read again if it is unchanged. If it was replaced or removed, its mapped tensors are still readable; keeping
    them takes no memory.

    Args:
        path: the file or index.
        state: what `read_tensors` returned for it.
    """
    files = shard_files(path) if path.name.endswith(INDEX) else [path]
    stamps = {file: _stamp(file) for file in files}
    kept = dict(state) if all(_maps(file) for file in files) else None

    def give() -> State:
        now = {file: _stamp(file) for file in files}
        if now == stamps:
            return read_tensors(path)
        overwritten = [
            file for file in files if now[file] != stamps[file] and _inode(now[file]) == _inode(stamps[file])
        ]
        if kept is None or overwritten:
            raise PerceptError(f"{path} has changed since it was loaded, so it cannot be hashed; load the model again")
        return dict(kept)

    return give


def _inode(stamp: tuple[int, int, int] | None) -> int | None:
    return None if stamp is None else stamp[0]


def _stamp(file: Path) -> tuple[int, int, int] | None:
    """Return what changes when a file is written: its inode, length and time of modification; None if it is gone."""
    try:
        facts = os.stat(file)
    except OSError:
        return None
    return facts.st_ino, facts.st_size, facts.st_mtime_ns


def is_safetensors(path: Path | str) -> bool:
    """True if a file begins as safetensors do: the length of the header in eight bytes, then the header, json."""
    return _head(Path(path))[4:9] == b"\0\0\0\0{"  # headers have at most 100 MB


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(64)


def _maps(path: Path) -> bool:
    """True if the tensors of a file are mapped: not in files of torch before 1.6, which are not archives."""
    if not path.is_file():
        return False
    head = _head(path)
    return head[4:9] == b"\0\0\0\0{" or (head.startswith(ARCHIVE) and path.suffix != ".safetensors")


def _stored(path: Path) -> dict[str, Any]:
    """Read a file by its first bytes, whatever its extension."""
    if not os.path.isfile(path):
        there = os.path.lexists(path)
        raise PerceptError(
            f"{path} is not a regular file; give a weight file" if there else f"there is no weight file {path}"
        )
    head = _head(path)
    if is_safetensors(path):
        return load_tensors(path)
    if head.startswith((ARCHIVE, b"\x80")):
        return _unpickled(path)
    if head.startswith(b"version https://git-lfs"):
        raise PerceptError(
            f"{path} is a pointer of Git LFS in place of the weights; run 'git lfs pull' where it came from"
        )
    raise PerceptError(
        f"{path} is not a complete file of weights: it begins neither as safetensors nor as what torch.save writes; "
        "fetch or write it again"
    )


def _unpickled(path: Path) -> dict[str, Any]:
    """Read a pickled file without running any of it; the unpickler raises errors of any kind on damaged files."""
    try:
        with path.open("rb") as file, warnings.catch_warnings(action="ignore"):  # what they warn of is refused below
            mapped = _maps(path)  # torch reads anything named .safetensors as such, so that file is passed opened
            state = torch.load(path if mapped else file, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if isinstance(error, KeyError) or re.search("[Ww]eights.only", reason):  # a number, or advice to run it
            reason = "damaged, or more than tensors"
        raise PerceptError(
            f"{path} is not a complete file of weights alone ({reason}); nothing in it was run"
        ) from None
    if not isinstance(state, dict):
        raise PerceptError(f"{path} holds a {type(state).__name__}, not a dictionary of weights")
    return state


def _dense_numbers(path: Path, state: State) -> State:
    """Return the state without counters.

    Raises:
        PerceptError: a tensor is not dense, repeats its values, or has a number type that is not computed with.
    """
    bare = [key for key, value in state.items() if value.layout != torch.strided or value.is_nested or value.is_meta]
    if bare:
        raise PerceptError(
            f"{path} holds tensors that are sparse, nested or without values: {', '.join(bare[:5])}; write it again with "
            "dense ones"
        )
    repeated = [key for key, value in state.items() if value.untyped_storage().nbytes() < value.nbytes]
    if repeated:
        raise PerceptError(
            f"{path} holds tensors that store fewer numbers than they have (expanded): {', '.join(repeated[:5])}; write "
            "it again with .contiguous()"
        )
    types = {key: str(value.dtype).removeprefix("torch.") for key, value in state.items() if value.dtype not in NUMBERS}
    counters = [key for key in types if key.rpartition(".")[2] in COUNTERS and _is_counter(key, state[key])]
    _check_types(path, {key: name for key, name in types.items() if key not in counters})
    if counters:
        notice(
            f"{path}: {len(counters)} integer buffers were ignored ({', '.join(counters[:3])}); no vector depends on them"
        )
    return {key: value for key, value in state.items() if key not in counters}


def _is_counter(key: str, value: Tensor) -> bool:
    """True for a count of batches, and for position ids that only count up."""
    if value.is_floating_point() or value.is_complex() or value.dtype == torch.bool:
        return False
    return key.endswith(COUNTERS[1]) or torch.equal(value.flatten(), torch.arange(value.numel(), dtype=value.dtype))


def _check_types(path: Path, types: dict[str, str]) -> None:
    if not types:
        return
    shown = ", ".join(f"{key} ({name})" for key, name in list(types.items())[:5])
    if any(name.startswith(QUANTISED) for name in types.values()):
        raise PerceptError(
            f"{path} holds quantised weights: {shown}; use the file in float32, float16 or bfloat16, since quantised "
            "weights are not read"
        )
    raise PerceptError(f"{path} holds tensors that are not weights: {shown}; remove them from the file")


def write_tensors(path: Path | str, state: State, facts: dict[str, str] | None = None) -> None:
    """Write tensors by the extension of `path`: safetensors (with `facts`) or a pickled dictionary; bit for bit.

    Raises:
        PerceptError: a different extension, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise PerceptError(f"{path} ends in {path.suffix or 'no extension'}; weight files end in {', '.join(SUFFIXES)}")
    alone = {name: _alone(tensor) for name, tensor in state.items()}
    try:
        if path.suffix == ".safetensors":
            return save_tensors(path, alone, {"format": "pt", **(facts or {})})
        with replacing(path) as temporary, temporary.open("wb") as file:
            torch.save(alone, file)
    except (PerceptError, OSError):
        raise
    except Exception as error:  # the libraries have errors of their own for a full disk
        cause = error.__context__  # torch hides the error of the system behind one of its own
        reason = cause.strerror if isinstance(cause, OSError) else str(error).splitlines()[0]
        raise PerceptError(f"{path} cannot be written ({reason}); make room, or give a different place") from None


def _alone(tensor: Tensor) -> Tensor:
    """Return a tensor that owns its memory: writers store or refuse the whole storage that a view points into."""
    tensor = tensor.detach().contiguous()
    return tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()
