"""One pass over a set: images and videos are decoded by threads, go through the model in chunks, and are not kept."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from percept.core.errors import PerceptError
from percept.core.report import notice, track
from percept.core.words import count
from percept.data.files import BadFile, read_each
from percept.data.images import decoded
from percept.data.sources.sample import BadSample, Media
from percept.data.transforms import Preprocess
from percept.data.video import open_video
from percept.eval.sets.item import EvaluationSet, Item, UnknownClass
from percept.eval.sets.places import check_half, words_of
from percept.infer.clips import Sampling, averaged

IMAGES, CLIPS = 1024, 32
"""Images and clips that go through the model before their vectors are handed on."""


@dataclass(kw_only=True)
class Pass:
    """What a pass over a set has met so far."""

    data: EvaluationSet
    captioned: bool = False
    """Whether a sample without a caption is incomplete."""
    items: list[Item] = field(default_factory=list)
    """Samples that were read, without their images."""
    bad: list[BadFile] = field(default_factory=list)
    """Samples that could not be read or are incomplete, as their numbers, with reasons."""
    _digest: Any = field(default_factory=lambda: hashlib.blake2b(digest_size=16))

    def add(self, item: Item, size: int) -> None:
        """Count a sample that was read, of `size` bytes."""
        self.items.append(item)
        self._digest.update(json.dumps([item.key, item.labels, item.captions, item.window, size]).encode())

    def item(self, number: int) -> Item:
        """Read a sample.

        Raises:
            BadSample: the sample cannot be read, or is incomplete.
        """
        item = self.data.read(number)
        if self.captioned and not item.captions:
            raise BadSample("no caption", item.key)
        return item

    def all_items(self) -> list[Item]:
        """Return all samples that can be used, and report the others.

        Raises:
            PerceptError: more than half of them cannot be used.
        """
        for number in range(len(self.data)):
            try:
                self.items.append(self.item(number))
            except BadSample as error:
                self.leave_out(BadFile(Path(str(number)), words_of(error)))
        return self.done().items

    def leave_out(self, bad: BadFile) -> None:
        """Count a sample that cannot be used.

        Raises:
            PerceptError: more than half of the samples of the set cannot be used.
        """
        self.bad.append(bad)
        total, read = len(self.data), len(self.items) + len(self.bad)
        if 2 * len(self.bad) > total:
            check_half(self.data.path, "sample", len(self.bad), total, self._first(), "Check the files.", read=read)

    def done(self) -> "Pass":
        """Return the pass when the set is read.

        Raises:
            PerceptError: the set has no samples.
        """
        if not self.items:
            raise PerceptError(f"{self.data.path} holds no samples. Give a folder or file with at least one.")
        if self.bad:
            left_out = f"{len(self.bad):,} of {count(len(self.data), 'sample')} left out"
            notice(f"{self.data.name}: {left_out}{', such as' if len(self.bad) > 1 else ':'} {self._first()}")
        return self

    def _first(self) -> str:
        """Return the first bad sample with the reason."""
        return f"{self.where(int(str(self.bad[0].path)))}: {self.bad[0].reason}"

    def where(self, number: int) -> str:
        """Return the name of a sample in messages."""
        return (self.data.where or self.data.key)(number)

    def facts(self) -> dict[str, Any]:
        """Return what identifies the data that was measured, as plain data; equal hashes mean equal samples and classes."""
        self._digest.update(json.dumps([self.data.classes, len(self.bad)]).encode())
        facts: dict[str, Any] = {
            "name": self.data.name, "path": self.data.path, "layout": self.data.layout, "samples": len(self.items),
            "unreadable": len(self.bad), "classes": len(self.data.classes), "hash": self._digest.hexdigest(),
        }  # fmt: skip
        return facts | ({"remark": self.data.remarks} if self.data.remarks else {})


def chunks(
    seen: Pass, model: Any, compute: Callable[[Any], Float[Tensor, "n k"]], *, sampling: Sampling | None = None
) -> Iterator[tuple[list[Item], Float[Tensor, "n k"]]]:
    """Yield the samples of a set with one row of results each, some at a time.

    Args:
        seen: counts samples and those that cannot be read.
        model: whose preprocessing is used, where it has one.
        compute: images, or lists of frames for a set of videos → one row each.
        sampling: which frames stand for a video.
    """
    stream = _opened(seen, _preprocess(model), sampling or Sampling())
    size = CLIPS if seen.data.video else IMAGES
    while (first := next(stream, None)) is not None:
        start = len(seen.items)
        taken = (_noted(seen, each) for each in chain([first], islice(stream, size - 1)))
        rows = compute(taken)
        yield seen.items[start:], rows


def _noted(seen: Pass, opened: tuple[Item, int, Any]) -> Any:
    item, size, content = opened
    seen.add(item, size)
    return content


def _opened(seen: Pass, preprocess: Preprocess | None, sampling: Sampling) -> Iterator[tuple[Item, int, Any]]:
    """Yield samples, their sizes in bytes, and images or lists of frames; those that cannot be read go to `seen.bad`.

    Raises:
        PerceptError: the class of a sample has no name.
    """
    data = seen.data

    def read(path: Path) -> tuple[Item, int, Any] | UnknownClass | BadFile:
        try:
            item = seen.item(int(str(path)))
        except UnknownClass as error:
            return UnknownClass(error.reason, seen.where(int(str(path))), error.detail)
        except BadSample as error:
            return BadFile(path, words_of(error))
        content = _frames(item, sampling, preprocess) if data.video else _image(item.media, data.border, preprocess)
        size = len(item.media) if isinstance(item.media, bytes) else item.media.stat().st_size
        return replace(item, media=b""), size, content

    numbers = track((Path(str(number)) for number in range(len(data))), data.name, len(data))
    for result in read_each(numbers, read):
        if isinstance(result, UnknownClass):
            raise PerceptError(
                f"{data.path} has a sample whose class has no name: {result.key}, {result.detail}. Give the names of all its classes with --classes FILE."
            )
        if isinstance(result, BadFile):
            seen.leave_out(result)
        else:
            yield result


def _image(media: Media, border: int, preprocess: Preprocess | None) -> Any:
    """Return an image, at the model's size where its preprocessing is known, and without its border."""
    at_least = preprocess.at_least if preprocess is not None and not border else None
    with decoded(media, at_least=at_least) as image:
        inner = _cut(image, border)
        return inner.copy() if preprocess is None else preprocess(inner)


def _cut(image: Image.Image, border: int) -> Image.Image:
    if not border or min(image.size) <= 2 * border:
        return image
    return image.crop((border, border, image.width - border, image.height - border))


def _frames(item: Item, sampling: Sampling, preprocess: Preprocess | None) -> list[Any]:
    """Return the frames that stand for a video; one that is shown twice is repeated."""
    with open_video(item.media) as video:
        if item.window is not None and item.window[0] >= video.duration:
            raise BadSample("cut short", item.key, f"it ends at {video.duration:.1f} s, before {item.window[0]:.1f} s")
        numbers = sampling.of(video, item.window)
        frames = {
            number: frame.copy() if preprocess is None else preprocess(frame)
            for number, frame in video.frames(sorted(set(numbers)))
        }
    return [frames[number] for number in numbers]


def _preprocess(model: Any) -> Preprocess | None:
    """Return the preprocessing of an encoder, or of the encoder in a classifier."""
    found = getattr(model, "preprocess", None) or getattr(getattr(model, "encoder", None), "preprocess", None)
    return found if isinstance(found, Preprocess) else None


def frame_vectors(model: Any, clips: Any) -> list[Float[Tensor, "t d"]]:
    """Return the raw vectors of the frames of each clip, a list of frames; all of them go through the model as one stream."""
    counts: list[int] = []

    def frames() -> Iterator[Any]:
        for clip in clips:
            counts.append(len(clip))
            yield from clip

    rows = model.pooled(frames()).float()
    return list(rows.split(counts))


def clip_vectors(model: Any, clips: Any, average: str) -> Float[Tensor, "n d"]:
    """Return one vector per clip, a list of frames; `average` as in `Encoder.video`."""
    return torch.stack([averaged(part, average) for part in frame_vectors(model, clips)])


def unit_vectors(model: Any, data: EvaluationSet, average: str) -> Callable[[Any], Float[Tensor, "n d"]]:
    """Return the function that computes vectors for cosines: of images, or of clips averaged as the task has it."""
    if not data.video:
        return lambda images: model.image(images).float()
    if average == "zero-shot":
        return lambda clips: F.normalize(clip_vectors(model, clips, average), dim=-1)
    return lambda clips: clip_vectors(model, clips, average)
