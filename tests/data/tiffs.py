"""TIFF files of any kind, written byte by byte, so that no reader has to agree with its own writer."""

import struct
import zlib
from collections.abc import Iterator

import numpy as np

NONE, LZW, DEFLATE, PACKBITS = 1, 5, 8, 32773


def tiff(
    values: np.ndarray,
    *,
    photometric: int,
    sample_format: int = 1,
    order: str = "<",
    compression: int = NONE,
    predictor: int = 1,
    planar: bool = False,
    rows: int | None = None,
    tile: int | None = None,
    extra: int | None = None,
    orientation: int = 1,
) -> bytes:
    """Write values [y, x, samples] in strips of `rows`, or in square tiles."""
    height, width, samples = values.shape
    step = (tile, tile) if tile else (rows or height, width)
    planes = [values[..., one : one + 1] for one in range(samples)] if planar else [values]
    parts = [
        packed(part, order, compression, predictor) for plane in planes for part in parts_of(plane, step, bool(tile))
    ]
    offsets = np.cumsum([8, *(len(part) for part in parts)]).tolist()
    tags = [
        (256, 3, [width]), (257, 3, [height]), (258, 3, [8 * values.itemsize] * samples), (259, 3, [compression]),
        (262, 3, [photometric]), (274, 3, [orientation]), (277, 3, [samples]), (284, 3, [2 if planar else 1]),
        (317, 3, [predictor]), (339, 3, [sample_format] * samples),
    ]  # fmt: skip
    sizes = [len(part) for part in parts]
    if tile:
        tags += [(322, 3, [tile]), (323, 3, [tile]), (324, 4, offsets[:-1]), (325, 4, sizes)]
    else:
        tags += [(273, 4, offsets[:-1]), (278, 3, [step[0]]), (279, 4, sizes)]
    if extra is not None:
        tags.append((338, 3, [extra]))
    start = b"II*\0" if order == "<" else b"MM\0*"
    return start + struct.pack(order + "I", offsets[-1]) + b"".join(parts) + directory(sorted(tags), order, offsets[-1])


def directory(tags: list[tuple[int, int, list[int]]], order: str, at: int) -> bytes:
    at += 2 + 12 * len(tags) + 4
    fields, more = struct.pack(order + "H", len(tags)), b""
    for tag, kind, numbers in tags:
        body = struct.pack(f"{order}{len(numbers)}{'H' if kind == 3 else 'I'}", *numbers)
        place = body.ljust(4, b"\0") if len(body) <= 4 else struct.pack(order + "I", at + len(more))
        fields += struct.pack(order + "HHI", tag, kind, len(numbers)) + place
        more += body if len(body) > 4 else b""
    return fields + bytes(4) + more


def parts_of(plane: np.ndarray, step: tuple[int, int], full: bool) -> Iterator[np.ndarray]:
    for top in range(0, plane.shape[0], step[0]):
        for left in range(0, plane.shape[1], step[1]):
            part = plane[top : top + step[0], left : left + step[1]]
            if full:
                part = np.pad(part, [(0, step[0] - part.shape[0]), (0, step[1] - part.shape[1]), (0, 0)])
            yield part


def packed(part: np.ndarray, order: str, compression: int, predictor: int) -> bytes:
    if predictor == 2:
        whole = part.view(f"u{part.itemsize}")
        part = np.concatenate([whole[:, :1], whole[:, 1:] - whole[:, :-1]], axis=1)
    if predictor == 3:
        split = part.astype(f">f{part.itemsize}").reshape(part.shape[0], -1).view(np.uint8)
        split = split.reshape(part.shape[0], -1, part.itemsize).swapaxes(1, 2).reshape(part.shape[0], -1, part.shape[2])
        raw = np.concatenate([split[:, :1], split[:, 1:] - split[:, :-1]], axis=1).tobytes()
    else:
        raw = part.astype(part.dtype.newbyteorder("<" if order == "<" else ">")).tobytes()
    return {NONE: bytes, LZW: lzw, DEFLATE: zlib.compress, PACKBITS: packbits}[compression](raw)


def lzw(raw: bytes) -> bytes:
    """Compress nothing: literals of 9 bits, and a clear code before the codes would grow."""
    codes = [code for at in range(0, len(raw), 200) for code in (256, *raw[at : at + 200])] + [257]
    bits = "".join(f"{code:09b}" for code in codes)
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def packbits(raw: bytes) -> bytes:
    return b"".join(bytes([len(raw[at : at + 128]) - 1]) + raw[at : at + 128] for at in range(0, len(raw), 128))
