"""Opening video files: containers only, nothing fetched, every refusal in plain words."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from percept.core.errors import PerceptError, missing_extra
from percept.data.images import MAX_PIXELS, check_file, looks_like, upright_size

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

VideoSource = str | os.PathLike[str] | bytes
"""A file's path, or its bytes."""

FORMATS = (
    *(
        "mov",
        "matroska",
        "avi",
        "gif",
        "apng",
        "flv",
        "asf",
        "ogg",
        "mpegts",
        "mpeg",
        "mpegvideo",
        "m4v",
        "h264",
        "hevc",
    ),
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
    return "the video given as bytes" if isinstance(source, bytes) else os.fspath(source)


def open_source(source: VideoSource) -> io.BufferedIOBase:
    """Open the file, or its bytes, for reading.

    Raises:
        PerceptError: a url, a folder, missing, empty, or not readable.
    """
    if isinstance(source, bytes):
        size, file = len(source), io.BytesIO(source)
    else:
        size = check_file(source, "video")
        try:
            file = open(source, "rb")  # noqa: SIM115 - the reader closes it
        except OSError as error:
            raise PerceptError(f"{source} cannot be read: {error.strerror or error}") from None
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
        return av.open(file, container_options={"format_whitelist": ",".join(FORMATS)})
    except av.FFmpegError as error:
        file.seek(0)
        raise PerceptError(_no_video(file, name, error.strerror or str(error))) from None


def _no_video(file: io.BufferedIOBase, name: str, reason: str) -> str:
    head = file.read(200)
    if head[4:8] == b"ftyp" or head.startswith(b"\x1a\x45\xdf\xa3") or head[:4] + head[8:12] == b"RIFFAVI ":
        return f"{name} is damaged or cut short: its beginning announces a video, what follows is missing"
    try:
        upright_size(head + file.read(1 << 20))  # the header is enough
        return f"{name} is a picture, not a video; a clip of one frame is given as a list: [picture]"
    except PerceptError:
        what = looks_like(head)
        return f"{name} is not a video: {what}" if what else f"{name} is not a video, or is damaged ({reason})"


def video_stream(container: "InputContainer", name: str) -> "VideoStream":
    """Return the stream that a player shows.

    Raises:
        PerceptError: there is none, its kind cannot be decoded, or its frames are too large.
    """
    cover = library().stream.Disposition.attached_pic
    streams = [stream for stream in container.streams.video if not stream.disposition & cover]
    if not streams:
        others = " and ".join(sorted({stream.type for stream in container.streams})) or "nothing"
        cut = "" if others.startswith("audio") else ", or is damaged or cut short"
        raise PerceptError(f"{name} has no video stream, only {others}{cut}; give a file with moving pictures")
    stream = streams[0]
    if stream.codec_context is None:
        raise PerceptError(f"{name} holds a kind of video that is not known here; convert it, to H.264 for example")
    width, height = stream.codec_context.width, stream.codec_context.height
    if width * height > MAX_PIXELS:
        raise PerceptError(f"{name} has frames of {width} × {height} pixels, more than the {MAX_PIXELS} allowed")
    stream.thread_type = "AUTO"
    return stream


@contextmanager
def decoding(name: str) -> Iterator[None]:
    """Word the decoder's errors as ours."""
    try:
        yield
    except library().FFmpegError as error:
        raise PerceptError(f"{name} is damaged or cut short: {error.strerror or error}") from None
