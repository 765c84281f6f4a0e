"""What a user may pass as a clip, the frames that stand for it, and the vectors of files.

`Clip`: a video file (its path or its bytes), or frames: a list of images, a uint8 array [t, y, x, 3], a uint8 tensor [t, 3, y, x],
or a float tensor [t, 3, y, x] that is preprocessed already.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from percept.core.errors import PerceptError, unknown_name
from percept.data.files import BadFile, is_video
from percept.data.images import upright_size
from percept.data.transforms import Preprocess
from percept.data.video import Video, choose, frames_within, open_video
from percept.infer.images import FILES_AND_PIXELS, as_iterable, is_single
from percept.infer.runner import Runner
from percept.models.clip import average_frames, unit

if TYPE_CHECKING:
    from percept.infer.images import ImageInputs

    Clip: TypeAlias = ImageInputs
    Windows: TypeAlias = Sequence[Sequence[float]] | np.ndarray | Tensor
    Count: TypeAlias = int
else:
    # Wrong types reach the checks below, whose messages are written for users.
    Clip = Windows = Count = Any

FRAMES = 8
"""Frames that stand for a video file by default, as published."""
AVERAGES = ("retrieval", "zero-shot")
Step: TypeAlias = Callable[[list[Tensor]], Iterable[Tensor]]
"""Batches that run together → one vector per image."""


@dataclass(frozen=True, kw_only=True)
class FileVector:
    """The unit-length vector of one image or video file."""

    path: Path
    vector: Float[Tensor, " d"]


@dataclass(frozen=True, kw_only=True)
class FileVectors:
    """Vectors of many image and video files."""

    paths: list[Path]
    """Files that were read, in the order given."""
    vectors: Float[Tensor, "n d"]
    """Of unit length."""
    bad: list[BadFile]
    """Files that could not be read, with reasons."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How many frames stand for a clip, and which."""

    frames: Count = FRAMES
    choice: str = "pe-evaluation"
    """A name of `percept.data.video.CHOICES`."""

    def check(self) -> "Sampling":
        """Return the same with a plain number of frames.

        Raises:
            PerceptError: `frames` is not a positive integer, or there is no such choice.
        """
        if isinstance(self.frames, bool) or not isinstance(self.frames, int | np.integer):
            raise PerceptError(f"frames must be a positive integer, got {self.frames!r}; 8 is usual")
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
    """Return True for a clip given as a video file, False for frames."""
    return is_single(clip) and isinstance(clip, FILES_AND_PIXELS[:4])


def check_frames(clip: Any) -> list[Any]:
    """Return the frames of a clip as a list.

    Raises:
        PerceptError: no frames, a single image, video files, or frames of unequal size.
    """
    if is_single(clip):
        raise PerceptError("a clip is a list of frames; for one frame pass [image]")
    frames = list(as_iterable(clip))
    if not frames:
        raise PerceptError("a clip needs at least one frame, got none")
    for frame in frames:
        if isinstance(frame, FILES_AND_PIXELS[:2]) and is_video(frame):
            raise PerceptError(
                f"{frame} is a video file, but a list holds the frames of one clip. Pass one file at a time"
            )
    sizes = [_size(frame) for frame in frames]
    for number, size in enumerate(sizes):
        if size is not None and size != sizes[0]:
            first = "no pixels" if sizes[0] is None else f"{sizes[0][0]} × {sizes[0][1]}"
            raise PerceptError(
                f"frame {number} of the clip has {size[0]} × {size[1]} pixels, frame 0 has {first}. All frames must have one size: "
                "resize them, or pass images that are not a clip to encoder.image"
            )
    return frames


def _size(frame: Any) -> tuple[int, int] | None:
    """Return width and height; None for what reading will refuse with a better message."""
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
            f"windows must be a list of [start, end] in seconds such as [[0, 2.5], [2.5, 5]], got {windows!r}"
        ) from None


def tensors(
    video: Video, numbers: Sequence[int], preprocess: Preprocess
) -> Iterator[tuple[int, UInt8[Tensor, "3 y x"]]]:
    """Yield (number, pixels at the model's size) of frames; `numbers` ascend without repetition."""
    for number, frame in video.frames(numbers):
        yield number, preprocess(frame)


def whole_file(path: Any, sampling: Sampling, preprocess: Preprocess) -> tuple[UInt8[Tensor, "t 3 y x"], list[int]]:
    """Return the distinct frames that stand for a video file, and the row of each chosen frame among them."""
    with open_video(path) as video:
        numbers = sampling.of(video)
        frames = dict(tensors(video, numbers, preprocess))
    rows = {number: row for row, number in enumerate(frames)}
    return torch.stack(list(frames.values())), [rows[number] for number in numbers]


def of_video(
    source: Any,
    sampling: Sampling,
    windows: list[tuple[float, float]] | None,
    preprocess: Preprocess,
    runner: Runner,
    step: Step,
) -> list[Float[Tensor, "t d"]]:
    """Return the raw vectors of the frames of each window of a video file, or of the whole file; every frame runs once."""
    with open_video(source) as video:
        spans = [None] if windows is None else windows
        chosen = [sampling.of(video, span) for span in spans]
        numbers = sorted({number for row in chosen for number in row})
        vectors = dict(runner.run(tensors(video, numbers, preprocess), step, total=len(numbers)))
    return [torch.stack([vectors[number] for number in row]) for row in chosen]


def by_file(
    files: Iterable[tuple[Path, Tensor, list[int]] | BadFile], runner: Runner, step: Step, total: int
) -> Iterator[FileVector | BadFile]:
    """Yield the vector of each file, or its reason, in order.

    Args:
        files: (path, distinct frames [t, 3, y, x], rows of the chosen frames among them), or why a file cannot be read.
        runner: runs the frames of all files as one stream.
        step: computes raw vectors.
        total: number of files, for the progress bar.
    """
    waiting: list[_Waiting] = []
    for (place, _), vector in runner.run(_frames(files, waiting), step, total=total):
        place.vectors.append(vector)
        while waiting and waiting[0].done:
            yield waiting.pop(0).result()
    yield from (place.result() for place in waiting)


def collected(results: Iterable[FileVector | BadFile], dim: int) -> FileVectors:
    """Return the results of `by_file` as one matrix [n, dim] and the files that could not be read."""
    read: list[FileVector] = []
    bad: list[BadFile] = []
    for result in results:
        (bad if isinstance(result, BadFile) else read).append(result)  # type: ignore[arg-type]
    vectors = torch.stack([result.vector for result in read]) if read else torch.zeros(0, dim)
    return FileVectors(paths=[result.path for result in read], vectors=vectors, bad=bad)


@dataclass(kw_only=True)
class _Waiting:
    """A file whose frames are on their way through the model, or that could not be read."""

    path: Path = Path()
    frames: int = 0
    rows: Sequence[int] = ()
    bad: BadFile | None = None
    vectors: list[Tensor] = field(default_factory=list)

    @property
    def done(self) -> bool:
        return len(self.vectors) == self.frames

    def result(self) -> FileVector | BadFile:
        if self.bad is not None:
            return self.bad
        frames = torch.stack([self.vectors[row] for row in self.rows])
        return FileVector(path=self.path, vector=averaged(frames, "zero-shot"))


def _frames(
    files: Iterable[tuple[Path, Tensor, list[int]] | BadFile], waiting: list[_Waiting]
) -> Iterator[tuple[tuple[_Waiting, int], Tensor]]:
    """Yield the frames of all files, and append each file to `waiting` when its first frame is taken."""
    for content in files:
        if isinstance(content, BadFile):
            waiting.append(_Waiting(bad=content))
            continue
        path, frames, rows = content
        place = _Waiting(path=path, frames=len(frames), rows=rows)
        waiting.append(place)
        yield from (((place, row), frame) for row, frame in enumerate(frames))


def averaged(frames: Float[Tensor, "t d"], average: str) -> Float[Tensor, " d"]:
    """Return one vector from the raw vectors of the frames.

    As in the published evaluations (arXiv:2504.13181): for retrieval the mean of unit vectors, which is not scaled to unit length
    again; for zero-shot classification the mean of the raw vectors, scaled to unit length.
    """
    mean = average_frames(frames.float(), normalize=average == "retrieval")
    return mean if average == "retrieval" else unit(mean)


def check_average(average: str) -> str:
    """Return the name of a way to average frames.

    Raises:
        PerceptError: unknown name.
    """
    if average not in AVERAGES:
        raise unknown_name("way to average frames", str(average), AVERAGES)
    return average
