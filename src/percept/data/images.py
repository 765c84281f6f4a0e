"""Reading pictures: whatever a person calls an image file, upright, 8-bit and RGB; anything else refused with a plain reason."""

import io
import os
import re
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from percept.core.errors import PerceptError

ImageSource = str | os.PathLike[str] | bytes | Image.Image | np.ndarray
"""A file's path, its bytes, a Pillow picture, or a uint8 array [y, x], [y, x, 1], [y, x, 3] or [y, x, 4]."""

MAX_PIXELS = 200_000_000
"""Larger pictures are refused from their header: a small file can unpack to more memory than a machine has."""

MAX_BYTES = 2 << 30
"""Larger files are not read: no picture within MAX_PIXELS needs as much."""

ORIENTATION, SIDEWAYS = 0x0112, (5, 6, 7, 8)
"""The EXIF tag, and its values for pictures that lie on their side."""

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://|(https?|ftp|file|s3|gs|hf):/|data:", re.IGNORECASE)
"""How addresses begin; with one slash too, because a `Path` keeps only one of two."""

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "AVIF", "TIFF", "BMP", "DIB", "PPM", "QOI")
"""What is opened. Formats that start other programs or hide a second picture in the file (EPS, ICO) are left out."""


def read_image(source: ImageSource, *, max_pixels: int = MAX_PIXELS, at_least: int | None = None) -> Image.Image:
    """Read one picture as upright 8-bit RGB; of an animation the first frame, transparency over white.

    Args:
        source: path, bytes, Pillow picture or uint8 array; urls are refused.
        max_pixels: the largest width × height accepted.
        at_least: pixels the shorter side has to keep; lets large JPEG files decode at 1/2, 1/4 or 1/8 size, much faster.

    Raises:
        PerceptError: missing, empty, damaged, too large, or not a picture; the message says which.
    """
    name = _describe(source)
    with _reading(name):
        image = _open(source, name)
        _check_size(image, name, max_pixels)
        if at_least is not None and image.format == "JPEG" and image is not source:
            image.draft(None, (at_least, at_least))  # type: ignore[arg-type] - None keeps the mode
        image.load()
        return _upright_rgb(image)


def upright_size(source: ImageSource, *, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Return width and height in pixels, as `read_image` would give them, from the header alone.

    Raises:
        PerceptError: as `read_image`, except for damage behind the header.
    """
    name = _describe(source)
    with _reading(name):
        image = _open(source, name)
        _check_size(image, name, max_pixels)
        return (image.height, image.width) if _lies_on_its_side(image) else image.size


def _lies_on_its_side(image: Image.Image) -> bool:
    try:
        return image.getexif().get(ORIENTATION) in SIDEWAYS
    except Exception:  # unreadable EXIF says nothing
        return False


def _describe(source: ImageSource) -> str:
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    kinds = {bytes: "the picture given as bytes", np.ndarray: "the array"}
    return kinds.get(type(source), "the picture")


def _open(source: ImageSource, name: str) -> Image.Image:
    if isinstance(source, Image.Image):
        return source
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, bytes):
        return _from_bytes(source, name)
    if isinstance(source, str | os.PathLike):
        return _from_bytes(read_bytes(source), name)
    raise PerceptError(f"a picture is a path, bytes, a Pillow image or a uint8 array; given: {type(source).__name__}")


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Read a picture file's bytes.

    Raises:
        PerceptError: it is a url, a folder, missing, or may not be read.
    """
    if check_file(path) > MAX_BYTES:
        raise PerceptError(f"{path} is not a picture: larger than {MAX_BYTES >> 30} GiB")
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise PerceptError(f"{path} cannot be read: {error.strerror or error}") from None


def check_file(path: str | os.PathLike[str], kind: str = "picture") -> int:
    """Return the size of an ordinary file in bytes.

    Raises:
        PerceptError: it is a url, a folder, a device, or missing; `kind` says what was expected.
    """
    if re.match(URL, os.fspath(path)):
        raise PerceptError(f"{os.fspath(path)[:80]} is a url; nothing is fetched: save the {kind} and give its path")
    try:
        mode, size = (status := os.stat(path)).st_mode, status.st_size
    except FileNotFoundError:
        if os.path.islink(path):
            raise PerceptError(f"{path} is a link to a file that is not there") from None
        raise PerceptError(f"there is no file {path}") from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise PerceptError(f"{path} cannot be read: {reason}") from None
    if stat.S_ISDIR(mode):
        raise PerceptError(f"{path} is a folder, not a {kind}; give one of the files in it")
    if not stat.S_ISREG(mode):
        raise PerceptError(f"{path} is not a {kind}: a device")
    return size


def _from_bytes(data: bytes, name: str) -> Image.Image:
    if not data:
        raise PerceptError(f"{name} is empty (0 bytes)")
    try:
        return Image.open(io.BytesIO(data), formats=_formats())
    except UnidentifiedImageError:
        reason = looks_like(data) or f"its content is none of {', '.join(FORMATS)}"
        raise PerceptError(f"{name} is not a picture: {reason}") from None


def looks_like(data: bytes) -> str | None:
    """Say what the beginning of a file that is no picture looks like; None if nothing known."""
    known = {b"%PDF": "it is a PDF file", b"PK\x03\x04": "it is a zip archive", b"%!PS": "it is PostScript"}
    for start, meaning in known.items():
        if data.startswith(start):
            return meaning
    if data[4:8] == b"ftyp":
        return "it is a video or HEIF file"
    if (text := _as_text(data[:200])) is not None:
        return f"it is text ({' '.join(text.split())[:30]!r} ...)"
    return None


@lru_cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)  # a Pillow may be built without AVIF or WebP


def _as_text(data: bytes) -> str | None:
    """Return `data` as text if it plainly is: UTF-8 (the last character may be cut) without control characters."""
    text = data.decode("utf-8", errors="ignore")
    whole = len(text.encode()) >= len(data) - 3
    return text if whole and all(letter.isprintable() or letter.isspace() for letter in text) else None


def _from_array(array: np.ndarray) -> Image.Image:
    channels = array.shape[2:] or (1,)
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or channels[0] not in (1, 3, 4) or not array.size:
        raise PerceptError(
            f"an array picture is uint8 [y, x], [y, x, 1], [y, x, 3] or [y, x, 4]; given: {array.dtype} {list(array.shape)}"
        )
    return Image.fromarray(np.ascontiguousarray(array[..., 0] if channels == (1,) and array.ndim == 3 else array))


def _check_size(image: Image.Image, name: str, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise PerceptError(
            f"{name} has {width} × {height} pixels, more than the {max_pixels} allowed; "
            "reduce it; in Python, max_pixels=N of read_image allows more, if the memory is there"
        )
    if not width * height:
        raise PerceptError(f"{name} has no pixels ({width} × {height})")


def _upright_rgb(image: Image.Image) -> Image.Image:
    try:
        image = ImageOps.exif_transpose(image)
    except Exception:  # unreadable EXIF says nothing about the pixels: the picture stays as stored
        image = image.copy()
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return _eight_bit(np.asarray(image)).convert("RGB")
    if image.has_transparency_data:
        return _over_white(image.convert("RGBA"))
    return image.convert("RGB")


def _over_white(image: Image.Image) -> Image.Image:
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")


def _eight_bit(values: np.ndarray) -> Image.Image:
    """Scale grey values of more than 8 bits: by the range that is plain, else from the least to the greatest.

    Plain are 0 to 65535 for whole numbers, and 0 to 1, 255 or 65535 for others, whichever is first to hold all.
    """
    ranges = (65535,) if np.issubdtype(values.dtype, np.integer) else (1, 255, 65535)
    values = np.nan_to_num(values.astype(np.float32), posinf=0, neginf=0)
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= 65535:
        low, high = 0.0, float(next(one for one in ranges if high <= one))
    scaled = (values - low) * (255 / max(high - low, 1e-6))
    return Image.fromarray(np.rint(scaled).astype(np.uint8))


class _Relaxed:
    """Counts the readers at work, because Pillow's limit and Python's warning filters are global to the process."""

    lock = threading.Lock()
    readers = 0
    limit: int | None = None
    quiet: Any = None


@contextmanager
def _reading(name: str) -> Iterator[None]:
    """Word every decoder's error as ours, let our size check stand in for Pillow's, and keep its remarks to itself."""
    with _Relaxed.lock:
        if not _Relaxed.readers:
            _Relaxed.limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            _Relaxed.quiet = warnings.catch_warnings()
            _Relaxed.quiet.__enter__()
            warnings.filterwarnings("ignore", module=r"PIL\b")
        _Relaxed.readers += 1
    try:
        yield
    except PerceptError:
        raise
    except Exception as error:  # decoders raise anything on damaged input: OSError, SyntaxError, struct.error, ...
        raise PerceptError(f"{name} is damaged or cut short: {str(error) or type(error).__name__}") from None
    finally:
        with _Relaxed.lock:
            _Relaxed.readers -= 1
            if not _Relaxed.readers:
                Image.MAX_IMAGE_PIXELS = _Relaxed.limit
                _Relaxed.quiet.__exit__(None, None, None)
