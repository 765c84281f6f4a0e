"""GIF files, block by block: is there an image in it, and is the whole file there?

Graphics Interchange Format, version 89a, sections 17 to 27.
"""

from collections.abc import Iterator

from percept.data.guard import Fault
from percept.data.limits import LOOK

EXTENSION, IMAGE, TRAILER = 0x21, 0x2C, 0x3B
BLOCKS = 5_000_000
"""Most blocks and sub-blocks of one file that are looked at, about a second's work."""


def has_image(data: bytes) -> bool:
    """True if an image begins within LOOK bytes behind the last block that makes sense.

    Raises:
        Fault: there are more than BLOCKS blocks.
    """
    at, steps = _behind_header(data), iter(range(BLOCKS))
    while at < len(data):
        _count(steps)
        if data[at] == IMAGE:
            return True
        if data[at] == EXTENSION:
            at = _behind_sub_blocks(data, at + 2, steps) or len(data)
        elif data[at] == TRAILER:
            return False
        else:  # readers pass over what is not a block
            starts = [data.find(bytes([block]), at, at + LOOK) for block in (EXTENSION, IMAGE)]
            at = min((start for start in starts if start > 0), default=len(data))
    return False


def is_whole(data: bytes) -> bool:
    """True if every block is finished and the trailer follows.

    Raises:
        Fault: there are more than BLOCKS blocks.
    """
    at, steps = _behind_header(data), iter(range(BLOCKS))
    while at is not None and at < len(data):
        _count(steps)
        if data[at] == TRAILER:
            return True
        if data[at] == EXTENSION:
            at = _behind_sub_blocks(data, at + 2, steps)
        elif data[at] == IMAGE and at + 9 < len(data):
            at = _behind_sub_blocks(data, at + 11 + _table(data[at + 9]), steps)
        elif data[at] == 0:  # some writers put a spare end of block
            at += 1
        else:
            return False
    return False


def _behind_header(data: bytes) -> int:
    return 13 + _table(data[10]) if len(data) > 13 else len(data)


def _table(flags: int) -> int:
    """Return the bytes of a colour table."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _behind_sub_blocks(data: bytes, at: int, steps: Iterator[int]) -> int | None:
    """Return the place behind a chain of sub-blocks; None if its end is missing."""
    while at < len(data):
        _count(steps)
        if data[at] == 0:
            return at + 1
        at += data[at] + 1
    return None


def _count(steps: Iterator[int]) -> None:
    if next(steps, None) is None:
        raise Fault(f"is not a usable GIF: it has more than {BLOCKS} blocks")
