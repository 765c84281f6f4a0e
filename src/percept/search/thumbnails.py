"""Thumbnails for pages and sheets."""

import base64
import io
from pathlib import Path

from PIL import Image

from percept.core.errors import PerceptError
from percept.data.images import read_image


def thumbnail(path: Path, size: int) -> Image.Image | None:
    """Return an image reduced to a longer side of at most `size` pixels; None if it cannot be read."""
    try:
        image = read_image(path, at_least=size)
    except PerceptError:
        return None
    image.thumbnail((size, size), Image.Resampling.LANCZOS)
    return image


def data_uri(image: Image.Image) -> str:
    """Return the image as a data URI with a JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=84, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
