"""What a user may call a clip, and the frames that stand for it.

`Clip`: a video file (its path or its bytes), or frames: a list of pictures, a uint8 array [t, y, x, 3], a uint8 tensor
[t, 3, y, x], or a float tensor [t, 3, y, x] that is already preprocessed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from percept.core.errors import PerceptError, unknown_name
from percept.data.files import is_video
from percept.data.images import upright_size
from percept.data.transforms import Preprocess
from percept.data.video import Video, choose, frames_within, open_video
from percept.infer.pictures import FILES_AND_PIXELS, as_list, is_single
from percept.models.clip import average_frames, unit

if TYPE_CHECKING:
    from percept.infer.pictures import Pictures

    Clip: TypeAlias = Pictures
    Windows: TypeAlias = Sequence[Sequence[float]] | np.ndarray | Tensor
    Count: TypeAlias = int
else:
    # Whatever a user passes reaches the checks below, whose words are made for users.
    Clip = Windows = Count = Any

FRAMES = 8
"""Frames that stand for a video file when nothing else is said, as published."""
AVERAGES = ("retrieval", "zero-shot")


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How many frames stand for a clip, and which."""

    frames: Count = FRAMES
    choice: str = "pe-evaluation"
    """A name of `percept.data.video.CHOICES`."""

    def check(self) -> "Sampling":
        """Return the same with a plain number of frames, if it is possible at all.

        Raises:
            PerceptError: no whole number, one below 1, or no such choice.
        """
        if isinstance(self.frames, bool) or not isinstance(self.frames, int | np.integer):
            raise PerceptError(
                f"frames={self.frames!r} is no number of frames; give a whole one from 1 on, 8 are usual"
            )
        checked = replace(self, frames=int(self.frames))
        choose(np.zeros(1), 1.0, checked.frames, checked.choice)
        return checked

    def of(self, video: Video, window: tuple[float, float] | None = None) -> list[int]:
        """Return the numbers of the frames that stand for a video, or for a window [start, end) of it in seconds."""
        times, end = video.times, video.duration
        part = range(len(video)) if window is None else frames_within(times, end, window)
        begin = times[part.start : part.stop].copy()
        if window is not None:
            begin[0], end = max(begin[0], window[0]), min(end, window[1])
        return [part[number] for number in choose(begin, float(end), self.frames, self.choice)]


def is_file(clip: Any) -> bool:
    """Tell whether a clip is given as a video file and not as frames."""
    return is_single(clip) and isinstance(clip, FILES_AND_PIXELS[:3])


def check_frames(clip: Any) -> list[Any]:
    """Return the frames of a clip as a list.

    Raises:
        PerceptError: no frames, a single picture, video files, or frames of unequal size.
    """
    if is_single(clip):
        raise PerceptError("one picture is no clip; a clip of one frame is given as a list: [picture]")
    frames = as_list(clip)
    if not frames:
        raise PerceptError("a clip needs at least one frame; none were given")
    for frame in frames:
        if isinstance(frame, FILES_AND_PIXELS[:2]) and is_video(frame):
            raise PerceptError(f"a list holds the frames of one clip, {frame} is a video file: give one at a time")
    sizes = [_size(frame) for frame in frames]
    for number, size in enumerate(sizes):
        if size is not None and size != sizes[0]:
            first = "no pixels" if sizes[0] is None else f"{sizes[0][0]} × {sizes[0][1]}"
            raise PerceptError(
                f"frame {number} of the clip has {size[0]} × {size[1]} pixels, frame 0 has {first}; all frames of a "
                "clip have one size: resize them, or give pictures that are no clip to encoder.image"
            )
    return frames


def _size(frame: Any) -> tuple[int, int] | None:
    """Return width and height; None for what reading will refuse with better words."""
    if isinstance(frame, Tensor):
        return (frame.shape[-1], frame.shape[-2]) if frame.ndim == 3 else None
    uint8 = not isinstance(frame, np.ndarray) or frame.dtype == np.uint8
    return upright_size(frame) if isinstance(frame, FILES_AND_PIXELS) and uint8 else None


def pick(frames: list[Any], sampling: Sampling) -> list[Any]:
    """Return the frames that stand for a list of them, as if one were shown per second."""
    times = np.arange(len(frames), dtype=np.float64)
    return [frames[number] for number in choose(times, float(len(frames)), sampling.frames, sampling.choice)]


def check_windows(windows: Windows) -> list[tuple[float, float]]:
    """Return windows as pairs of seconds.

    Raises:
        PerceptError: not a list of [start, end].
    """
    pairs = windows.tolist() if isinstance(windows, np.ndarray | Tensor) else windows
    try:
        return [(float(start), float(end)) for start, end in pairs]
    except (TypeError, ValueError):
        raise PerceptError(
            f"windows are a list of [start, end] in seconds, [[0, 2.5], [2.5, 5]]; given {windows!r}"
        ) from None


def tensors(
    video: Video, numbers: Sequence[int], preprocess: Preprocess
) -> Iterator[tuple[int, UInt8[Tensor, "3 y x"]]]:
    """Yield (number, pixels at the model's size) of frames, ascending, each once."""
    for number, picture in video.frames(numbers):
        yield number, preprocess(picture)


def whole_file(path: Any, sampling: Sampling, preprocess: Preprocess) -> tuple[UInt8[Tensor, "t 3 y x"], list[int]]:
    """Return the frames that stand for a video file, each once, and the row that each chosen one has among them."""
    with open_video(path) as video:
        numbers = sampling.of(video)
        found = dict(tensors(video, numbers, preprocess))
    places = {number: row for row, number in enumerate(found)}
    return torch.stack(list(found.values())), [places[number] for number in numbers]


def averaged(frames: Float[Tensor, "t d"], average: str) -> Float[Tensor, " d"]:
    """Return one vector from those of the frames, which are not of unit length.

    As in the published evaluations (arXiv:2504.13181): for retrieval the mean of unit vectors, itself not of unit
    length; for zero-shot classification the mean of the vectors as they are, then made unit.
    """
    mean = average_frames(frames.float(), normalize=average == "retrieval")
    return mean if average == "retrieval" else unit(mean)


def check_average(average: str) -> str:
    """Return the name of a way to average.

    Raises:
        PerceptError: there is no such way.
    """
    if average not in AVERAGES:
        raise unknown_name("way to average frames", str(average), AVERAGES)
    return average
