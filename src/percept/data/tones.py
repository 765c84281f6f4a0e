"""Values of more than 8 bits as 8-bit ones, and transparency over white, both in bands of rows that need little memory."""

from functools import cache

import numpy as np
from jaxtyping import Num, UInt8
from PIL import Image

from percept.core.report import notice

BAND = 2_000_000
"""Values that are computed at once."""


def eight_bit(values: Num[np.ndarray, "y x *k"]) -> UInt8[np.ndarray, "y x *k"]:
    """Scale values to 0..255: by the range that their kind suggests, else from the least to the greatest.

    The range is 0 to 65535 for integers, and 0 to 1, 255 or 65535 for floats, whichever is the first to contain all values.
    Not a number and infinity count as 0. Integers of which no more than 12 of 16 bits are used come out dark, as stored, and
    a notice says so.
    """
    low, high = _extremes(values)
    if low >= 0 and high <= 65535:
        whole = np.issubdtype(values.dtype, np.integer)
        if whole and 255 < high < 4096:
            _dark_notice()
        low, high = 0.0, float(next(top for top in ((65535,) if whole else (1, 255, 65535)) if high <= top))
    factor = 255 / max(high - low, 1e-6)
    scaled = np.empty(values.shape, np.uint8)
    for rows in _bands(values):
        scaled[rows] = np.rint((_finite(values[rows]) - low) * factor)
    return scaled


def _extremes(values: np.ndarray) -> tuple[float, float]:
    ends = [(float(band.min()), float(band.max())) for band in (_finite(values[rows]) for rows in _bands(values))]
    return min(low for low, _ in ends), max(high for _, high in ends)


def _finite(values: np.ndarray) -> np.ndarray:
    return np.nan_to_num(values.astype(np.float64), posinf=0, neginf=0)


def _bands(values: np.ndarray) -> list[slice]:
    rows = max(1, BAND // max(1, values[0].size))
    return [slice(top, top + rows) for top in range(0, len(values), rows)]


@cache
def _dark_notice() -> None:
    """Say it once in a process: a folder may hold thousands of such images."""
    notice(
        "some images use at most 12 of their 16 bits (values up to 4095); they are read on the scale of 16 bits, so they are "
        "dark. Scale them to 0..65535 if that is not wanted."
    )


def over_white(image: Image.Image) -> Image.Image:
    """Return an image with transparency as RGB over white."""
    white = Image.new("RGB", image.size, "white")
    rows = max(1, BAND // image.width)
    for top in range(0, image.height, rows):
        band = image.crop((0, top, image.width, min(image.height, top + rows))).convert("RGBA")
        white.paste(Image.alpha_composite(Image.new("RGBA", band.size, "white"), band).convert("RGB"), (0, top))
    return white
