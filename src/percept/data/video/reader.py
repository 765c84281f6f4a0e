"""Reading chosen frames of a video: distant frames are reached by a jump to the keyframe before them, near ones by decoding."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from percept.core.errors import PerceptError
from percept.data.limits import in_flight
from percept.data.tones import over_white
from percept.data.video.files import (
    VideoSource,
    check_length,
    decoding,
    describe,
    library,
    open_container,
    open_source,
    video_stream,
)
from percept.data.video.table import Table, decode, from_frames, from_keyframe, from_packets

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

JUMP = 8
"""Frames that a jump to a keyframe has to save; it costs about as much as decoding five small ones."""
HIDDEN = 2
"""Frames in a row that a file may list without showing them; the one on screen stands for them."""


class Video:
    """An opened video; use it in a `with` block.

    Frames are numbered from 0 in the order of showing, and appear upright, as 8-bit RGB.
    """

    def __init__(self, source: VideoSource) -> None:
        self.name = describe(source)
        self._decoded: Iterator[tuple[int, VideoFrame]] | None = None
        self._shown: tuple[int, VideoFrame] | None = None
        self._ahead: tuple[int, VideoFrame] | None = None
        self._reformatter: Any = library().video.reformatter.VideoReformatter()
        self._matrices: dict[int, tuple[int, int, int, int]] = {}
        """Display matrix by the rotation that the library reports, which is cheaper to ask for."""
        self.decoded = 0
        """Frames decoded so far."""
        self._file = open_source(source)
        try:
            self._container, self._stream = self._open()
            check_length(self._file, self._container, self.name)
            with decoding(self.name):
                self._table = self._listed()
        except BaseException:
            self.close()
            raise
        if not self._table.stamps:
            self.close()
            raise PerceptError(f"{self.name} is damaged or cut short: it holds no frames")

    def __enter__(self) -> "Video":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and end the decoder's threads."""
        self._decoded = self._shown = self._ahead = None
        self._release()
        self._file.close()

    def __len__(self) -> int:
        return len(self._table.stamps)

    @property
    def times(self) -> Float[np.ndarray, " t"]:
        """Seconds at which each frame appears, counted from the first."""
        stamps = np.array(self._table.stamps, dtype=np.float64)
        return (stamps - stamps[0]) * float(self._table.unit)

    @property
    def duration(self) -> float:
        """Seconds until the last frame leaves the screen."""
        return float((self._table.stamps[-1] + self._table.last - self._table.stamps[0]) * self._table.unit)

    @property
    def created(self) -> float | None:
        """When the file says it was recorded, in seconds since 1970; None if it does not."""
        try:
            date = datetime.fromisoformat(self._container.metadata["creation_time"])
        except (KeyError, ValueError):
            return None
        seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
        return seconds if seconds > 0 else None  # a date that was not set is 1904 or 1970

    def frames(self, numbers: Iterable[int], *, jump: int | None = JUMP) -> Iterator[tuple[int, Image.Image]]:
        """Yield (number, image) of the frames with these numbers, ascending, each once.

        Args:
            numbers: frames from 0 on.
            jump: frames that a jump to a keyframe has to save; None to decode through without jumps.

        Raises:
            PerceptError: a number that the video does not have, or a frame that cannot be decoded.
        """
        if not hasattr(self, "_stream"):
            raise PerceptError(f"{self.name} is closed. Open it again to read frames.")
        wanted = sorted(set(numbers))
        if wanted and not 0 <= wanted[0] <= wanted[-1] < len(self):
            raise PerceptError(f"{self.name} has {len(self)} frames, 0 to {len(self) - 1}; not {wanted}")
        for number in wanted:
            with decoding(self.name), in_flight.share(self._pixels):
                self._approach(number, jump)
                image = self._upright(self._frame_at(number))
            yield number, image

    @property
    def _pixels(self) -> int:
        return self._stream.codec_context.width * self._stream.codec_context.height

    def _open(self) -> "tuple[InputContainer, VideoStream]":
        container = open_container(self._file, self.name)
        try:
            return container, video_stream(container, self.name)
        except BaseException:
            container.close()
            raise

    def _release(self) -> None:
        """Drop the decoder: nothing may refer to it, or its threads live on until the garbage collector finds it."""
        if hasattr(self, "_container"):
            self._container.close()
            del self._container
        if hasattr(self, "_stream"):
            del self._stream

    def _reopen(self) -> None:
        self._release()
        self._container, self._stream = self._open()

    def _listed(self) -> Table:
        """List the frames by their packets, or by decoding all of them."""
        table = from_packets(self._container, self._stream)
        if table is None:
            self._reopen()
            table = from_frames(self._container, self._stream)
        return table

    def _approach(self, number: int, jump: int | None) -> None:
        """Start decoding again where that is needed or faster, else leave the decoder where it is."""
        key = 0 if jump is None else self._key_before(number)
        place = -1 if self._shown is None else self._shown[0]
        if self._decoded is None or place > number or (jump is not None and key - place > jump):
            self._decoded = self._decode_from(key)
            self._shown = self._ahead = None

    def _key_before(self, number: int) -> int:
        return self._table.keys[bisect_right(self._table.keys, number) - 1]

    def _frame_at(self, number: int) -> "VideoFrame":
        assert self._decoded is not None
        while self._shown is None or self._shown[0] < number:
            following = self._ahead or next(self._decoded, None)
            self._ahead = None
            if following is None or following[0] > number:
                self._ahead = following
                break
            self._shown = following
        if self._shown is None or number - self._shown[0] > HIDDEN:
            seconds = self.times[number]
            raise PerceptError(f"{self.name} is damaged or cut short: frame {number}, at {seconds:.2f} s, is not in it")
        return self._shown[1]

    def _decode_from(self, key: int) -> "Iterator[tuple[int, VideoFrame]]":
        for order, frame in enumerate(decode(self._packets_from(key))):
            self.decoded += 1
            if self._table.counted:
                yield order, frame
            elif frame.pts is not None and (number := bisect_right(self._table.stamps, frame.pts) - 1) >= 0:
                yield number, frame

    def _upright(self, frame: "VideoFrame") -> Image.Image:
        """Return a frame as upright RGB, transparency over white."""
        clear = any(component.is_alpha for component in frame.format.components) or frame.format.has_palette
        # One converter for all frames: a frame's own one starts threads that live until the garbage collector runs.
        pixels = self._reformatter.reformat(frame, format="rgba" if clear else "rgb24", threads=1).to_ndarray()
        if frame.rotation not in self._matrices:
            small = self._reformatter.reformat(frame, width=16, height=16, format="gray", threads=1)
            self._matrices[frame.rotation] = _display_matrix(small)  # keeps its frame alive, so it gets a small one
        image = Image.fromarray(upright(pixels, self._matrices[frame.rotation]))
        return over_white(image) if clear else image

    def _packets_from(self, key: int) -> "Iterator[Packet[VideoStream]]":
        """Yield packets from the keyframe on; from the file's beginning where the format cannot seek."""
        if key:
            place = self._table.keys.index(key)
            for stamp in (self._table.stamps[key], self._table.decode_stamps[place]):
                self._container.seek(stamp, stream=self._stream)
                packets = from_keyframe(self._container.demux(self._stream))
                first = next(packets, None)
                if first is not None and first.pts is not None and first.pts <= self._table.stamps[key]:
                    yield first
                    yield from packets
                    return
            self._table = replace(self._table, keys=[0], decode_stamps=[0])  # the format cannot seek: no more jumps
        self._reopen()
        packets = self._container.demux(self._stream)
        yield from packets if self._table.counted else from_keyframe(packets)


def open_video(source: VideoSource) -> Video:
    """Open a video file, such as an animated GIF, or the bytes of one.

    A file that was cut short is refused where its container announces a length, see `percept.data.video.whole`; listing the
    frames takes at most VIDEO_SECONDS of `percept.data.limits`.

    Raises:
        PerceptError: PyAV is not installed, or the file is a url, a folder, missing, empty, damaged, cut short, not a video, or
            without a video stream; the message says which.
    """
    return Video(source)


def _display_matrix(frame: "VideoFrame") -> tuple[int, int, int, int]:
    """Return a, b, c, d: a stored point (x, y) is shown at (a x + c y, b x + d y)."""
    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    if matrix is not None:
        a, b, _, c, d = np.frombuffer(bytes(matrix), dtype=np.int32)[:5].tolist()
        return a, b, c, d
    return 1, 0, 0, 1


def upright(pixels: UInt8[np.ndarray, "y x k"], matrix: tuple[int, int, int, int]) -> UInt8[np.ndarray, "h w k"]:
    """Turn and mirror pixels by a display matrix (a, b, c, d), by the right angle nearest to it.

    A stored point (x, y) is shown at (a x + c y, b x + d y); only signs and which of |a|, |b| is greater count.

    >>> upright(np.arange(6, dtype=np.uint8).reshape(2, 3, 1), (0, 1, -1, 0))[..., 0].tolist()  # clockwise
    [[3, 0], [4, 1], [5, 2]]
    """
    a, b, c, d = matrix
    if abs(b) > abs(a):
        pixels, down, across = pixels.transpose(1, 0, 2), b, c
    else:
        down, across = d, a
    return np.ascontiguousarray(pixels[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1])
