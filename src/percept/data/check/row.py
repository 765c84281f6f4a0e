"""What one row holds: read and decoded as for training, and measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt32

from percept.core.errors import PerceptError
from percept.core.seed import derive
from percept.data.chat.rows import conversation_of
from percept.data.chat.template import TEMPLATES, check_turns
from percept.data.check.similar import look_of, minima_of, number_of
from percept.data.guard import quiet
from percept.data.images import decoded
from percept.data.sources.bad import Bad
from percept.data.sources.captions import USUAL, CaptionChoice
from percept.data.sources.order import permuted
from percept.data.sources.sample import BadSample, Media, Rows, Sample
from percept.data.tokenizers import Tokenizer
from percept.data.video import open_video

SIDE = 64
"""Pixels that the shorter side of a JPEG file keeps when it is decoded: all of its data is read, but few pixels are computed."""
CHUNK = 1 << 20
"""Bytes of a video file that are hashed together."""
LABEL = "label"
TAGS = ("<image>", "<video>")


class Seen(NamedTuple):
    """What was found in a usable row. Fields are None where the row does not have it."""

    row: int
    sizes: tuple[tuple[int, int], ...] = ()
    """Width and height in pixels of its images, or of its video."""
    content: int | None = None
    """Hash of the bytes of its images or its video."""
    look: int | None = None
    """Hash of what its first image or the middle frame of its video looks like; None for a blank one."""
    blank: bool = False
    seconds: float | None = None
    """Duration of its video."""
    frames: int | None = None
    """Frames of its video."""
    text: int | None = None
    """Hash of its caption."""
    minima: UInt32[np.ndarray, " m"] | None = None
    tokens: int | None = None
    """Length of its caption in tokens, with start and end."""
    label: str | None = None
    turns: int | None = None
    """Turns of its conversation."""
    remarks: tuple[str, ...] = ()
    """What is unusual in its conversation."""


@dataclass(frozen=True, kw_only=True)
class Inspector:
    """Reads rows by their place in the order of the check; it can be copied to other processes."""

    rows: Rows
    target: str
    """"caption", "label", "conversation" or "media": what a row has to have."""
    captions: CaptionChoice
    tokenizer: Tokenizer | None
    seed: int | None
    """Of a random order of rows; None for the order of the source."""

    def read(self, step: int, slots: range) -> list[Seen | Bad]:
        """Inspect the rows at some places; `step` has no effect."""
        numbers = np.arange(slots.start, slots.stop)
        if self.seed is not None:
            numbers = permuted(numbers, len(self.rows), seed=self.seed)
        with quiet():
            return [self._row(row) for row in numbers.tolist()]

    def _row(self, row: int) -> Seen | Bad:
        key = self.rows.key(row)
        try:
            sample = self.rows.read(row)
            return self._text(sample, self._media(sample, Seen(row, label=_label_of(sample))))
        except BadSample as error:
            return Bad((0, row), error.reason, key, error.detail)
        except PerceptError as error:
            return Bad((0, row), "cannot be used", key, str(error))
        except Exception as error:
            error.add_note(f"while reading {key} of {self.rows.name}")
            raise

    def _media(self, sample: Sample, seen: Seen) -> Seen:
        if sample.video is not None:
            return _with_video(sample.key, sample.video, seen)
        if sample.images:
            return _with_images(sample.key, sample.images, seen)
        if self.target in ("caption", "media"):
            raise BadSample("no image", sample.key, f"its fields: {', '.join(sample.record) or 'none'}")
        return seen

    def _text(self, sample: Sample, seen: Seen) -> Seen:
        if self.target == "label" and _label_of(sample) is None:
            raise BadSample("no class", sample.key)
        if self.target == "conversation":
            return _with_conversation(sample, seen)
        if self.target != "caption":
            return seen
        text = caption_of(sample, self.captions)
        tokens = None if self.tokenizer is None else len(self.tokenizer.encode(text)) + 2
        number = number_of(text.strip().encode("utf-8", "surrogatepass"))
        return seen._replace(text=number, minima=minima_of(text), tokens=tokens)


def caption_of(sample: Sample, captions: CaptionChoice) -> str:
    """Return the caption that is checked.

    Raises:
        BadSample: there is none.
    """
    return captions.of(sample, derive(0, "check", sample.key))


def _label_of(sample: Sample) -> str | None:
    """Return the class; None for an empty one."""
    return sample.label if sample.label and sample.label.strip() else None


def target_of(samples: Sequence[Sample]) -> str:
    """Return what the rows of a source have to have, from its first ones."""
    if any("conversations" in sample.record for sample in samples):
        return "conversation"
    if any({name.lower() for name in sample.captions} & set(USUAL) - {LABEL} for sample in samples):
        return "caption"
    return "label" if any(_label_of(sample) is not None for sample in samples) else "media"


def _with_images(key: str, images: Sequence[Media], seen: Seen) -> Seen:
    sizes: list[tuple[int, int]] = []
    looks: list[int | None] = []

    def least(size: tuple[int, int]) -> int:
        sizes.append(size)
        return SIDE

    hashes = [number_of(_bytes(image, key)).to_bytes(8, "big") for image in images]
    for image in images:
        try:
            with decoded(image, at_least=least) as pixels:
                looks.append(look_of(pixels))
        except PerceptError as error:
            raise BadSample("broken image", key, str(error)) from None
    return seen._replace(sizes=tuple(sizes), content=number_of(*hashes), look=looks[0], blank=looks[0] is None)


def _bytes(image: Media, key: str) -> bytes:
    if isinstance(image, bytes):
        return image
    if not image.is_file():
        raise BadSample("missing file", key, str(image))
    try:
        return image.read_bytes()
    except OSError as error:
        raise BadSample("broken image", key, f"{image} cannot be read: {error.strerror}") from None


def _with_video(key: str, video: Media, seen: Seen) -> Seen:
    """Measure a video; one frame of it is decoded."""
    if not isinstance(video, bytes) and not video.is_file():
        raise BadSample("missing file", key, str(video))
    try:
        with open_video(video) as opened:
            middle = next(image for _, image in opened.frames([len(opened) // 2]))
            look = look_of(middle)
            seen = seen._replace(sizes=(middle.size,), seconds=opened.duration, frames=len(opened))
    except PerceptError as error:
        raise BadSample("broken video", key, str(error)) from None
    return seen._replace(content=_hashed(video), look=look, blank=look is None)


def _hashed(video: Media) -> int:
    if isinstance(video, bytes):
        return number_of(video)
    with Path(video).open("rb") as file:
        return number_of(*iter(lambda: file.read(CHUNK), b""))


def _with_conversation(sample: Sample, seen: Seen) -> Seen:
    try:
        check_turns(conversation_of(sample), TEMPLATES["plm"], ask=False)
    except BadSample:
        raise
    except PerceptError as error:
        raise BadSample("wrong turns", sample.key, str(error)) from None
    turns = sample.record.get("conversations", ())
    tags = sum(turn["value"].count(tag) for turn in turns if turn["from"] == "human" for tag in TAGS)
    media = len(sample.images) + (sample.video is not None)
    remarks = []
    if tags != media and not (tags == 0 and media == 1):  # one image or video without a tag stands before the text
        remarks.append("tags without an image or video" if tags > media else "images or videos without a tag")
    if any(turn["from"] == "assistant" and not turn["value"].strip() for turn in turns):
        remarks.append("empty answer")
    return seen._replace(turns=sum(turn["from"] != "system" for turn in turns), remarks=tuple(remarks))
