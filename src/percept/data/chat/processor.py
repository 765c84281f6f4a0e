"""From a conversation to what a language model takes: ids with image tokens, and the tiles that replace them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from percept.core.errors import PerceptError
from percept.data.chat.conversation import Conversation, ImageInput, Media, VideoInput
from percept.data.chat.regions import check_box, draw_box
from percept.data.chat.template import Rendered, Template, render
from percept.data.chat.tiles import Tiler, stretched
from percept.data.chat.vocabulary import LanguageTokenizer
from percept.data.images import decoded
from percept.data.transforms import pixels_of
from percept.data.video import choose, frames_within, open_video
from percept.data.video.choice import Times

FRAMES = 32
"""Most frames of a video, as published."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A conversation that is ready for a model."""

    rendered: Rendered
    tiles: tuple[UInt8[Tensor, "_ 3 y x"], ...]
    """Tiles or frames of each medium, in the order of their places in the text; values 0 to 255."""

    def __len__(self) -> int:
        return len(self.rendered.ids)

    @property
    def stacked(self) -> UInt8[Tensor, "k 3 y x"]:
        """Tiles of all media; empty without media."""
        return torch.cat(self.tiles) if self.tiles else torch.empty(0, 3, 1, 1, dtype=torch.uint8)


@dataclass(frozen=True, kw_only=True)
class Processor:
    """Everything between a conversation and a model."""

    tokenizer: LanguageTokenizer
    template: Template
    tiler: Tiler
    per_tile: int
    """Visual tokens of a tile or frame."""
    frames: int = FRAMES
    """Most frames of a video."""
    tile_several: bool = False
    """True to cut every image of a conversation with several; False for one squashed tile each, as in PLM."""

    def changed(
        self, *, tiles: int | None = None, budget: int | None = None, mode: str | None = None, frames: int | None = None
    ) -> "Processor":
        """Return the same with a different number of tiles or frames.

        Args:
            tiles: most tiles of an image besides the thumbnail.
            budget: most visual tokens of an image.
            mode: a name of `tiles.MODES`.
            frames: most frames of a video.

        Raises:
            PerceptError: a value is out of range or not an integer.
        """
        for name, value in (("tiles", tiles), ("budget", budget), ("frames", frames)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
                raise PerceptError(f"{name} must be an integer, got {value!r}.")
        tiler = self.tiler if tiles is None else replace(self.tiler, most=tiles)
        tiler = tiler if mode is None else replace(tiler, mode=mode)
        tiler = tiler if budget is None else tiler.within(budget, self.per_tile)
        if frames is not None and frames < 1:
            raise PerceptError(f"frames={frames} is too small. Use at least 1 frame of a video.")
        return replace(self, tiler=tiler, frames=self.frames if frames is None else frames)

    def __call__(self, conversation: Conversation, *, ask: bool = False) -> Prepared:
        """Read the media and render the conversation.

        Args:
            ask: end with the header of an answer, for generation.

        Raises:
            PerceptError: an image or video cannot be read, a box lies outside, or the turns do not alternate.
        """
        by_number = [self.read(media, several=self.squashes(conversation)) for media in conversation.media]
        counts = [len(tiles) * self.per_tile for tiles in by_number]
        rendered = render(conversation, self.template, self.tokenizer, counts, ask=ask, per_tile=self.per_tile)
        order = [part for turn in conversation.turns for part in turn.parts if isinstance(part, int)]
        return Prepared(rendered=rendered, tiles=tuple(by_number[number] for number in order))

    def squashes(self, conversation: Conversation) -> bool:
        """Return True if every image of a conversation becomes one squashed tile."""
        return len(conversation.media) > 1 and not self.tile_several

    def read(self, media: Media, *, several: bool = False) -> UInt8[Tensor, "k 3 y x"]:
        """Return the tiles of an image, or the frames of a video.

        Args:
            several: make one squashed tile of an image, whatever its size.

        Raises:
            PerceptError: it cannot be read, or a box lies outside.
        """
        if isinstance(media, VideoInput):
            return self._video(media)
        with decoded(media.source) as image:
            tiler = replace(self.tiler, mode="single") if several else self.tiler
            return tiler(_marked(image, media))

    def _video(self, media: VideoInput) -> UInt8[Tensor, "t 3 y x"]:
        if isinstance(media.source, Sequence) and not isinstance(media.source, str | bytes):
            return self._listed(media)
        with open_video(media.source) as video:
            numbers = _frames_of(video.times, video.duration, media, self.frames)
            return torch.stack([self._frame(frame, media, number) for number, frame in video.frames(numbers)])

    def _listed(self, media: VideoInput) -> UInt8[Tensor, "t 3 y x"]:
        """Read a video that is given as a list of frames, one per second."""
        frames: Sequence[Any] = media.source
        if not len(frames):
            raise PerceptError("the video has no frames. Give at least one.")
        chosen = []
        seconds = np.arange(len(frames), dtype=np.float64)
        for number in _frames_of(seconds, float(len(frames)), media, self.frames):
            with decoded(frames[number]) as image:
                chosen.append(self._frame(image, media, number))
        return torch.stack(chosen)

    def _frame(self, image: Image.Image, media: VideoInput, number: int) -> UInt8[Tensor, "3 y x"]:
        box = media.boxes.get(number)
        if box is not None:
            image = draw_box(image, check_box(box, image.width, image.height))
        return stretched(pixels_of(image), self.tiler.size, self.tiler.size)


def _marked(image: Image.Image, media: ImageInput) -> Image.Image:
    for box in media.boxes:
        image = draw_box(image, check_box(box, image.width, image.height))
    return image


def _frames_of(times: Times, duration: float, media: VideoInput, most: int) -> list[int]:
    """Return the numbers of the frames that stand for a video, or for the part of it between two seconds."""
    part, end = range(len(times)), duration
    if media.start is not None or media.end is not None:
        window = float(media.start or 0), math.inf if media.end is None else float(media.end)
        part, end = frames_within(times, duration, window), min(duration, window[1])
    times = times[part.start : part.stop]
    return [part[number] for number in choose(times, max(end, float(times[-1]) + 1e-6), most, "plm")]
