"""The bytes of a file: an ordinary one, an open one, standard input (`-`), or a pipe that the shell made (`<(...)`)."""

import io
import os
import re
import stat
from contextlib import suppress
from functools import lru_cache
from inspect import signature
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from percept.core.errors import PerceptError
from percept.data.limits import MAX_BYTES

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://|(https?|ftp|file|s3|gs|hf):/|data:", re.IGNORECASE)
"""How addresses begin; with one slash too, because a `Path` keeps only one of two."""

STANDARD_INPUT = "-"


@runtime_checkable
class OpenFile(Protocol):
    """A file that is open for reading in binary mode, such as `io.BytesIO` or an upload."""

    def read(self, size: int = -1, /) -> bytes:
        """Return at most `size` bytes."""
        ...


def read_open(file: OpenFile, *, kind: str = "image", max_bytes: int = MAX_BYTES) -> bytes:
    """Read all bytes of an open file, from its beginning where it can be rewound.

    Raises:
        PerceptError: it is closed, was opened as text, is larger than `max_bytes`, or cannot be read.
    """
    name = describe_open(file)
    try:
        if hasattr(file, "seek"):
            with suppress(io.UnsupportedOperation):
                file.seek(0)  # type: ignore[attr-defined]
        data = _read(file, max_bytes + 1)
    except Exception as error:  # anything may call itself a file
        cause = getattr(error, "strerror", None) or str(error)
        raise PerceptError(f"{name} cannot be read: {cause}. Give the path or the bytes of the {kind}.") from None
    if not isinstance(data, bytes | bytearray | memoryview):
        how = "was opened as text" if isinstance(data, str) else f"gives {type(data).__name__} when it is read"
        raise PerceptError(f"{name} {how}. Open it in mode 'rb'.")
    if len(data) > max_bytes:
        raise _too_large(name, max_bytes)
    return bytes(data)


def _read(file: OpenFile, most: int) -> Any:
    """Return at most `most` bytes, or everything from what cannot be told how much to read."""
    try:
        parameters = signature(file.read).parameters
    except (TypeError, ValueError):  # written in C
        return file.read(most)
    return file.read(most) if parameters else file.read()


def describe_open(file: OpenFile) -> str:
    """Return what messages call an open file: its name, where it has one."""
    name = getattr(file, "name", None)
    return name if isinstance(name, str) and name else "the open file"


def read_bytes(path: str | os.PathLike[str], *, kind: str = "image", max_bytes: int = MAX_BYTES) -> bytes:
    """Read all bytes of a file, or of standard input (`-`) or a pipe, which may be named more than once.

    Raises:
        PerceptError: it is a url, a folder, missing, larger than `max_bytes`, or cannot be read.
    """
    size = check_file(path, kind)
    if size is not None and size > max_bytes:
        raise _too_large(path, max_bytes)
    try:
        if size is None:
            data = _piped(os.fspath(path), _status(path).st_ino)
            if len(data) > max_bytes:
                raise _too_large(path, max_bytes)
            return data
        return Path(path).read_bytes()
    except OSError as error:
        raise PerceptError(f"{path} cannot be read: {error.strerror or error}") from None


def is_pipe(path: str | os.PathLike[str]) -> bool:
    """True for standard input (`-`), and for pipes under /dev, as `<(...)` gives; they can be read only once."""
    name = os.fspath(path)
    if name != STANDARD_INPUT and not name.startswith(("/dev/", "/proc/self/fd/")):
        return False
    try:
        mode = _status(path).st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or (name == STANDARD_INPUT and stat.S_ISREG(mode))


def check_file(path: str | os.PathLike[str], kind: str = "image") -> int | None:
    """Return the size in bytes of an ordinary file; None for a pipe, whose size is not known.

    Raises:
        PerceptError: it is a url, a folder, a device, or missing; `kind` says what was expected.
    """
    if re.match(URL, os.fspath(path)):
        raise PerceptError(
            f"{os.fspath(path)[:80]} is a url, and nothing is fetched. Save the {kind} and give its path."
        )
    if is_pipe(path):
        return None
    if os.fspath(path) == STANDARD_INPUT:
        raise PerceptError(f"- means standard input, but nothing is piped into it. Pipe the {kind} in, or give a path.")
    try:
        status = os.stat(path)
    except FileNotFoundError:
        if os.path.islink(path):
            raise PerceptError(f"{path} is a link to a file that does not exist") from None
        raise PerceptError(f"there is no file {path}") from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        cause = getattr(error, "strerror", None) or str(error)
        raise PerceptError(f"{path} cannot be read: {cause}") from None
    if stat.S_ISDIR(status.st_mode):
        raise PerceptError(f"{path} is a folder, not a file. Give a file in it.")
    if not stat.S_ISREG(status.st_mode):
        raise PerceptError(f"{path} is a device, not a file. Save the {kind} and give its path.")
    return status.st_size


def peek(path: str | os.PathLike[str]) -> bytes:
    """Return some of a file's first bytes, empty if it cannot be read; a pipe is read whole and remembered."""
    try:
        if is_pipe(path):
            return read_bytes(path)[:4096]
        if not os.path.isfile(path):
            return b""
        with open(path, "rb") as file:
            return file.read(4096)
    except (OSError, ValueError):
        return b""


def _status(path: str | os.PathLike[str]) -> os.stat_result:
    return os.fstat(0) if os.fspath(path) == STANDARD_INPUT else os.stat(path)


@lru_cache(maxsize=4)
def _piped(name: str, inode: int) -> bytes:
    """Return what a pipe gives, up to MAX_BYTES and one more.

    The inode tells pipes apart that have one name, such as /dev/fd/63, at different times.
    """
    with open(0 if name == STANDARD_INPUT else name, "rb", closefd=name != STANDARD_INPUT) as file:
        return file.read(MAX_BYTES + 1)


def _too_large(path: str | os.PathLike[str], max_bytes: int) -> PerceptError:
    return PerceptError(f"{path} is larger than the {max_bytes} bytes allowed. Reduce it.")
