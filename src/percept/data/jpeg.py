"""JPEG files: do their markers make sense, and is the end of the image in the file?

ITU-T T.81 (JPEG), annex B.
"""

import re
from collections.abc import Callable

from PIL import Image, ImageChops

from percept.data.guard import Fault
from percept.data.limits import LOOK

MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
"""A marker inside coded pixels; 0xff followed by 0 is a value, followed by 0xd0 to 0xd7 a place to restart."""
START_OF_SCAN, END_OF_IMAGE = 0xDA, 0xD9
SEGMENTS = 100_000
"""Most markers of one file."""
BARE = (0x01, *range(0xD0, 0xD9))
"""Markers without a body."""
PADDINGS = (bytes(64), bytes.fromhex("a5c3") * 32)
"""Two different continuations of a file without its end marker."""


def has_end(data: bytes) -> bool:
    """True if the markers lead from the start of the image to its end marker.

    Raises:
        Fault: there is no marker in LOOK bytes where one has to be, or no pixels.
    """
    at, scans = 2, 0
    for _ in range(SEGMENTS):
        found = MARKER.search(data, at) if scans else MARKER.search(data, at, at + LOOK)
        if found is None:
            break
        kind, at = data[found.end() - 1], found.end()
        if kind == END_OF_IMAGE and scans:
            return True
        scans += kind == START_OF_SCAN
        if kind not in BARE and kind != END_OF_IMAGE:
            at += int.from_bytes(data[at : at + 2], "big")
    if not scans:
        raise Fault("is damaged or cut short: it begins like a JPEG, but no pixels follow")
    return False


def without_end(data: bytes, load: Callable[[bytes], Image.Image]) -> Image.Image:
    """Decode a file whose end marker is missing.

    It is decoded with two different continuations. Where both give the same pixels, all of them come from the file.

    Args:
        data: the file.
        load: decodes a file.

    Raises:
        Fault: rows are missing.
    """
    content = data.rstrip(b"\0")
    zeros = len(data) - len(content)
    if zeros <= 2:  # they may be the last values
        content += bytes(zeros)
    elif content.endswith(b"\xff"):
        content += b"\0"  # 0xff is a value only if 0 follows
    if content.endswith(b"\xff"):
        content = content[:-1]  # the first half of the end marker
    first, second = (load(content + padding + b"\xff\xd9") for padding in PADDINGS)
    if ImageChops.difference(first, second).getbbox() is not None:
        raise Fault("is damaged or cut short: its last rows are missing")
    return first
