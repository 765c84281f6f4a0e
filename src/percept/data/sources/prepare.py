"""From a sample to an item, and from items to a batch: images or videos with captions, or with classes.

Items hold NumPy arrays of 8-bit pixels, which are small to send between processes; batches are normalised.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from percept.core.errors import PerceptError
from percept.core.report import notice
from percept.data.batch import Batch, ImageText, Labelled
from percept.data.sources.batches import ImageCaptions, Samples, VideoCaptions, VideoText
from percept.data.sources.captions import CaptionChoice
from percept.data.sources.sample import BadSample, Media, Sample
from percept.data.tokenizers import Tokenizer
from percept.data.transforms import Preprocess, read_pixels
from percept.data.video import choose, frames_within, open_video
from percept.data.video.files import library


class Captioned(NamedTuple):
    """An item: pixels with a text or its token ids."""

    pixels: UInt8[np.ndarray, "*t 3 y x"]
    text: str
    ids: list[int] | None


def pixels_of(image: Media, preprocess: Preprocess, key: str) -> UInt8[np.ndarray, "3 y x"]:
    """Decode and preprocess an image.

    Raises:
        BadSample: it is missing or broken.
    """
    _check_there(image, key)
    try:
        return read_pixels(image, preprocess).numpy()
    except PerceptError as error:
        raise BadSample("broken image", key, str(error)) from None


def frames_of(
    video: Media,
    preprocess: Preprocess,
    key: str,
    *,
    frames: int,
    choice: str,
    window: tuple[float, float] | None = None,
) -> UInt8[np.ndarray, "t 3 y x"]:
    """Decode and preprocess the frames that stand for a video, or for a window [start, end) of it in seconds.

    Raises:
        BadSample: it is missing or broken.
    """
    _check_there(video, key)
    try:
        with open_video(video) as opened:
            times, end = opened.times, opened.duration
            part = range(len(opened)) if window is None else frames_within(times, end, window)
            begin = times[part.start : part.stop].copy()
            if window is not None:
                begin[0], end = max(begin[0], window[0]), min(end, window[1])
            numbers = [part[number] for number in choose(begin, float(end), frames, choice)]
            images = {number: preprocess(image).numpy() for number, image in opened.frames(numbers)}
            numbers += repeat(numbers[-1], frames - len(numbers))  # `plm` takes each frame of a short clip once
            return np.stack([images[number] for number in numbers])
    except PerceptError as error:
        raise BadSample("broken video", key, str(error)) from None


def _check_there(media: Media, key: str) -> None:
    if not isinstance(media, bytes) and not os.path.isfile(media):  # False for names that are too long
        raise BadSample("missing file", key, str(media))


@dataclass(frozen=True, kw_only=True)
class ImageCaption:
    """Makes items of images with captions."""

    preprocess: Preprocess
    captions: CaptionChoice = field(default_factory=CaptionChoice)
    tokenizer: Tokenizer | None = None

    def __call__(self, sample: Sample, seed: int) -> Captioned:
        """Read the sample's first image and choose its caption."""
        text = self.captions.of(sample, seed)
        if not sample.images:
            raise BadSample("no image", sample.key, f"its fields: {', '.join(sample.record) or 'none'}")
        return Captioned(pixels_of(sample.images[0], self.preprocess, sample.key), text, _ids(self.tokenizer, text))


@dataclass(frozen=True, kw_only=True)
class VideoCaption:
    """Makes items of videos with captions; `start_time` and `end_time` of a row, in seconds, limit the part that is seen."""

    preprocess: Preprocess
    frames: int
    """Frames that stand for a video."""
    choice: str = "pe-evaluation"
    """A name of `percept.data.video.CHOICES`."""
    captions: CaptionChoice = field(default_factory=CaptionChoice)
    tokenizer: Tokenizer | None = None

    def __post_init__(self) -> None:
        choose(np.zeros(1), 1.0, self.frames, self.choice)
        library()

    def __call__(self, sample: Sample, seed: int) -> Captioned:
        """Read the sample's frames and choose its caption."""
        text = self.captions.of(sample, seed)
        if sample.video is None:
            raise BadSample("no video", sample.key, f"its fields: {', '.join(sample.record) or 'none'}")
        pixels = frames_of(
            sample.video, self.preprocess, sample.key, frames=self.frames, choice=self.choice, window=_window(sample)
        )
        return Captioned(pixels, text, _ids(self.tokenizer, text))


def _window(sample: Sample) -> tuple[float, float] | None:
    start, end = sample.record.get("start_time"), sample.record.get("end_time")
    if start is None and end is None:
        return None
    try:
        return float(start or 0.0), float("inf") if end is None else float(end)
    except (TypeError, ValueError):
        raise BadSample("wrong type", sample.key, f"start_time={start!r}, end_time={end!r}") from None


@dataclass(frozen=True, kw_only=True)
class ImageLabel:
    """Makes items of images with the number of their class."""

    preprocess: Preprocess
    classes: tuple[str, ...]
    """Names of all classes; a class's number is its place."""

    def __call__(self, sample: Sample, seed: int) -> tuple[np.ndarray, int]:
        """Read the sample's first image."""
        if sample.label not in self.classes:
            raise BadSample("unknown class", sample.key, f"{sample.label!r}")
        if not sample.images:
            raise BadSample("no image", sample.key)
        return pixels_of(sample.images[0], self.preprocess, sample.key), self.classes.index(sample.label)


def as_it_is(sample: Sample, seed: int) -> Sample:
    """Return the sample."""
    return sample


@dataclass(frozen=True, kw_only=True)
class CaptionCollate:
    """Makes batches of images or videos with texts, or with token ids if there is a tokenizer."""

    preprocess: Preprocess
    tokenizer: Tokenizer | None = None
    video: bool = False
    reported: list[int] = field(default_factory=list, compare=False, repr=False)
    """Captions that were cut, when that was reported for the first time."""

    def __call__(self, items: list[Captioned]) -> Batch:
        """Stack items."""
        pixels = _normalised(self.preprocess, [item.pixels for item in items])
        if self.tokenizer is None:
            text = tuple(item.text for item in items)
            return VideoCaptions(frames=pixels, text=text) if self.video else ImageCaptions(image=pixels, text=text)
        tokens = self._rows(self.tokenizer, items)
        return VideoText(frames=pixels, tokens=tokens) if self.video else ImageText(image=pixels, tokens=tokens)

    def _rows(self, tokenizer: Tokenizer, items: Sequence[Captioned]) -> Int[Tensor, "b n"]:
        room = tokenizer.context - 2
        rows = torch.zeros(len(items), tokenizer.context, dtype=torch.int64)
        for row, item in zip(rows, items, strict=True):
            ids = [tokenizer.start_id, *(item.ids or [])[:room], tokenizer.end_id]
            row[: len(ids)] = torch.tensor(ids)
        if not self.reported and (cut := sum(len(item.ids or []) > room for item in items)):
            self.reported.append(cut)
            notice(f"captions longer than {tokenizer.context} tokens are cut: {cut} of {len(items)} in this batch")
        return rows


@dataclass(frozen=True, kw_only=True)
class LabelCollate:
    """Makes batches of images with class numbers."""

    preprocess: Preprocess
    classes: tuple[str, ...]
    """Names of all classes, so that sources with different ones are not mixed."""

    def __call__(self, items: list[tuple[np.ndarray, int]]) -> Labelled:
        """Stack items."""
        label = torch.tensor([number for _, number in items])
        return Labelled(image=_normalised(self.preprocess, [pixels for pixels, _ in items]), label=label)


def collate_samples(items: list[Sample]) -> Samples:
    """Make a batch of rows as they are."""
    return Samples(samples=tuple(items))


def _normalised(preprocess: Preprocess, arrays: Sequence[np.ndarray]) -> Float[Tensor, "b *t 3 y x"]:
    if len({array.shape for array in arrays}) > 1:
        raise PerceptError(
            f"resize={preprocess.resize!r} gives these images different sizes, which do not make a batch. Use squash, crop or pad."
        )
    return preprocess.normalise(torch.from_numpy(np.stack(arrays)))


def _ids(tokenizer: Tokenizer | None, text: Any) -> list[int] | None:
    return None if tokenizer is None else tokenizer.encode(text)
