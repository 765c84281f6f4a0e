"""The frames of a video and their times, listed from packets or by decoding."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

from percept.data.guard import Fault
from percept.data.limits import VIDEO_SECONDS

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

Item = TypeVar("Item")

ONE_PACKET_ONE_FRAME = frozenset(["h264", "hevc", "vp9", "av1", "libdav1d", "mjpeg", "prores"])
"""Codecs whose packets state the number and the times of frames. The frames of others are counted by decoding them all."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """All frames of a stream, in the order of showing, without their pixels."""

    stamps: list[int]
    """When each appears, in units of `unit`; ascending."""
    unit: Fraction
    """Seconds."""
    keys: list[int]
    """Numbers of frames at which decoding can begin; the first is 0."""
    decode_stamps: list[int]
    """For each of `keys`: when it is decoded, at or before it appears."""
    last: int
    """How long the last frame stays, in `unit`."""
    counted: bool = False
    """True if the frames were counted by decoding, so that only their order identifies them."""


def from_packets(container: "InputContainer", stream: "VideoStream") -> Table | None:
    """List the frames by reading the packets without decoding them; None if packets do not show them.

    Raises:
        Fault: the file holds less than it announces, or listing takes longer than VIDEO_SECONDS.
    """
    promised, unit = len(stream.index_entries), stream.time_base
    if container.format.name == "avi":  # frames dropped on purpose have no packet
        promised = max(promised, stream.frames) * 49 // 50
    rows, whole, number = [], True, 0
    for packet in _timed(container.demux(stream)):
        if packet.size:
            number, whole = number + 1, whole and not packet.is_corrupt
            if (rows or packet.is_keyframe) and not packet.is_discard:
                dts = packet.pts if packet.dts is None else packet.dts
                rows.append((packet.pts, dts, packet.is_keyframe, packet.duration or 0))
    # A transport stream announces nothing: a packet marked as corrupt is a joint between two recordings, or a lost one.
    if number < promised or not (whole or container.format.name == "mpegts"):
        raise Fault("is damaged or cut short: it holds less than it announces")
    if stream.codec_context.name not in ONE_PACKET_ONE_FRAME or unit is None:
        return None
    if not rows or any(pts is None for pts, _, _, _ in rows):
        return None
    if any(one[1] is not None and two[1] is not None and two[1] < one[1] for one, two in pairwise(rows)):
        return None  # the clock starts anew: two recordings were joined
    # Packets after the first keyframe that are shown before it refer to frames that are not in the file.
    rows = sorted(row for row in rows if row[0] >= rows[0][0])
    stamps = [row[0] for row in rows]
    if len(set(stamps)) < len(stamps):
        return None
    keys = [number for number, row in enumerate(rows) if row[2]]
    return Table(
        stamps=stamps,
        unit=unit,
        keys=keys,
        decode_stamps=[rows[key][1] for key in keys],
        last=rows[-1][3] or _usual(stamps, unit, stream.average_rate or Fraction(25)),
    )


def from_frames(container: "InputContainer", stream: "VideoStream") -> Table:
    """List the frames by decoding all of them.

    Raises:
        Fault: this takes longer than VIDEO_SECONDS.
    """
    rate = stream.average_rate or Fraction(25)
    frames = [(frame.pts, frame.duration) for frame in _timed(decode(container.demux(stream)))]
    stamps = [pts for pts, _ in frames if pts is not None]
    unit = stream.time_base
    if unit is None or len(stamps) < len(frames) or any(b <= a for a, b in pairwise(stamps)):
        stamps, unit, last = list(range(len(frames))), 1 / rate, 1
    else:
        last = frames[-1][1] if frames else 0
    usual = _usual(stamps, unit, rate)
    return Table(stamps=stamps, unit=unit, keys=[0], decode_stamps=[0], last=last or usual, counted=True)


def _timed(items: "Iterable[Item]") -> "Iterator[Item]":
    """Yield items until VIDEO_SECONDS have passed.

    Raises:
        Fault: they have.
    """
    end = time.monotonic() + VIDEO_SECONDS
    for item in items:
        if time.monotonic() > end:
            raise Fault(f"takes more than {VIDEO_SECONDS:g} s to list. Cut it into parts, or convert it to H.264.")
        yield item


def _usual(stamps: list[int], unit: Fraction, rate: Fraction) -> int:
    """Return how long a frame usually stays, in `unit`."""
    return max(1, round((stamps[-1] - stamps[0]) / (len(stamps) - 1) if len(stamps) > 1 else 1 / (rate * unit)))


def from_keyframe(packets: "Iterator[Packet[VideoStream]]") -> "Iterator[Packet[VideoStream]]":
    """Skip packets before the first keyframe, which cannot be decoded."""
    begun = False
    for packet in packets:
        begun = begun or packet.is_keyframe
        if begun:
            yield packet


def decode(packets: "Iterator[Packet[VideoStream]]") -> "Iterator[VideoFrame]":
    """Yield the frames that packets hold, in the order of the decoder."""
    for packet in packets:
        yield from packet.decode()
