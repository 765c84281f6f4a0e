"""Reading images: any common image file as upright 8-bit RGB; anything else is refused with a plain reason.

What one file may cost is stated in `percept.data.limits`.
"""

import io
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from percept.core.errors import PerceptError
from percept.data import gif, heif, jpeg, png, tiff
from percept.data.guard import Fault, reading
from percept.data.inputs import OpenFile, describe_open, read_bytes, read_open
from percept.data.limits import LOOK, check_pixels, in_flight
from percept.data.magic import image_format, looks_like
from percept.data.tones import eight_bit, over_white

ImageSource = str | os.PathLike[str] | bytes | OpenFile | Image.Image | np.ndarray
"""A file's path (`-` for standard input), its bytes, an open file, a Pillow image, or a uint8 array [y, x], [y, x, 1], [y, x, 3] or [y, x, 4]."""

ORIENTATION = 0x0112
"""The EXIF tag."""
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes an image upright, by its orientation."""
SIDEWAYS = (5, 6, 7, 8)
"""Orientations of images that lie on their side."""

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "AVIF", "TIFF", "BMP", "DIB", "PPM", "QOI")
"""Pillow's decoders that are used. Formats that start other programs or hide a second image in the file (EPS, ICO) are left out."""

READABLE = "JPEG, PNG, GIF, WebP, AVIF, HEIF, TIFF, BMP, PPM, QOI"


class Opened(NamedTuple):
    """An image whose header was read."""

    size: tuple[int, int]
    """Width and height in pixels, as stored."""
    kind: str | None
    """Its format; None for pixels."""
    decode: Callable[[int | None], Image.Image]
    """Returns the pixels as stored; a JPEG file's shorter side may shrink to the number given."""
    orientation: Callable[[], int] = lambda: 1
    """As in EXIF; called when the size was checked, since the library may decode the pixels to find it."""


def read_image(source: ImageSource, *, max_pixels: int | None = None, at_least: int | None = None) -> Image.Image:
    """Read one image as upright 8-bit RGB; of an animation the first frame, transparency over white.

    Values of 16 bits are divided by 257 and floats scaled, see `percept.data.tones.eight_bit`. Colour profiles are ignored.
    Images that are read at the same time have at most PIXELS_IN_FLIGHT pixels together; others wait.

    Args:
        source: path, bytes, open file, Pillow image or uint8 array; urls are refused.
        max_pixels: the largest width × height accepted, instead of the format's budget in `percept.data.limits`.
        at_least: pixels the shorter side has to keep; lets large JPEG files decode at 1/2, 1/4 or 1/8 size, much faster.

    Raises:
        PerceptError: missing, empty, damaged, too large, or not an image; the message says which.
    """
    with decoded(source, max_pixels=max_pixels, at_least=at_least) as image:
        return image


@contextmanager
def decoded(
    source: ImageSource,
    *,
    max_pixels: int | None = None,
    at_least: int | Callable[[tuple[int, int]], int | None] | None = None,
) -> Iterator[Image.Image]:
    """Read an image as `read_image` does, and count its pixels as in flight until the block ends.

    Whatever is raised in the block becomes the file's reason, as if it had been raised by the decoder. `at_least` may be a function
    of the upright width and height in pixels.

    Raises:
        PerceptError: as `read_image`.
    """
    name = _describe(source)
    with reading(name):
        opened = _open(source)
        check_pixels(name, *opened.size, opened.kind, max_pixels)
        least = at_least(_upright_size(opened)) if callable(at_least) else at_least
        with in_flight.share(_cost(opened, least)):
            yield _upright_rgb(opened, least, source)


def upright_size(source: ImageSource, *, max_pixels: int | None = None) -> tuple[int, int]:
    """Return width and height in pixels, as `read_image` would give them, from the header alone.

    Raises:
        PerceptError: as `read_image`, except for damage behind the header.
    """
    name = _describe(source)
    with reading(name):
        opened = _open(source)
        check_pixels(name, *opened.size, opened.kind, max_pixels)
        return _upright_size(opened)


def _upright_size(opened: Opened) -> tuple[int, int]:
    width, height = opened.size
    return (height, width) if opened.orientation() in SIDEWAYS else (width, height)


def _describe(source: ImageSource) -> str:
    if isinstance(source, str | os.PathLike):
        return "standard input" if os.fspath(source) == "-" else os.fspath(source)
    if not isinstance(source, bytes) and isinstance(source, OpenFile):  # a check of a protocol is slow
        return describe_open(source)
    kinds = {bytes: "the image given as bytes", np.ndarray: "the array"}
    return kinds.get(type(source), "the image")


def _cost(opened: Opened, at_least: int | None) -> int:
    """Return the pixels that decoding holds in memory; a quarter of a JPEG's even where it is reduced."""
    pixels = opened.size[0] * opened.size[1]
    if at_least is None or opened.kind not in ("JPEG", "MPO"):
        return pixels
    return max(pixels // 4, min(pixels, pixels * (2 * at_least) ** 2 // min(opened.size) ** 2))


def _open(source: ImageSource) -> Opened:
    if isinstance(source, Image.Image):
        return Opened(
            size=source.size,
            kind=source.format,
            orientation=lambda: _orientation(source.getexif),
            decode=lambda _: source,
        )
    if isinstance(source, np.ndarray):
        image = _from_array(source)
        return Opened(size=image.size, kind=None, decode=lambda _: image)
    if isinstance(source, str | os.PathLike):
        source = read_bytes(source)
    if not isinstance(source, bytes) and isinstance(source, OpenFile):
        source = read_open(source)
    if not isinstance(source, bytes):
        raise PerceptError(
            f"an image is a path, bytes, an open file, a Pillow image or a uint8 array; a {type(source).__name__} was given"
        )
    return _open_bytes(source)


def _open_bytes(data: bytes) -> Opened:
    if not data:
        raise Fault("is empty (0 bytes)")
    kind = image_format(data)
    if kind == "HEIF":
        size, file = heif.open_heif(data)
        return Opened(size=size, kind=kind, decode=lambda _: heif.decode(file))
    layout = tiff.read_layout(data) if kind == "TIFF" else None
    if layout is not None and tiff.is_own(layout):
        return Opened(
            size=(layout.width, layout.height),
            kind=kind,
            orientation=lambda: layout.orientation,
            decode=lambda _: tiff.decode(data, layout),
        )
    if kind == "PNG":
        data = png.pixel_chunks(data)
    if kind == "GIF" and not gif.has_image(data):
        raise Fault(f"is damaged or cut short: it begins like a GIF, but no image follows within {LOOK >> 10} kB")
    if kind == "PNM" and not _has_pnm_size(data):
        raise Fault(f"is damaged or cut short: it begins like a PNM, but no size follows within {LOOK >> 10} kB")
    whole = kind != "JPEG" or jpeg.has_end(data)
    image = _identified(data, kind, layout)
    decode = partial(_load, image) if whole else lambda least: jpeg.without_end(data, partial(_reopened, least))
    kind = "TEXT PNM" if kind == "PNM" and data[1] in b"123" else image.format
    return Opened(
        size=image.size, kind=kind, orientation=lambda: _orientation(partial(Image.Image.getexif, image)), decode=decode
    )


def _has_pnm_size(data: bytes) -> bool:
    """True if width and height follow within LOOK bytes, comments included."""
    words = re.sub(rb"#[^\r\n]*", b"", data[:LOOK]).split(maxsplit=3)
    return len(words) > 2 and all(word.isdigit() for word in words[1:3])


def _identified(data: bytes, kind: str | None, layout: tiff.Layout | None) -> Image.Image:
    """Let Pillow read the header."""
    try:
        # Pillow would look for the numbers of a PPM in all of a file.
        return Image.open(io.BytesIO(data), formats=[name for name in _formats() if kind == "PNM" or name != "PPM"])
    except UnidentifiedImageError:
        if layout is not None:
            raise tiff.not_read(layout) from None
        if kind is not None:
            raise Fault(f"is damaged or cut short: it begins like a {kind} file, but its header is not valid") from None
        raise Fault(f"is not an image: {looks_like(data) or f'its content is none of {READABLE}'}") from None


def _load(image: Image.Image, at_least: int | None) -> Image.Image:
    if at_least is not None and image.format in ("JPEG", "MPO"):
        image.draft(None, (at_least, at_least))  # type: ignore[arg-type] - None keeps the mode
    image.load()
    return image


def _reopened(at_least: int | None, data: bytes) -> Image.Image:
    return _load(Image.open(io.BytesIO(data), formats=_formats()), at_least)


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)  # a Pillow may be built without AVIF or WebP


def _orientation(read: Callable[[], Image.Exif]) -> int:
    try:
        value: Any = read().get(ORIENTATION, 1)
    except Exception:  # unreadable EXIF says nothing about the pixels
        return 1
    return value if isinstance(value, int) else 1


def _from_array(array: np.ndarray) -> Image.Image:
    channels = array.shape[2:] or (1,)
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or channels[0] not in (1, 3, 4) or not array.size:
        raise PerceptError(
            f"an array image is uint8 [y, x], [y, x, 1], [y, x, 3] or [y, x, 4], not {array.dtype} {list(array.shape)}"
        )
    return Image.fromarray(np.ascontiguousarray(array[..., 0] if channels == (1,) and array.ndim == 3 else array))


def _upright_rgb(opened: Opened, at_least: int | None, source: ImageSource) -> Image.Image:
    """Decode, and drop each form of the pixels when the next one is made."""
    image = opened.decode(at_least)
    orientation = opened.orientation()
    image = _rgb(image)
    if orientation in UPRIGHT:
        image = image.transpose(UPRIGHT[orientation])
    if image is source or opened.kind not in ("JPEG", "PNG", "BMP", "QOI"):
        image = image.copy()  # the caller's own, or one that keeps its file open
    image.info.clear()  # an orientation in it is applied already
    return image


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(eight_bit(np.asarray(image))).convert("RGB")
    if image.format in ("BMP", "DIB") and image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0):
        return image.convert("RGB")  # the alpha byte was never filled in
    return over_white(image) if image.has_transparency_data else image.convert("RGB")
