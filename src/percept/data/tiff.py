"""TIFF: which kinds are read, by which decoder, and our own decoder for deep values.

TIFF revision 6.0, sections 2 to 8, 14 and 15; Adobe Photoshop TIFF technical notes (predictor 3); BigTIFF (magic 43).
Pillow reads images of 8 bits and fewer, but misreads some deeper ones and some separate planes (0 for white, unsigned 32
bits, planes of 16 bits). Such files are decoded here if they are uncompressed or Deflate; others are passed on only where
Pillow is right.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image

from percept.data.guard import Fault
from percept.data.limits import MAX_BYTES
from percept.data.tones import eight_bit

NUMBERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
"""Field types that hold whole numbers, as `struct` names them."""
FORMATS = {1: "u", 2: "i", 3: "f"}
FORMAT_NAMES = {1: "unsigned", 2: "signed", 3: "float", 4: "undefined", 5: "complex integer", 6: "complex float"}
PHOTOMETRIC = {
    0: "grey (0 is white)", 1: "grey", 2: "RGB", 3: "palette", 4: "mask", 5: "CMYK", 6: "YCbCr", 8: "LAB", 9: "ICC LAB", 10: "ITU LAB",
    32803: "camera raw (CFA)", 32844: "LogL", 32845: "LogLuv", 34892: "linear raw",
}  # fmt: skip
COMPRESSION = {
    1: "no", 2: "CCITT", 3: "fax 3", 4: "fax 4", 5: "LZW", 6: "old JPEG", 7: "JPEG", 8: "Deflate", 32773: "PackBits", 32946: "Deflate",
    34712: "JPEG 2000", 34925: "LZMA", 50000: "Zstandard", 50001: "WebP",
}  # fmt: skip
DEFLATE, PACKBITS = (8, 32946), 32773
BY_LIBTIFF = (2, 3, 4, 5, 6, 7, 8, 32946, 34925, 50000, 50001)
"""Compressions whose values Pillow gets from libtiff in the byte order of this machine."""
ENTRIES = 4096
"""Most fields of a directory that are looked at."""


class Layout(NamedTuple):
    """What the first directory of a file says about its pixels."""

    order: str
    """Byte order, as `struct` and NumPy write it: < or >."""
    width: int
    height: int
    bits: tuple[int, ...]
    """Of each sample."""
    sample_format: int
    """A key of FORMAT_NAMES."""
    photometric: int
    samples: int
    """Values per pixel."""
    extra: tuple[int, ...]
    """Meaning of samples behind the colours: 0 unknown, 1 premultiplied alpha, 2 alpha."""
    planar: bool
    """Each sample has a plane of its own."""
    compression: int
    predictor: int
    fill_order: int
    orientation: int
    tile: tuple[int, int]
    """Rows and columns of a tile; of a strip where the file has strips."""
    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    """Where tiles or strips begin, and how many bytes each has."""

    def __str__(self) -> str:
        bits = "/".join(map(str, self.bits)) if len(set(self.bits)) > 1 else self.bits[0]
        what = f"{bits}-bit {FORMAT_NAMES.get(self.sample_format, 'unknown')} samples"
        colours = PHOTOMETRIC.get(self.photometric, f"photometric {self.photometric}")
        planes = ", separate planes" if self.planar and self.samples > 1 else ""
        order = ", reversed bit order" if self.fill_order == 2 else ""
        packing = COMPRESSION.get(self.compression, f"compression {self.compression}")
        return f"{what}, {self.samples} per pixel, {colours}{planes}{order}, {packing} compression"

    @property
    def colours(self) -> int:
        """Samples that are colours and not alpha."""
        return 3 if self.photometric == 2 else 1

    @property
    def deep(self) -> bool:
        """True if values are not plain unsigned ones of at most 8 bits."""
        return max(self.bits) > 8 or self.sample_format not in (1, 4)


def read_layout(data: bytes) -> Layout | None:
    """Return the layout in the first directory; None if the directory is incomplete (Pillow then reports the problem)."""
    try:
        tags, order = _directory(data)
        width, height = tags[256][0], tags[257][0]
        samples = tags.get(277, (1,))[0]
        bits = tags.get(258, (1,))
        tiled = 322 in tags
        tile = (tags[323][0], tags[322][0]) if tiled else (min(height, tags.get(278, (height,))[0]), width)
        return Layout(
            order=order,
            width=width,
            height=height,
            bits=bits[:samples] if len(bits) > 1 else bits * min(samples, 64),
            sample_format=max(tags.get(339, (1,))),
            photometric=tags[262][0],
            samples=samples,
            extra=tags.get(338, ()),
            planar=tags.get(284, (1,))[0] == 2,
            compression=tags.get(259, (1,))[0],
            predictor=tags.get(317, (1,))[0],
            fill_order=tags.get(266, (1,))[0],
            orientation=tags.get(274, (1,))[0],
            tile=tile,
            offsets=tags[324 if tiled else 273],
            sizes=tags[325 if tiled else 279],
        )
    except (KeyError, IndexError, struct.error):
        return None


def _directory(data: bytes) -> tuple[dict[int, tuple[int, ...]], str]:
    """Return the fields of the first directory that hold whole numbers, and the byte order."""
    order = "<" if data[:2] == b"II" else ">"
    big = struct.unpack_from(order + "H", data, 2)[0] == 43
    at = struct.unpack_from(order + ("8xQ" if big else "4xI"), data)[0]
    count = struct.unpack_from(order + ("Q" if big else "H"), data, at)[0]
    at, length, room = (at + 8, 20, 8) if big else (at + 2, 12, 4)
    tags: dict[int, tuple[int, ...]] = {}
    for place in range(at, at + min(count, ENTRIES) * length, length):
        tag, kind, number = struct.unpack_from(order + ("HHQ" if big else "HHI"), data, place)
        if kind in NUMBERS:
            size = struct.calcsize("<" + NUMBERS[kind]) * number
            start = place + length - room
            if size > room:
                start = struct.unpack_from(order + ("Q" if big else "I"), data, start)[0]
            if start + size <= len(data):
                tags[tag] = struct.unpack_from(f"{order}{number}{NUMBERS[kind]}", data, start)
    return tags, order


def is_own(layout: Layout) -> bool:
    """Return whether the file is decoded here.

    Raises:
        Fault: nothing reads it right.
    """
    unusual = max(layout.bits) == 8 and (layout.planar or (layout.photometric < 2 and layout.samples > 1))
    if layout.fill_order == 1 and (layout.deep or unusual) and _has_own_shape(layout) and _has_own_packing(layout):
        return True
    if not (_pillow_reads_deep(layout) if layout.deep else _pillow_reads_plain(layout)):
        raise not_read(layout)
    return False


def not_read(layout: Layout) -> Fault:
    """Build the error for a kind of TIFF that no decoder here reads right."""
    return Fault(
        f"is a TIFF of a kind that is not read here ({layout}). Save it with 8 or 16 bits, interleaved, or as PNG."
    )


def _has_own_shape(layout: Layout) -> bool:
    same = len(layout.bits) == layout.samples and len(set(layout.bits)) == 1
    depths = {1: (8, 16, 32, 64), 2: (16, 32, 64), 3: (16, 32, 64)}.get(layout.sample_format, ())
    return same and layout.bits[0] in depths and layout.photometric in (0, 1, 2) and layout.samples >= layout.colours


def _has_own_packing(layout: Layout) -> bool:
    """True for no compression, and for Deflate with a predictor that goes with the values."""
    predictors = (1, 2, 3) if layout.sample_format == 3 else (1, 2)
    return layout.compression == 1 or (layout.compression in DEFLATE and layout.predictor in predictors)


def _pillow_reads_deep(layout: Layout) -> bool:
    kind = layout.photometric, layout.sample_format, layout.bits
    if layout.fill_order != 1 or layout.compression not in (1, PACKBITS, *BY_LIBTIFF):
        return False
    if kind == (1, 1, (12,)):
        return layout.predictor == 1 and layout.compression != PACKBITS
    kinds = [(1, 1, (16,)), (2, 1, (16,) * 3), (2, 1, (16,) * 4)]
    if layout.order == "<":
        kinds += [(1, 2, (16,)), (1, 2, (32,)), (1, 3, (32,))]
    predictors = (1, 3) if layout.sample_format == 3 else (1, 2)
    split = layout.planar and layout.compression == PACKBITS
    return kind in kinds and layout.compression != 1 and layout.predictor in predictors and not split


def _pillow_reads_plain(layout: Layout) -> bool:
    """True unless the planes are of a kind that Pillow mixes up; of other kinds it says itself that it cannot read them."""
    if not layout.planar or (
        layout.compression in BY_LIBTIFF and (layout.samples == 1 or layout.photometric in (2, 5))
    ):
        return layout.photometric != 5 or max(layout.bits) == 8
    return (layout.photometric, layout.samples) in ((1, 1), (2, 3), (3, 1), (5, 4)) and max(layout.bits) == 8


def decode(data: bytes, layout: Layout, max_bytes: int = MAX_BYTES) -> Image.Image:
    """Decode deep values to 8 bits per channel, as stored (not upright).

    Raises:
        Fault: strips are missing or damaged, or the values need more than `max_bytes`.
    """
    values = _values(data, layout, max_bytes)
    colours = values[..., : layout.colours]
    if values.itemsize == 1:
        pixels = colours
    elif layout.photometric == 2 and values.dtype == np.uint16:
        pixels = (colours >> 8).astype(np.uint8)  # as other readers of 16-bit colours do
    else:
        pixels = eight_bit(colours)
    if layout.photometric == 0:
        pixels = 255 - pixels
    alpha = _alpha(values, layout)
    mode = ("L" if layout.colours == 1 else "RGB") + ("" if alpha is None else "a" if 1 in layout.extra[:1] else "A")
    pixels = pixels if alpha is None else np.concatenate([pixels, alpha], axis=-1)
    image = Image.frombytes(mode, (layout.width, layout.height), pixels.tobytes())
    return image.convert(mode.upper()) if mode.endswith("a") else image


def _alpha(values: np.ndarray, layout: Layout) -> np.ndarray | None:
    spare = layout.samples - layout.colours
    if not spare or (layout.extra[:1] or (2,))[0] not in (1, 2, 999):
        return None
    alpha = values[..., layout.colours : layout.colours + 1]
    if alpha.dtype.kind == "f":
        return np.rint(np.clip(np.nan_to_num(alpha.astype(np.float64)), 0, 1) * 255).astype(np.uint8)
    bits = 8 * alpha.itemsize - (alpha.dtype.kind == "i")
    return (np.maximum(alpha, 0) >> bits - 8).astype(np.uint8)


def _values(data: bytes, layout: Layout, max_bytes: int) -> np.ndarray:
    """Return all values [y, x, samples]."""
    kind = np.dtype(f"{FORMATS[layout.sample_format]}{layout.bits[0] // 8}")
    if layout.width * layout.height * layout.samples * kind.itemsize > max_bytes:
        raise Fault(f"needs more than the {max_bytes} bytes allowed for its values. Reduce it.")
    values = np.zeros((layout.height, layout.width, layout.samples), kind)
    for number, (top, left, samples) in enumerate(_places(layout)):
        if number >= min(len(layout.offsets), len(layout.sizes)):
            raise Fault("is damaged or cut short: parts of the TIFF are missing")
        start, size = layout.offsets[number], layout.sizes[number]
        area = values[top : top + layout.tile[0], left : left + layout.tile[1], samples]
        rows = layout.tile[0] if layout.tile[1] != layout.width else len(area)
        area[...] = _part(data[start : start + size], layout, kind, (rows, layout.tile[1], area.shape[-1]))[
            : area.shape[0], : area.shape[1]
        ]
    return values


def _places(layout: Layout) -> Iterator[tuple[int, int, slice]]:
    """Yield top, left and samples of every strip or tile, in the order of the file."""
    if min(layout.tile) < 1:
        raise Fault("is damaged or cut short: the strips of the TIFF have no size")
    planes = [slice(one, one + 1) for one in range(layout.samples)] if layout.planar else [slice(0, layout.samples)]
    for samples in planes:
        for top in range(0, layout.height, layout.tile[0]):
            for left in range(0, layout.width, layout.tile[1]):
                yield top, left, samples


def _part(raw: bytes, layout: Layout, kind: np.dtype, shape: tuple[int, int, int]) -> np.ndarray:
    """Return the values of one strip or tile."""
    size = shape[0] * shape[1] * shape[2] * kind.itemsize
    if layout.compression in DEFLATE:
        raw = zlib.decompressobj().decompress(raw, size)
    if len(raw) < size:
        raise Fault("is damaged or cut short: a strip of the TIFF ends too early")
    if layout.compression in DEFLATE and layout.predictor == 3:
        rows = np.frombuffer(raw, np.uint8, size).reshape(shape[0], -1, shape[2])
        planes = np.cumsum(rows, axis=1, dtype=np.uint8).reshape(shape[0], kind.itemsize, -1)
        return np.ascontiguousarray(planes.swapaxes(1, 2)).view(kind.newbyteorder(">")).reshape(shape)
    values = np.frombuffer(raw, np.dtype(f"{layout.order}{kind.str[1:]}"), shape[0] * shape[1] * shape[2]).reshape(
        shape
    )
    if layout.compression in DEFLATE and layout.predictor == 2:
        whole = np.dtype(f"u{kind.itemsize}")  # differences wrap around, of floats too
        return np.cumsum(values.astype(kind).view(whole), axis=1, dtype=whole).view(kind)
    return values
