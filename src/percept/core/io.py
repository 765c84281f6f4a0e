"""Files: written atomically, hashed by content; tensors as safetensors only."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from percept.core.errors import PerceptError

INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Integer types by their size in bytes."""
LARGEST_JSON = 64 << 20
"""Largest size in bytes of a json file."""


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path next to `path`; it replaces `path` only if the block succeeds."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if error.filename == str(temporary):
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def locked(path: Path | str, message: str) -> Iterator[None]:
    """Hold a lock on a file, which is made, for the block; the lock of a process that was killed is free.

    Raises:
        PerceptError: another process holds it; `message` is the text.
    """
    with Path(path).open("w") as file:
        try:
            import fcntl
        except ImportError:  # Windows
            yield
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PerceptError(message) from None
        except OSError:  # a file system without locks
            pass
        yield


def write_json(path: Path | str, data: Any) -> None:
    """Write indented json atomically."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@contextmanager
def reasons(path: Path | str) -> Iterator[None]:
    """Turn any exception of a parser, decoder or file system into a PerceptError that names the file.

    Raises:
        PerceptError: the block raised.
    """
    try:
        yield
    except PerceptError:
        raise
    except OSError as error:
        raise PerceptError(f"{path} cannot be read: {error.strerror or error}") from None
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0][:200] or type(error).__name__
        raise PerceptError(f"{path} cannot be read: {reason}; the file may be damaged") from None


def read_json(path: Path | str) -> Any:
    """Read json.

    Raises:
        PerceptError: there is no such file, it is not a regular file, it is larger than `LARGEST_JSON`, or it is not json.
    """
    if not os.path.isfile(path):
        exists = os.path.lexists(path)
        raise PerceptError(f"{path} is not a regular file" if exists else f"there is no file {path}")
    with reasons(path):
        if (size := os.path.getsize(path)) > LARGEST_JSON:
            raise PerceptError(f"{path} has {size} bytes. json files may have at most {LARGEST_JSON} bytes.")
        text = Path(path).read_bytes()
    try:
        return json.loads(text.decode("utf-8"))
    except Exception as error:  # RecursionError, and ValueError for numbers of thousands of digits, among others
        raise PerceptError(f"{path} is not a json file that can be read: {error}") from None


def read_object(path: Path | str) -> dict[str, Any]:
    """Return the json object in a file; an empty one if there is no file, or if its json is not an object.

    Raises:
        PerceptError: the file cannot be read as json.
    """
    value = read_json(path) if os.path.isfile(path) else {}
    return value if isinstance(value, dict) else {}


def append_json_line(path: Path | str, data: dict[str, Any]) -> None:
    """Append one json object as a line, e.g. the metrics of a training step."""
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(json.dumps(data) + "\n")


def content_hash(data: bytes) -> str:
    """Return the 128-bit BLAKE2b hash of `data` in hexadecimal; it identifies a file independent of its name.

    >>> content_hash(b"")[:8]
    'cae66941'
    """
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def file_hash(path: Path | str) -> str:
    """Return the `content_hash` of a file without reading it into memory at once.

    Raises:
        PerceptError: there is no such file.
    """
    running = hashlib.blake2b(digest_size=16)
    try:
        with Path(path).open("rb") as file:
            while part := file.read(1 << 20):
                running.update(part)
    except FileNotFoundError:
        raise PerceptError(f"there is no file {path}") from None
    return running.hexdigest()


def save_tensors(path: Path | str, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write tensors as safetensors, atomically.

    Raises:
        PerceptError: the file cannot be written, for example because the disk is full.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    path = Path(path)
    try:
        with replacing(path) as temporary, _workplace(path) as folder:
            file = folder / "tensors"
            save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, file, metadata)
            file.chmod(0o644)  # safetensors writes files that only their owner can read
            os.replace(file, temporary)
    except OSError as error:
        raise PerceptError(f"{path} cannot be written: {(error.strerror or str(error)).lower()}") from None
    except SafetensorError as error:
        raise PerceptError(f"{path} cannot be written: {_reason(str(error))}") from None


@contextmanager
def _workplace(path: Path) -> Iterator[Path]:
    """Yield a folder next to `path` for the temporary file of safetensors, whose name does not say which process left it."""
    folder = path.with_name(f".{path.name}-new.{os.getpid()}.part")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _reason(message: str) -> str:
    """Return what the system reported inside a message of safetensors.

    >>> _reason("Error while serializing: I/O error: No space left on device (os error 28)")
    'no space left on device'
    """
    return message.split("I/O error: ")[-1].split(" (os error")[0].lower()


def tensors_hash(tensors: dict[str, Tensor], texts: dict[str, str]) -> str:
    """Return a hash of names, types, shapes and every bit of tensors on the CPU, and of texts stored with them."""
    running = hashlib.blake2b(digest_size=16)
    running.update(json.dumps(texts, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        running.update(f"{name} {tensor.dtype} {list(tensor.shape)} ".encode())
        data: Any = bits(tensor).contiguous().reshape(-1).view(torch.uint8).numpy()
        running.update(data)
    return running.hexdigest()


def load_tensors(path: Path | str) -> dict[str, Tensor]:
    """Read a safetensors file onto the CPU.

    Raises:
        PerceptError: missing, truncated or not safetensors.
    """
    from safetensors.torch import load_file

    with _reading_safetensors(path):
        return load_file(path)


def load_metadata(path: Path | str) -> dict[str, str]:
    """Read the metadata that `save_tensors` stored with the tensors.

    Raises:
        PerceptError: missing, truncated or not safetensors.
    """
    from safetensors import safe_open

    with _reading_safetensors(path), safe_open(path, framework="pt") as file:
        return dict(file.metadata() or {})


@contextmanager
def _reading_safetensors(path: Path | str) -> Iterator[None]:
    from safetensors import SafetensorError

    if not os.path.isfile(path):
        raise PerceptError(f"there is no file {path}")
    with reasons(path):
        try:
            yield
        except SafetensorError as error:
            raise PerceptError(
                f"{path} is not a complete safetensors file ({error}); fetch or write it again"
            ) from None


def same_tensors(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    """True if two sets of tensors have the same names, types and bits; bits are compared, so NaN equals NaN."""
    return left.keys() == right.keys() and all(
        left[name].dtype == right[name].dtype and torch.equal(bits(left[name]), bits(right[name])) for name in left
    )


def bits(tensor: Tensor) -> Tensor:
    """Return the bits of a tensor as integers of the same shape, without a copy; -0.0 differs from 0.0.

    >>> bits(torch.tensor([0.0, -0.0, 1.0])).tolist()
    [0, -2147483648, 1065353216]
    """
    return tensor.detach().view(INTEGERS[tensor.element_size()])
