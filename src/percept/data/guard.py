"""What surrounds every decoder: its errors become one plain sentence, and its limits and remarks stay out of the way."""

import ctypes
import logging
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

from PIL import Image

from percept.core.errors import PerceptError

CRYPTIC = ("b'", 'b"', "<", "decoder error")
"""Parts of decoders' messages that say nothing to a user."""


class Fault(Exception):
    """What is wrong with a file, as the end of a sentence that begins with its name; never leaves `reading`."""


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Turn every error of a decoder into a PerceptError that names the file.

    While at least one thread is inside, Pillow's own size limit is off (ours are checked first) and neither Pillow nor
    libtiff prints remarks; all of it is restored by the last one to leave, and in a forked child.

    Raises:
        PerceptError: whatever is raised inside, in words.
    """
    _quiet.enter()
    try:
        yield
    except PerceptError:
        raise
    except Exception as error:  # decoders raise anything on damaged input: OSError, SyntaxError, struct.error, ...
        raise PerceptError(f"{name} {reason(error)}") from None
    finally:
        _quiet.leave()


@contextmanager
def quiet() -> Iterator[None]:
    """Do around many files what `reading` does for each one, so that it is done once; errors stay what they are."""
    _quiet.enter()
    try:
        yield
    finally:
        _quiet.leave()


def reason(error: Exception) -> str:
    """Return what a decoder's error says about a file, as the end of a sentence that begins with the file's name.

    >>> reason(MemoryError())
    'needs more memory than is free. Reduce it, or read fewer files at a time.'
    >>> reason(KeyError(3))
    'is damaged or cut short: its content is not valid'
    """
    text = " ".join(str(error).split())
    if isinstance(error, Fault):
        return text
    if isinstance(error, MemoryError) or "allocate memory" in text:
        return "needs more memory than is free. Reduce it, or read fewer files at a time."
    worded = isinstance(error, OSError | SyntaxError) and text and not any(mark in text for mark in CRYPTIC)
    return f"is damaged or cut short: {text if worded else 'its content is not valid'}"


class _Quiet:
    """Counts the threads that read, because what they change is global to the process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.readers = 0
        self.restore = ExitStack()

    def enter(self) -> None:
        with self.lock:
            if not self.readers:
                self._change()
            self.readers += 1

    def leave(self) -> None:
        with self.lock:
            self.readers = max(0, self.readers - 1)  # a fork inside the block has reset it
            if not self.readers:
                self.restore.close()

    def after_fork(self) -> None:
        """Start from zero in the child, which has none of its parent's readers; the lock was taken before the fork."""
        self.restore.close()
        self.__init__()

    def _change(self) -> None:
        self.restore.callback(setattr, Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
        Image.MAX_IMAGE_PIXELS = None
        self.restore.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", module=r"PIL\b")
        log = logging.getLogger("PIL")
        self.restore.callback(log.setLevel, log.level)
        log.setLevel(logging.CRITICAL + 1)
        for set_handler in _handlers():
            self.restore.callback(set_handler, set_handler(None))


@cache
def _handlers() -> tuple[Callable[[int | None], int | None], ...]:
    """Return the functions that exchange libtiff's printers, which write to standard error; none where it is hidden."""
    places = [Path(Image.__file__).parent.parent / "pillow.libs", Path(Image.__file__).parent / ".dylibs"]
    for file in [file for place in places if place.is_dir() for file in place.glob("libtiff*")]:
        try:
            library = ctypes.CDLL(str(file))
            functions = library.TIFFSetErrorHandler, library.TIFFSetWarningHandler
        except (OSError, AttributeError):
            continue
        for function in functions:
            function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_void_p
        return functions
    return ()


_quiet = _Quiet()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lambda: _quiet.lock.acquire(),
        after_in_parent=lambda: _quiet.lock.release(),
        after_in_child=_quiet.after_fork,
    )
