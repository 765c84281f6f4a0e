"""Cutting a video into pieces: where the scene changes, and after at most a few seconds."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from percept.data.transforms import Preprocess
from percept.data.video import Video
from percept.search.cutting import Cutting

SIDE = 32
"""Side in pixels of the grey images that are compared."""
RATIO = 3.0
"""How many times larger than usual in its scene a difference has to be."""


@dataclass(kw_only=True)
class Cut:
    """A piece of a video, with the frames that stand for it."""

    start: float
    """Seconds."""
    stop: float = 0.0
    images: list[UInt8[Tensor, "3 y x"]] = field(default_factory=list)
    """Frames at the model's size."""
    differences: list[float] = field(default_factory=list)
    """Between successive frames."""


def cut(
    video: Video, preprocess: Preprocess, cutting: Cutting, see: Callable[[float, Image.Image], None] = lambda *_: None
) -> Iterator[Cut]:
    """Yield the pieces of a video in order; they touch, and together they are the whole video.

    Only the frames of one piece are held. A piece ends where the difference to the next frame is more than
    `scene_change` and RATIO times the mean difference within the piece, or where it would become longer than `window`.

    Args:
        video: an open video.
        preprocess: brings frames to the model's size.
        cutting: window, rate, frames and scene_change.
        see: called with second and image of every frame that is looked at.
    """
    times = video.times
    piece, before = Cut(start=0.0), None
    for number, image in video.frames(sampled(times, video.duration, cutting.rate)):
        second = float(times[number])
        see(second, image)
        grey = small_grey(image)
        difference = 0.0 if before is None else float(np.abs(grey - before).mean())
        if piece.images and _ends(piece, second, difference, video.duration, cutting):
            yield _finished(piece, second, cutting)
            piece = Cut(start=second)
        elif piece.images:
            piece.differences.append(difference)
        piece.images.append(preprocess(image))
        before = grey
    yield _finished(piece, video.duration, cutting)


def sampled(times: Float[np.ndarray, " t"], duration: float, rate: float) -> list[int]:
    """Return the numbers of the frames on screen at regular times, each once.

    >>> sampled(np.arange(10) / 5, 2.0, 2.0)
    [0, 2, 5, 7]
    """
    moments = np.arange(0, max(duration, 1e-6), 1 / rate)
    return np.unique(np.maximum(np.searchsorted(times, moments, side="right") - 1, 0)).tolist()


def small_grey(image: Image.Image) -> Float[np.ndarray, "y x"]:
    """Return a small grey version of an image, values from 0 to 1."""
    small = image.reduce((max(1, image.width // (2 * SIDE)), max(1, image.height // (2 * SIDE))))
    return np.asarray(small.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX), np.float32) / 255


def _ends(piece: Cut, second: float, difference: float, duration: float, cutting: Cutting) -> bool:
    """True if a piece ends before the frame at `second`."""
    if duration - second < cutting.shortest / 2:
        return False  # what remains is too short to stand alone
    length = second - piece.start
    if length >= cutting.window - 1e-6:
        return True
    usual = float(np.mean(piece.differences)) if piece.differences else 0.0
    changes = difference > cutting.scene_change and difference >= RATIO * usual
    return changes and length >= cutting.shortest - 1e-6


def _finished(piece: Cut, stop: float, cutting: Cutting) -> Cut:
    """Set the end of a piece, and keep at most `frames` of its frames, evenly."""
    places = np.unique(
        np.linspace(0, len(piece.images) - 1, min(cutting.frames, len(piece.images))).round().astype(int)
    )
    piece.images = [piece.images[place] for place in places]
    piece.stop = stop
    return piece
