"""From a sample to an item, and from items to a batch: images or videos with captions, or with classes.

Items hold NumPy arrays of 8-bit pixels, which are small to send between processes; batches are normalised.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image
from torch import Tensor

from percept.core.errors import PerceptError
from percept.core.report import notice
from percept.core.seed import derive
from percept.data.augment import Augment, Masking, augmented, normalise_jittered
from percept.data.batch import Batch, ImageText, Labelled
from percept.data.sources.batches import ImageCaptions, Samples, VideoCaptions, VideoText, ViewsCaptions, ViewsText
from percept.data.sources.captions import CaptionChoice
from percept.data.sources.sample import BadSample, Media, Sample
from percept.data.tokenizers import Tokenizer
from percept.data.transforms import Preprocess, read_pixels
from percept.data.video import choose, frames_within, open_video
from percept.data.video.files import library


class Pixels(NamedTuple):
    """8-bit pixels of an image, of several views of it, or of the frames of a video."""

    values: UInt8[np.ndarray, "*t 3 y x"]
    colours: tuple[tuple[float, float], ...] = ()
    """Brightness and saturation that are changed with normalisation: of each view, or one for all frames; () to change none."""


class Captioned(NamedTuple):
    """An item: pixels with a text or its token ids."""

    pixels: Pixels
    text: str
    ids: list[int] | None
    hidden: Bool[np.ndarray, "*v k"] | None = None


class Classed(NamedTuple):
    """An item: pixels with the number of their class."""

    pixels: Pixels
    number: int


def pixels_of(image: Media, preprocess: Preprocess, key: str, augment: Augment | None, seed: int) -> Pixels:
    """Decode and preprocess an image, or make its views; a single view has no axis of views.

    Raises:
        BadSample: it is missing or broken.
    """
    _check_there(image, key)
    try:
        if augment is None:
            return Pixels(read_pixels(image, preprocess).numpy())
        views = augmented(image, preprocess, augment, derive(seed, "augment"))
        values = [pixels.numpy() for pixels in views.pixels]
        return Pixels(values[0] if augment.views == 1 else np.stack(values), views.colours)
    except PerceptError as error:
        raise BadSample("broken image", key, str(error)) from None


def frames_of(
    video: Media,
    key: str,
    *,
    frames: int,
    choice: str,
    pixels_of: Callable[[Image.Image], UInt8[Tensor, "3 y x"]],
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
            images = {number: pixels_of(image).numpy() for number, image in opened.frames(numbers)}
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
    augment: Augment | None = None

    def __call__(self, sample: Sample, seed: int) -> Captioned:
        """Read the sample's first image and choose its caption."""
        text = self.captions.of(sample, seed)
        if not sample.images:
            raise BadSample("no image", sample.key, f"its fields: {', '.join(sample.record) or 'none'}")
        pixels = pixels_of(sample.images[0], self.preprocess, sample.key, self.augment, seed)
        return Captioned(pixels, text, _ids(self.tokenizer, text), self._hidden(seed))

    def _hidden(self, seed: int) -> Bool[np.ndarray, "*v k"] | None:
        if self.augment is None:
            return None
        hidden = self.augment.hidden(self.preprocess.shape, derive(seed, "augment"))
        return hidden[0] if hidden is not None and self.augment.views == 1 else hidden


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
    augment: Augment | None = None

    def __post_init__(self) -> None:
        choose(np.zeros(1), 1.0, self.frames, self.choice)
        library()

    def __call__(self, sample: Sample, seed: int) -> Captioned:
        """Read the sample's frames and choose its caption."""
        text = self.captions.of(sample, seed)
        if sample.video is None:
            raise BadSample("no video", sample.key, f"its fields: {', '.join(sample.record) or 'none'}")
        return Captioned(self._pixels(sample, sample.video, seed), text, _ids(self.tokenizer, text))

    def _pixels(self, sample: Sample, video: Media, seed: int) -> Pixels:
        """Read frames; with `augment` all of them have the same view."""
        colours: dict[tuple[float, float], None] = {}

        def viewed(image: Image.Image) -> UInt8[Tensor, "3 y x"]:
            if self.augment is None:
                return self.preprocess(image)
            view = self.augment.draw(image.size, self.preprocess.shape, derive(seed, "augment"))
            colours[view.colour] = None
            return view.cropped(image)

        values = frames_of(
            video, sample.key, frames=self.frames, choice=self.choice, pixels_of=viewed, window=_window(sample)
        )
        return Pixels(values, tuple(colours))


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
    augment: Augment | None = None

    def __call__(self, sample: Sample, seed: int) -> Classed:
        """Read the sample's first image."""
        if sample.label not in self.classes:
            raise BadSample("unknown class", sample.key, f"{sample.label!r}")
        if not sample.images:
            raise BadSample("no image", sample.key)
        pixels = pixels_of(sample.images[0], self.preprocess, sample.key, self.augment, seed)
        return Classed(pixels, self.classes.index(sample.label))


def as_it_is(sample: Sample, seed: int) -> Sample:
    """Return the sample."""
    return sample


@dataclass(frozen=True, kw_only=True)
class CaptionCollate:
    """Makes batches of images or videos with texts, or with token ids if there is a tokenizer."""

    preprocess: Preprocess
    tokenizer: Tokenizer | None = None
    video: bool = False
    views: int = 1
    mask: Masking | None = None
    reported: list[int] = field(default_factory=list, compare=False, repr=False)
    """Captions that were cut, when that was reported for the first time."""

    def __call__(self, items: list[Captioned]) -> Batch:
        """Stack items."""
        pixels = _normalised(self.preprocess, [item.pixels for item in items])
        plain = self.views == 1 and self.mask is None
        if self.tokenizer is None:
            text = tuple(item.text for item in items)
            if not plain:
                return ViewsCaptions(image=pixels, text=text, hidden=_stacked([item.hidden for item in items]))
            return VideoCaptions(frames=pixels, text=text) if self.video else ImageCaptions(image=pixels, text=text)
        tokens = self._rows(self.tokenizer, items)
        if not plain:
            return ViewsText(image=pixels, tokens=tokens, hidden=_stacked([item.hidden for item in items]))
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

    def __call__(self, items: list[Classed]) -> Labelled:
        """Stack items."""
        label = torch.tensor([item.number for item in items])
        return Labelled(image=_normalised(self.preprocess, [item.pixels for item in items]), label=label)


def collate_samples(items: list[Sample]) -> Samples:
    """Make a batch of rows as they are."""
    return Samples(samples=tuple(items))


def _normalised(preprocess: Preprocess, items: Sequence[Pixels]) -> Float[Tensor, "b *t 3 y x"]:
    if len({item.values.shape for item in items}) > 1:
        raise PerceptError(
            f"resize={preprocess.resize!r} gives these images different sizes, which do not make a batch. Use squash, crop or pad."
        )
    rows = torch.empty(len(items), *items[0].values.shape)
    for row, item in zip(rows, items, strict=True):  # one by one, so that each is still in the processor's cache
        _normalise(preprocess, item, row)
    return rows


def _normalise(preprocess: Preprocess, item: Pixels, out: Float[Tensor, "*t 3 y x"]) -> None:
    values = torch.from_numpy(item.values)
    if not item.colours:
        preprocess.normalise(values, out=out)
        return
    images, rows = values.view(-1, *values.shape[-3:]), out.view(-1, *out.shape[-3:])
    colours = item.colours * (len(images) // len(item.colours))
    for image, colour, row in zip(images, colours, rows, strict=True):
        normalise_jittered(image, preprocess, colour, out=row)


def _stacked(arrays: Sequence[np.ndarray | None]) -> Bool[Tensor, "b *v k"] | None:
    given = [array for array in arrays if array is not None]
    return torch.from_numpy(np.stack(given)) if given else None


def _ids(tokenizer: Tokenizer | None, text: Any) -> list[int] | None:
    return None if tokenizer is None else tokenizer.encode(text)
