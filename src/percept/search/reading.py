"""Reading one file for an index: its hash, and what is stored of an image or a video."""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from percept.core.errors import PerceptError
from percept.core.io import content_hash, file_hash
from percept.data.files import reason_without_path
from percept.data.images import decoded, read_bytes, upright_size
from percept.data.magic import image_format
from percept.data.transforms import Preprocess
from percept.data.video import open_video
from percept.search.contracts import ImageEncoder
from percept.search.cutting import Cutting
from percept.search.scenes import Cut, cut
from percept.search.store import BadState, FileState, NewContent

THUMBNAIL = 320
"""Longer side of thumbnails in pixels."""
EXIF_DATES = ((0x8769, 0x9003, 0x9011), (0x8769, 0x9004, 0x9012), (None, 0x0132, None))
"""Directory, date and offset from UTC in EXIF: DateTimeOriginal, DateTimeDigitized, DateTime."""
GROUP = 64
"""Frames of a video that go through the model together."""


@dataclass(frozen=True, kw_only=True)
class ReadImage:
    """An image that was read, ready for the model."""

    width: int
    height: int
    taken: float | None
    thumbnail: bytes
    pixels: UInt8[Tensor, "3 y x"]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A file that was read; without an image if its content is known already."""

    file: FileState
    image: ReadImage | None = None


def read_image_file(file: FileState, knows: Callable[[str], bool], preprocess: Preprocess) -> Candidate | BadState:
    """Read an image; return why if its content is not a readable image.

    Raises:
        PerceptError: the file cannot be read at present: it has vanished, or the system refuses.
    """
    data = read_bytes(file.path)
    file = replace(file, hash=content_hash(data), bytes=len(data))
    if knows(file.hash):
        return Candidate(file=file)
    try:
        return Candidate(file=file, image=_read(data, preprocess))
    except PerceptError as error:
        reason = str(error).removeprefix("the image given as bytes ")
        return _lasting(file, reason)


def _lasting(file: FileState, reason: str) -> BadState:
    """Return the state of a file that will stay unreadable until it changes.

    Raises:
        PerceptError: a library that could read it is missing.
    """
    if "pip install" in reason:
        raise PerceptError(reason)
    return BadState(path=file.path, bytes=file.bytes, modified=file.modified, reason=reason)


def _read(data: bytes, preprocess: Preprocess) -> ReadImage:
    width, height = upright_size(data)
    with decoded(data, at_least=preprocess.at_least) as image:
        pixels = preprocess(image)
        thumbnail = None if max(image.size) < min(THUMBNAIL, max(width, height)) else thumbnail_of(image)
    if thumbnail is None:  # a JPEG that was decoded smaller than the thumbnail
        with decoded(data, at_least=max(1, THUMBNAIL * min(width, height) // max(width, height))) as image:
            thumbnail = thumbnail_of(image)
    return ReadImage(width=width, height=height, taken=date_taken(data), thumbnail=thumbnail, pixels=pixels)


def thumbnail_of(image: Image.Image) -> bytes:
    """Return a JPEG whose longer side has at most THUMBNAIL pixels."""
    small = image.copy()
    small.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.BICUBIC, reducing_gap=2.0)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def date_taken(data: bytes) -> float | None:
    """Return when an image was taken, in seconds since 1970, as its EXIF says; None if it does not.

    A time without an offset from UTC is taken as one of this machine's time zone.
    """
    if image_format(data) == "PNG" and b"eXIf" not in data:
        return None  # Pillow would decode all pixels to look for it
    try:
        with Image.open(io.BytesIO(data)) as image:
            return _first_date(image.getexif())
    except Exception:  # a format that Pillow does not open, or unreadable EXIF
        return None


def _first_date(exif: Image.Exif) -> float | None:
    for directory, date, offset in EXIF_DATES:
        tags: Any = exif if directory is None else exif.get_ifd(directory)
        try:
            return _seconds(tags[date], tags.get(offset) if offset else None)
        except Exception:  # absent, or not a date
            continue
    return None


def _seconds(date: str, offset: str | None) -> float:
    """Return seconds since 1970 of a date in EXIF.

    >>> _seconds("2024:05:17 12:00:00", "+02:00")
    1715940000.0
    """
    text = date.strip("\0 ")[:19]
    if not offset:
        return datetime.strptime(text, "%Y:%m:%d %H:%M:%S").astimezone().timestamp()
    return datetime.strptime(f"{text} {offset.strip(chr(0))}", "%Y:%m:%d %H:%M:%S %z").astimezone(UTC).timestamp()


def read_video_file(
    file: FileState, knows: Callable[[str], bool], encoder: ImageEncoder, cutting: Cutting
) -> tuple[FileState, NewContent | None] | BadState:
    """Read a video and compute the vectors of its pieces; no content if it is known already.

    Raises:
        PerceptError: the file cannot be read at present: it has vanished, or the system refuses.
    """
    try:
        file = replace(file, hash=file_hash(file.path))
    except OSError as error:
        raise PerceptError(f"{file.path} cannot be read: {error.strerror or error}") from None
    if knows(file.hash):
        return file, None
    try:
        return file, _video_content(file, encoder, cutting)
    except PerceptError as error:
        return _lasting(file, reason_without_path(error, file.path))


def _video_content(file: FileState, encoder: ImageEncoder, cutting: Cutting) -> NewContent:
    with open_video(file.path) as video:
        middle = _Middle(video.duration / 2)
        pieces = list(_encoded(cut(video, encoder.preprocess, cutting, middle.see), encoder))
        seconds = video.duration
    return NewContent(
        hash=file.hash,
        kind="video",
        width=middle.size[0],
        height=middle.size[1],
        vectors=np.stack([vector for _, vector in pieces]),
        spans=tuple(span for span, _ in pieces),
        seconds=seconds,
        thumbnail=middle.thumbnail,
    )


class _Middle:
    """Keeps the thumbnail of the last frame before the middle of a video."""

    def __init__(self, second: float) -> None:
        self.second, self.size, self.thumbnail = second, (0, 0), b""

    def see(self, second: float, image: Image.Image) -> None:
        if not self.thumbnail or second <= self.second:
            self.size, self.thumbnail = image.size, thumbnail_of(image)


def _encoded(
    pieces: Iterator[Cut], encoder: ImageEncoder
) -> Iterator[tuple[tuple[float, float], Float[np.ndarray, " d"]]]:
    """Yield span and vector of each piece; frames of several pieces go through the model together."""
    waiting: list[Cut] = []
    for piece in pieces:
        waiting.append(piece)
        if sum(len(each.images) for each in waiting) >= GROUP:
            yield from _vectors(waiting, encoder)
            waiting = []
    yield from _vectors(waiting, encoder)


def _vectors(pieces: list[Cut], encoder: ImageEncoder) -> Iterator[tuple[tuple[float, float], Float[np.ndarray, " d"]]]:
    if not pieces:
        return
    vectors = encoder.image([image for piece in pieces for image in piece.images])
    for piece, rows in zip(pieces, torch.split(vectors, [len(piece.images) for piece in pieces]), strict=True):
        yield (piece.start, piece.stop), F.normalize(rows.float().mean(0), dim=0).cpu().numpy()
