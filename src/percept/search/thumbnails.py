"""Thumbnails for pages and sheets."""

import base64
import io
from dataclasses import replace
from pathlib import Path

from PIL import Image

from percept.core.errors import PerceptError
from percept.data.files import is_video
from percept.data.images import read_image
from percept.search.hits import Answer, Hit
from percept.search.store import Store

SIZE = 320
"""Longer side in pixels."""


def illustrated(store: Store, answer: Answer) -> Answer:
    """Return the answer with a thumbnail for every hit: the middle of its span, else the one that the index keeps."""
    return replace(answer, hits=tuple(replace(hit, thumbnail=_jpeg_of(store, hit)) for hit in answer.hits))


def _jpeg_of(store: Store, hit: Hit) -> bytes | None:
    frame = None
    if hit.span is not None and not hit.missing:
        frame = frame_at(hit.path, (hit.span.start + hit.span.stop) / 2, SIZE)
    return store.thumbnail(hit.content) if frame is None else jpeg(frame)


def frame_at(path: Path, seconds: float, size: int) -> Image.Image | None:
    """Return the frame on screen at a time of a video, reduced to a longer side of at most `size`; None if unreadable."""
    from percept.data.video import frames_within, open_video

    try:
        with open_video(path) as video:
            start = max(0.0, min(seconds, video.duration - 1e-3))
            number = frames_within(video.times, video.duration, (start, start + 1e-3))[0]
            return _reduced(next(image for _, image in video.frames([number])), size)
    except (PerceptError, IndexError):
        return None


def picture(hit: Hit, size: int) -> Image.Image | None:
    """Return a reduced image of a hit; None if there is none."""
    if hit.thumbnail is not None:
        try:
            with Image.open(io.BytesIO(hit.thumbnail)) as image:
                return _reduced(image.convert("RGB"), size)
        except (OSError, ValueError):
            pass
    return thumbnail(hit.path, size)


def thumbnail(path: Path, size: int) -> Image.Image | None:
    """Return an image, or the middle frame of a video, reduced to at most `size` pixels; None if it cannot be read."""
    if is_video(path):
        return frame_at(path, _middle(path), size)
    try:
        return _reduced(read_image(path, at_least=size), size)
    except PerceptError:
        return None


def _middle(path: Path) -> float:
    from percept.data.video import open_video

    try:
        with open_video(path) as video:
            return video.duration / 2
    except PerceptError:
        return 0.0


def _reduced(image: Image.Image, size: int) -> Image.Image:
    image.thumbnail((size, size), Image.Resampling.LANCZOS)
    return image


def jpeg(image: Image.Image) -> bytes:
    """Return the image as a JPEG file."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=84, optimize=True)
    return buffer.getvalue()


def data_uri(data: bytes) -> str:
    """Return a JPEG file as a data URI."""
    return "data:image/jpeg;base64," + base64.b64encode(data).decode()
