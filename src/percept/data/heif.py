"""HEIF and HEIC, the images of phones, through pi-heif or pillow-heif (libheif)."""

import io
from functools import cache
from importlib.util import find_spec
from typing import Any

from PIL import Image

from percept.core.errors import missing_extra

PACKAGES = ("pi_heif", "pillow_heif")


@cache
def is_installed() -> bool:
    """True if HEIF files can be read here."""
    return any(find_spec(package) is not None for package in PACKAGES)


def open_heif(data: bytes) -> tuple[tuple[int, int], Any]:
    """Return width and height, and what `decode` takes; only the header is read. Rotations of the file are applied already.

    Raises:
        PerceptError: neither library is installed.
    """
    try:
        from pi_heif import open_heif as open_file
    except ImportError:
        try:
            from pillow_heif import open_heif as open_file
        except ImportError:
            raise missing_extra("pi-heif", "heif", "reading HEIC and HEIF images") from None
    file: Any = open_file(io.BytesIO(data))
    return file.size, file


def decode(file: Any) -> Image.Image:
    """Return the main image as 8-bit RGB, RGBA or grey, upright."""
    image = file.to_pillow()
    image.info.clear()  # an orientation in it is applied already
    return image
