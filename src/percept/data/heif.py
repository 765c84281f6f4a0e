"""HEIF and HEIC, the images of phones, through pi-heif or pillow-heif (libheif)."""

import io
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from PIL import Image

from percept.data.guard import Fault

PACKAGES = ("pi_heif", "pillow_heif")


@cache
def is_installed() -> bool:
    """True if HEIF files can be read here."""
    return any(find_spec(package) is not None for package in PACKAGES)


def open_heif(data: bytes) -> tuple[tuple[int, int], Any]:
    """Return width and height, and what `decode` takes; only the header is read. Rotations of the file are applied already.

    Raises:
        Fault: no library for it is installed.
    """
    package = next((package for package in PACKAGES if find_spec(package) is not None), None)
    if package is None:
        raise Fault("is a HEIC or HEIF image; to read it: pip install 'percept-models[heif]'")
    file = import_module(package).open_heif(io.BytesIO(data))
    return file.size, file


def decode(file: Any) -> Image.Image:
    """Return the main image as 8-bit RGB, RGBA or grey, upright."""
    image = file.to_pillow()
    image.info.clear()  # an orientation in it is applied already
    return image
