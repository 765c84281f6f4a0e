"""Is a video file cut short? What containers announce about their own length, compared with the file.

The lengths are read from GIF (its trailer), AVI (RIFF chunks), Matroska and WebM (the segment), ASF and WMV (file properties),
FLV (onMetaData), MXF (the place of its footer), MP4 and MOV (boxes; they also list every frame, which `table` compares). MPEG program and transport streams (.mpg, .vob,
.ts, .mts, .m2ts), Ogg and raw streams announce nothing: of a file that was cut, the frames in it are read without a remark.
"""

import io
import struct

from percept.data import gif
from percept.data.guard import Fault
from percept.data.limits import MAX_BYTES

HEAD = 64 << 10
"""Bytes in which a container says how long it is."""
SEGMENT = b"\x18\x53\x80\x67"
FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
PARTITION = bytes.fromhex("060e2b34020501010d01020101")
"""SMPTE 377-1, 7.1: first bytes of the key of a partition pack."""
BROADCAST = 1
"""Flag of a live recording, whose size was not known."""


def check_whole(file: io.BufferedIOBase, container: str) -> None:
    """Check that a file has as many bytes as its container announces; the file's position changes.

    Args:
        file: the video.
        container: FFmpeg's name of its format.

    Raises:
        Fault: it has fewer.
    """
    file.seek(0)
    if container == "gif":
        data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise Fault(f"is larger than the {MAX_BYTES} bytes allowed for a GIF. Convert it to H.264.")
        if not gif.is_whole(data):
            raise Fault("is damaged or cut short: the GIF ends before its trailer")
        return
    container = "mov" if container.startswith("mov,") else container
    readers = {
        "mov": _boxes_size,
        "avi": _riff_size,
        "matroska,webm": _segment_size,
        "asf": _asf_size,
        "flv": _flv_size,
        "mxf": _mxf_size,
    }
    if container not in readers:
        return
    announced = readers[container](file)
    size = file.seek(0, io.SEEK_END)
    if announced is not None and size < announced:
        raise Fault(f"is damaged or cut short: it announces {announced} bytes and has {size}")


def _boxes_size(file: io.BufferedIOBase) -> int | None:
    """Return where the last box with frames or their table ends."""
    at, end, size = 0, 0, file.seek(0, io.SEEK_END)
    while at + 16 <= size:
        file.seek(at)
        length, name, large = struct.unpack(">I4sQ", file.read(16))
        length = large if length == 1 else length
        if length < 8:  # 0: up to the end of the file
            break
        at += length
        end = at if name in (b"moov", b"moof", b"mdat") else end
    return end or None


def _riff_size(file: io.BufferedIOBase) -> int | None:
    """Return where the last RIFF chunk ends; large files have several."""
    end, size = 0, file.seek(0, io.SEEK_END)
    while end + 8 <= size:
        file.seek(end)
        name, length = struct.unpack("<4sI", file.read(8))
        if name != b"RIFF" or not length:
            break
        end += 8 + length
    return end or None


def _segment_size(file: io.BufferedIOBase) -> int | None:
    head = file.read(HEAD)
    at = head.find(SEGMENT) + len(SEGMENT)
    if at < len(SEGMENT) or at >= len(head) or not head[at]:
        return None
    length = 9 - head[at].bit_length()
    value = int.from_bytes(head[at : at + length], "big") & (1 << 7 * length) - 1
    unknown = value == (1 << 7 * length) - 1  # of a live recording
    return None if unknown else at + length + value


def _asf_size(file: io.BufferedIOBase) -> int | None:
    head = file.read(HEAD)
    at = head.find(FILE_PROPERTIES)
    if at < 0 or len(head) < at + 92:
        return None
    size, flags = struct.unpack_from("<Q", head, at + 40)[0], struct.unpack_from("<I", head, at + 88)[0]
    return None if flags & BROADCAST else size


def _flv_size(file: io.BufferedIOBase) -> int | None:
    head, key = file.read(HEAD), b"filesize\0"
    at = head.find(key) + len(key)
    if at < len(key) or len(head) < at + 8:
        return None
    size = struct.unpack_from(">d", head, at)[0]
    return int(size) if 0 < size < 1 << 62 else None


def _mxf_size(file: io.BufferedIOBase) -> int | None:
    """Return where the key of the footer ends; a file that was not closed names no footer."""
    head = file.read(HEAD)
    at = head.find(PARTITION) + 16  # the rest of the key
    if at < 16 or len(head) < at + 41:
        return None
    at += 1 + (
        head[at] & 0x7F if head[at] & 0x80 else 0
    )  # the length of the pack, which may be written in several bytes
    footer = int.from_bytes(head[at + 24 : at + 32], "big")
    return footer + 16 if footer else None
