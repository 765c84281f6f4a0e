"""A trained localiser with everything around it that a user needs: a video and a text in, seconds out."""

from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from percept.core.errors import PerceptError
from percept.data.video import open_video
from percept.infer.encoder import Encoder

LONGEST = 48
"""Most frames that are read at once."""


@runtime_checkable
class Locates(Protocol):
    """What a `Localizer` runs."""

    config: Any
    """Has `image_size`, the side of a frame in pixels, and `rate`, frames per second."""

    def find(self, pixels: Float[Tensor, "t 3 y x"], tokens: Int[Tensor, "1 n"], /) -> Any:
        """Return spans of one text in the frames: start and end, frames that belong to them, and score."""
        ...


@dataclass(frozen=True, kw_only=True)
class Moment:
    """Where in a video something happens."""

    start: float
    """Seconds."""
    stop: float
    """Seconds."""
    score: float
    """Log-probability of this start and this end among the frames that were read."""


class Localizer:
    """A method that finds moments, with the preprocessing and tokenizer of its base encoder; `percept.load` makes one."""

    def __init__(self, method: Locates, encoder: Encoder, *, name: str) -> None:
        """Wrap a method on the device and in the number type of the encoder.

        Args:
            method: finds spans of frames.
            encoder: its base model.
            name: what the method was loaded as.
        """
        if encoder.tokenizer is None:
            raise PerceptError(f"{encoder.name} has no tokenizer, so queries cannot be read. Give tokenizer=.")
        self.method, self.encoder, self.name = method, encoder, name
        self._preprocess = replace(encoder.preprocess, size=method.config.image_size)

    def __repr__(self) -> str:
        return f"Localizer({self.name}, {type(self.method).__name__} on {self.encoder.name}, {self.encoder.setting})"

    def find(self, video: Any, text: str, *, near: float | None = None) -> Moment:
        """Return when in a video something happens.

        At most LONGEST frames are read, at the rate of the method: the whole of a short video, and of a longer one the part around
        `near`.

        Args:
            video: a file, or the bytes of one.
            text: what happens.
            near: second in the middle of the part that is read; default: the middle of the video.

        Raises:
            PerceptError: an empty text, or a video that cannot be read.
        """
        if not text.strip():
            raise PerceptError("the text is empty. Describe what happens.")
        with open_video(video) as opened:
            seconds = _seconds(opened.duration, self.method.config.rate, near)
            numbers = np.unique(np.maximum(np.searchsorted(opened.times, seconds + 1e-6, side="right") - 1, 0))
            images = [self._preprocess(image) for _, image in opened.frames(numbers.tolist())]
            edges = np.append(
                opened.times[numbers], min(float(seconds[-1]) + 1 / self.method.config.rate, opened.duration)
            )
        found = self._find(torch.stack(images), text)
        first, last = (float(each.float().cpu()[0]) for each in (found.start, found.end))
        start, stop = np.interp((first, last + 1), np.arange(len(edges)), edges).tolist()
        return Moment(start=start, stop=stop, score=float(found.score[0]))

    @torch.no_grad()
    def _find(self, images: Tensor, text: str) -> Any:
        assert self.encoder.tokenizer is not None
        setting = self.encoder.setting
        pixels = self.encoder.preprocess.normalise(images).to(setting.device, setting.dtype)
        return self.method.find(pixels, self.encoder.tokenizer([text]).to(setting.device))


def _seconds(duration: float, rate: float, near: float | None) -> Float[np.ndarray, " t"]:
    """Return regular times at most LONGEST long, around a second.

    >>> _seconds(1.0, 4.0, None).tolist(), _seconds(100.0, 4.0, 99.0).tolist()[::47]
    ([0.0, 0.25, 0.5, 0.75], [88.0, 99.75])
    """
    length = min(duration, LONGEST / rate)
    middle = duration / 2 if near is None else near
    start = min(max(middle - length / 2, 0.0), duration - length)
    return start + np.arange(max(1, round(length * rate))) / rate
