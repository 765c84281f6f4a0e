"""PNG files without the chunks that pixels do not need, so that damaged or huge metadata never costs an image.

Portable Network Graphics, third edition (W3C 2025), sections 5 and 11.
"""

import struct
import zlib
from collections.abc import Iterator

from percept.data.guard import Fault
from percept.data.limits import LOOK

SIGNATURE = b"\x89PNG\r\n\x1a\n"
PIXELS = (b"IHDR", b"PLTE", b"tRNS")
"""Kinds that decide how the pixels in IDAT are shown."""
ORIENTATION_TEXTS = (b"XML:com.adobe.xmp", b"Raw profile type exif")
"""Keywords of texts that may say how an image has to be turned; other texts are left out."""
CHUNKS = 1_000_000
"""Most chunks of one file; a second's work."""
SHORTEST = {0: 2, 2: 6, 3: 1}
"""Bytes that transparency has at least, by colour type; the other types have none."""


def pixel_chunks(data: bytes) -> bytes:
    """Return the file with the chunks that decide about its pixels, metadata first; the same bytes if that is what it holds.

    Left out are other chunks, ancillary ones with a wrong checksum or too short a body, and long texts. IDAT chunks stay as
    they are, damaged or cut, so that the decoder judges them.

    Raises:
        Fault: it is not a PNG that can be read.
    """
    view, same, colour = memoryview(data), True, 0
    front: list[bytes | memoryview] = [SIGNATURE]
    pixels: list[bytes | memoryview] = []
    for number, (kind, start, end, sound) in enumerate(_chunks(data)):
        if number == 0:
            colour = _colour_type(kind, data[start + 8 : end - 4], sound)
        if kind in (b"IDAT", b"IEND"):
            pixels.append(view[start:end])
        elif sound and _is_needed(kind, data, start + 8, end - 4, colour):
            front.append(view[start:end])
            same = same and not pixels
        else:
            same = False
    if len(front) == 1:
        raise Fault("is damaged or cut short: it begins like a PNG and ends before its size")
    return data if same else b"".join(front + pixels)


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int, bool]]:
    """Yield kind, start, end, and whether the chunk is whole with a right checksum; IDAT is not checked."""
    at = len(SIGNATURE)
    for _ in range(CHUNKS):
        if at + 8 > len(data):
            return
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if kind == b"IDAT" or end > len(data):
            sound = end <= len(data)
        else:
            sound = zlib.crc32(memoryview(data)[at + 4 : end - 4]) == int.from_bytes(data[end - 4 : end], "big")
        yield kind, at, min(end, len(data)), sound
        at = end
        if kind == b"IEND":
            return
    raise Fault(f"is not a usable PNG: it has more than {CHUNKS} chunks")


def _colour_type(kind: bytes, body: bytes, sound: bool) -> int:
    if kind == b"CgBI":
        raise Fault("is a PNG in Apple's own form (CgBI), which is not read here. Save it as an ordinary PNG.")
    if kind != b"IHDR" or not sound or len(body) != 13:
        raise Fault("is damaged or cut short: the header of the PNG is not valid")
    return body[9]


def _is_needed(kind: bytes, data: bytes, start: int, end: int, colour: int) -> bool:
    if kind == b"tRNS":
        return end - start >= SHORTEST.get(colour, 1 << 31)
    if kind in (b"tEXt", b"zTXt", b"iTXt"):
        return _is_orientation_text(kind, data[start : min(end, start + LOOK + 1)])
    return kind in PIXELS or (kind == b"eXIf" and end - start <= LOOK)


def _is_orientation_text(kind: bytes, body: bytes) -> bool:
    """True for a short text, unpacked too, under a keyword that may hold the orientation."""
    keyword, _, rest = body.partition(b"\0")
    if keyword not in ORIENTATION_TEXTS or len(body) > LOOK:
        return False
    if kind == b"zTXt":
        return _unpacks(rest[1:])
    if kind == b"iTXt":
        parts = rest[2:].split(b"\0", 2)
        return len(parts) == 3 and (rest[:1] == b"\0" or _unpacks(parts[2]))
    return True


def _unpacks(packed: bytes) -> bool:
    unpacker = zlib.decompressobj()
    try:
        unpacker.decompress(packed, LOOK)
    except zlib.error:
        return False
    return unpacker.eof
