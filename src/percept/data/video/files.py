"""Opening video files: containers only, nothing fetched, every refusal in plain words."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from percept.core.errors import PerceptError, missing_extra
from percept.data.guard import Fault, reason
from percept.data.images import upright_size
from percept.data.inputs import OpenFile, check_file, describe_open, read_bytes, read_open
from percept.data.limits import MAX_FRAME_PIXELS
from percept.data.magic import looks_like
from percept.data.video.whole import check_whole

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

VideoSource = str | os.PathLike[str] | bytes | OpenFile
"""A file's path (`-` for standard input), its bytes, or an open file."""

THREADS = min(4, os.cpu_count() or 1)
"""Threads that decode one video; several videos may be read at the same time."""

FORMATS = (
    *("mov", "matroska", "avi", "gif", "apng", "flv", "asf", "ogg"),
    *("mpegts", "mpeg", "mpegvideo", "m4v", "h264", "hevc"),
    *("ivf", "dv", "mxf", "yuv4mpegpipe", "nut", "mp3", "wav", "flac", "aac"),
)
"""What is opened (sound only to say so). Playlists and scripts, which make a reader open other files, are left out."""


def library() -> Any:
    """Return PyAV.

    Raises:
        PerceptError: it is not installed.
    """
    try:
        import av
    except ImportError:
        raise missing_extra("PyAV", "video", "reading video files") from None
    return av


def describe(source: VideoSource) -> str:
    """Return what messages call the source."""
    if isinstance(source, OpenFile):
        return describe_open(source)
    return "the video given as bytes" if isinstance(source, bytes) else os.fspath(source)


def open_source(source: VideoSource) -> io.BufferedIOBase:
    """Open the file, or its bytes, for reading.

    Raises:
        PerceptError: a url, a folder, missing, empty, or not readable.
    """
    try:
        if isinstance(source, OpenFile):
            source = read_open(source, kind="video")
        if isinstance(source, bytes):
            size, file = len(source), io.BytesIO(source)
        elif (size := check_file(source, "video")) is None:
            data = read_bytes(source, kind="video")
            size, file = len(data), io.BytesIO(data)
        else:
            file = open(source, "rb")  # noqa: SIM115 - the reader closes it
    except OSError as error:
        raise PerceptError(f"{describe(source)} cannot be read: {error.strerror or error}") from None
    if not size:
        file.close()
        raise PerceptError(f"{describe(source)} is empty (0 bytes)")
    return file


def open_container(file: io.BufferedIOBase, name: str) -> "InputContainer":
    """Open a container at its beginning.

    Raises:
        PerceptError: not a video, or one whose beginning or table of contents is missing.
    """
    av = library()
    file.seek(0)
    try:
        return av.open(file, container_options={"format_whitelist": ",".join(FORMATS)}, metadata_errors="replace")
    except Exception as error:  # the library raises anything on damaged input
        file.seek(0)
        raise PerceptError(_no_video(file, name, _worded(error))) from None


def check_length(file: io.BufferedIOBase, container: "InputContainer", name: str) -> None:
    """Check that the file has all the bytes that its container announces.

    Raises:
        PerceptError: it was cut short.
    """
    place = file.tell()
    with decoding(name):
        check_whole(file, container.format.name)
    file.seek(place)


def _no_video(file: io.BufferedIOBase, name: str, cause: str) -> str:
    head = file.read(200)
    if head[4:8] == b"ftyp" or head.startswith(b"\x1a\x45\xdf\xa3") or head[:4] + head[8:12] == b"RIFFAVI ":
        return f"{name} is damaged or cut short: its beginning announces a video, but what follows is missing"
    try:
        upright_size(head + file.read(1 << 20))  # the header is enough
        return f"{name} is an image, not a video. A clip of one frame is given as a list: [image]."
    except PerceptError:
        what = looks_like(head)
        return f"{name} is not a video: {what}" if what else f"{name} is not a video, or is damaged ({cause})"


def video_stream(container: "InputContainer", name: str) -> "VideoStream":
    """Return the stream that a player shows.

    Raises:
        PerceptError: there is none, its kind cannot be decoded, or its frames are too large.
    """
    cover = library().stream.Disposition.attached_pic
    streams = [stream for stream in container.streams.video if not stream.disposition & cover]
    if not streams:
        others = " and ".join(sorted({stream.type for stream in container.streams}))
        if not others:
            raise PerceptError(f"{name} is damaged or cut short: no streams are in it")
        cut = "" if others.startswith("audio") else ", or is damaged or cut short"
        raise PerceptError(f"{name} has no video stream, only {others}{cut}. Give a file with moving images.")
    stream = streams[0]
    if stream.codec_context is None:
        raise PerceptError(f"{name} holds a kind of video that is not known here. Convert it, to H.264 for example.")
    width, height = stream.codec_context.width, stream.codec_context.height
    if width * height > MAX_FRAME_PIXELS:
        raise PerceptError(
            f"{name} has frames of {width} × {height} pixels, more than the {MAX_FRAME_PIXELS} allowed. Reduce them."
        )
    stream.thread_type, stream.codec_context.thread_count = "AUTO", THREADS
    return stream


@contextmanager
def decoding(name: str) -> Iterator[None]:
    """Turn every error of the decoder into a PerceptError that names the file."""
    try:
        yield
    except PerceptError:
        raise
    except Fault as fault:
        raise PerceptError(f"{name} {fault}") from None
    except MemoryError as error:
        raise PerceptError(f"{name} {reason(error)}") from None
    except Exception as error:  # the library raises anything on damaged input
        raise PerceptError(f"{name} is damaged or cut short: {_worded(error)}") from None


def _worded(error: Exception) -> str:
    """Return what FFmpeg says about the file; its other errors speak of permissions and addresses, which is not the cause."""
    av = library()
    text = getattr(error, "strerror", None) or ""
    known = isinstance(error, av.error.InvalidDataError | av.error.EOFError | av.error.PatchWelcomeError)
    return text if known and text else "the decoder cannot read its content"
