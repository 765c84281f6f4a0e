"""The frames of a video file or of a folder, one by one, and a video file written frame by frame."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from percept.core.errors import PerceptError, missing_extra
from percept.core.io import replacing
from percept.data.files import find_images, is_video
from percept.data.images import read_image
from percept.data.video import open_video

FOLDER_RATE = 12.0
"""Frames per second of a video made from a folder."""


@dataclass(frozen=True, kw_only=True)
class Footage:
    """Frames of one video, in order."""

    name: str
    rate: float
    """Frames per second."""
    names: list[str]
    """Name of each frame, without ending."""
    paths: list[Path]
    """Files of the frames; empty for a video file."""
    source: Path

    def __len__(self) -> int:
        return len(self.names)

    def frames(self) -> Iterator[Image.Image]:
        """Yield the frames; each call reads them again.

        Raises:
            PerceptError: a frame cannot be read, or its size differs from that of the first.
        """
        size: tuple[int, int] | None = None
        for name, image in zip(self.names, self._images(), strict=True):
            size = size or image.size
            if image.size != size:
                raise PerceptError(
                    f"frame {name} has {image.width} × {image.height} pixels, but the first has {size[0]} × {size[1]}. "
                    "Give frames of one size."
                )
            yield image

    def _images(self) -> Iterator[Image.Image]:
        if self.paths:
            yield from map(read_image, self.paths)
            return
        with open_video(self.source) as video:
            for _, image in video.frames(range(len(self))):
                yield image


def open_footage(path: Path) -> Footage:
    """Open a video file (GIF included) or a folder of frames.

    Raises:
        PerceptError: it is neither, it is damaged, or it is empty.
    """
    if path.is_dir():
        paths = find_images([path])
        names = [each.stem for each in paths]
        if len(set(names)) < len(names):
            raise PerceptError(
                f"{path} has several frames of the same name. Give a folder with the frames of one video."
            )
        return Footage(name=path.resolve().name, rate=FOLDER_RATE, names=names, paths=paths, source=path)
    if not is_video(path) and path.suffix.lower() != ".gif":
        raise PerceptError(f"{path} is neither a video nor a folder. Give a video file or a folder with its frames.")
    with open_video(path) as video:
        count, seconds = len(video), video.duration
    names = [f"{number:05d}" for number in range(count)]
    return Footage(
        name=path.stem, rate=count / seconds if seconds > 0 else FOLDER_RATE, names=names, paths=[], source=path
    )


class Film:
    """Writes frames to an MP4 file; all have the size of the first. Made by `filming`."""

    def __init__(self, container: Any, rate: float) -> None:
        self._container, self._rate = container, Fraction(rate).limit_denominator(1000)
        self._stream: Any = None

    def add(self, image: Image.Image) -> None:
        """Write one frame; sides become even by repeating the last row or column, as the format requires."""
        import av

        pixels = np.array(image)
        pixels = np.pad(pixels, ((0, pixels.shape[0] % 2), (0, pixels.shape[1] % 2), (0, 0)), mode="edge")
        if self._stream is None:
            self._stream = self._container.add_stream("libx264", rate=self._rate, options={"crf": "18"})
            self._stream.height, self._stream.width, self._stream.pix_fmt = pixels.shape[0], pixels.shape[1], "yuv420p"
        self._container.mux(self._stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))

    def finish(self) -> None:
        """Write what the encoder still holds."""
        if self._stream is not None:
            self._container.mux(self._stream.encode())


@contextmanager
def filming(file: Path, rate: float) -> Iterator[Film]:
    """Write an MP4 file (H.264, yuv420p, which every player shows), frame by frame and atomically.

    Raises:
        PerceptError: PyAV is not installed.
    """
    try:
        import av
    except ImportError:
        raise missing_extra("PyAV", "video", "writing video files") from None
    with replacing(file) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        film = Film(container, rate)
        yield film
        film.finish()


def read_mask(file: Path) -> np.ndarray:
    """Return the number of the object at each pixel of a mask, 0 for the background.

    Images of numbers (with or without a palette, as in DAVIS) are taken as they are; each colour of an RGB image is an object, and
    black or transparent is the background. A mask of 0 and 255 marks one object.

    Raises:
        PerceptError: the file cannot be read, marks nothing, or has more than 50 colours.
    """
    try:
        with Image.open(file) as image:
            image.load()
            indexed = image.mode in ("P", "L", "1", "I;16", "I")
            pixels = np.array(
                image if indexed and image.mode != "1" else image.convert("L" if image.mode == "1" else "RGBA")
            )
    except FileNotFoundError:
        raise PerceptError(f"there is no file {file}. Give the mask of the first frame as a PNG.") from None
    except (OSError, ValueError, SyntaxError) as error:
        raise PerceptError(
            f"{file} cannot be read as an image: {error}. Give the mask of the first frame as a PNG."
        ) from None
    numbers = pixels.astype(np.int64) if pixels.ndim == 2 else _numbers_of_colours(pixels, file)
    kinds = np.unique(numbers)
    if len(kinds[kinds > 0]) > 50:
        raise PerceptError(
            f"{file} has {len(kinds)} different values, so it is not a mask. Give a PNG whose pixels are numbers of objects."
        )
    if not numbers.any():
        raise PerceptError(f"{file} marks no object: all its pixels are 0. Number the objects from 1.")
    if numbers.max() > 255 or kinds[kinds > 0].tolist() == [255]:
        numbers = np.searchsorted(np.union1d(kinds, [0]), numbers)
    return numbers.astype(np.uint8)


def _numbers_of_colours(pixels: np.ndarray, file: Path) -> np.ndarray:
    """Number the colours of an RGBA image from 1, darkest code first; 0 for black and transparent pixels."""
    wide = pixels.astype(np.int64)
    codes = np.where(wide[..., 3] > 127, (wide[..., 0] << 16) + (wide[..., 1] << 8) + wide[..., 2], 0)
    kinds = np.union1d(np.unique(codes), [0])
    if len(kinds) > 51:
        raise PerceptError(
            f"{file} has {len(kinds)} colours, so it is not a mask. Paint every object in one colour, without smooth edges."
        )
    return np.searchsorted(kinds, codes)
