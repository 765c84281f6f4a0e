"""From what a user passes to `Assistant.ask` to prompts: images, videos, regions and questions, read and rendered."""

import hashlib
import os
import re
import stat
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, TypedDict

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from percept.core.errors import PerceptError
from percept.data.chat.conversation import TAGS, Box, Conversation, ImageInput, Media, Number, VideoInput, converse
from percept.data.chat.processor import Processor
from percept.data.chat.regions import box_text, check_box
from percept.data.chat.template import render
from percept.data.files import is_video
from percept.data.images import upright_size
from percept.infer.contracts import Prompt
from percept.infer.images import FILES_AND_PIXELS, as_iterable, is_single
from percept.infer.memory import Bounded

Regions: TypeAlias = Sequence[Sequence[Number]]
"""Boxes x0, y0, x1, y1 in pixels."""
BOX = re.compile(r"<\|bbox(\d+)\|>")
"""Place of the text of a region in a question, by its number."""


class ViewOptions(TypedDict, total=False):
    """How images and videos are seen; see `percept.data.chat.processor.Processor.changed`."""

    tiles: int | None
    budget: int | None
    mode: str | None
    frames: int | None


@dataclass(frozen=True, kw_only=True)
class BadPrompt:
    """A prompt of a batch that has no answer, and why."""

    number: int
    """Place in the batch."""
    reason: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Loaded:
    """A prompt whose media have been read or are remembered."""

    ids: list[int]
    media: list[tuple[Hashable, Tensor | None, UInt8[Tensor, "_ 3 y x"] | None]]
    """Identity, remembered visual tokens, and tiles otherwise, of each medium in the order of the text."""


def seen(processor: Processor, view: ViewOptions) -> Processor:
    """Return a processor with other numbers of tiles or frames.

    A model that sees one tile of an image cuts images by the published rule once tiles are asked for, and several images of a prompt
    are each cut too.

    Raises:
        PerceptError: a value is out of range.
    """
    tiles, mode = view.get("tiles"), view.get("mode")
    if tiles and mode is None and processor.tiler.mode == "single":
        mode = "published"
    changed = processor.changed(tiles=tiles, budget=view.get("budget"), mode=mode, frames=view.get("frames"))
    return replace(changed, tile_several=True) if tiles or view.get("mode") else changed


def asked(images: Any, question: str, regions: Regions = (), system: str | None = None) -> Conversation:
    """Return the prompt of one question.

    Args:
        images: None, one image or video, or a list of them.
        question: text; `<image>` marks the place of each of several images.
        regions: boxes x0, y0, x1, y1 in pixels of the only image. `<|bbox0|>` in the question is replaced by the text of the first, and so on; if
            the question names none, they are drawn on the image.
        system: system sentence in place of that of the model.

    Raises:
        PerceptError: not an image, not a question, or regions, tags and images that do not belong together.
    """
    media = media_of(images)
    check_question(question, media)
    check_system(system)
    regions = _regions(regions)
    if not media and any(tag in question for tag in TAGS.values()):
        raise PerceptError(
            "the question has a tag for an image or video, but none was given. Give one, or remove the tag."
        )
    if BOX.search(question):
        question = with_boxes(question, media, regions)
    elif regions:
        media = (drawn(media, regions),)
    turns = [("user", question)]
    return converse(turns if system is None else [("system", system), *turns], media)


def check_question(question: Any, media: Sequence[Media] = ()) -> None:
    """Refuse what is not a text, and an empty one without images.

    Raises:
        PerceptError: it is not a question.
    """
    if not isinstance(question, str) or not (question.strip() or media):
        raise PerceptError(f"a question must be a non-empty string, got {question!r}.")


def check_system(system: Any) -> None:
    """Refuse a system sentence that is not a text.

    Raises:
        PerceptError: it is neither a string nor None.
    """
    if system is not None and not isinstance(system, str):
        raise PerceptError(f"system must be a string, got {system!r}.")


def _regions(given: Any) -> list[Box]:
    """Return boxes, to be checked against the size of their image later.

    Raises:
        PerceptError: not a list of boxes of four numbers.
    """
    try:
        return [check_box(region, float("inf"), float("inf")) for region in given]
    except (TypeError, ValueError) as error:
        if isinstance(error, PerceptError):
            raise
        raise PerceptError(
            f"regions must be a list of boxes, got {given!r:.80}. Give for example [(10, 20, 110, 90)], x0, y0, x1, y1 in pixels."
        ) from None


def media_of(images: Any) -> tuple[Media, ...]:
    """Return what a user passes as images: None, one image or video, or a list of them.

    Raises:
        PerceptError: neither, or an empty list.
    """
    if images is None:
        return ()
    if isinstance(images, ImageInput | VideoInput) or is_single(images):
        return (_medium(images),)
    media = tuple(map(_medium, as_iterable(images)))
    if not media:
        raise PerceptError("the list of images is empty. Give images, or None for a question without any.")
    return media


def _medium(source: Any) -> Media:
    if isinstance(source, ImageInput | VideoInput):
        return source
    if isinstance(source, str | os.PathLike):
        return VideoInput(source=source) if is_video(source) else ImageInput(source=source)
    if isinstance(source, Tensor):
        return ImageInput(source=_pixels(source))
    if isinstance(source, list | tuple):
        raise PerceptError(
            "a list inside the list of images is not an image. For the frames of a video give VideoInput(source=[...])."
        )
    if not isinstance(source, FILES_AND_PIXELS):
        raise PerceptError(
            f"{type(source).__name__} is not an image. Give a path, bytes of an image file, a PIL image, uint8 pixels [y, x, 3], a uint8 "
            "tensor [3, y, x], a list of these, or a video file."
        )
    return ImageInput(source=source)


def _pixels(image: Tensor) -> np.ndarray:
    if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3:
        raise PerceptError(
            f"a tensor of {image.dtype} {list(image.shape)} is not an image. Give uint8 pixels [3, y, x]; tiles that are preprocessed already "
            "go to assistant.generate_ids."
        )
    return image.permute(1, 2, 0).cpu().contiguous().numpy()


def drawn(media: tuple[Media, ...], regions: Sequence[Box]) -> ImageInput:
    """Return the only image with regions that will be drawn on it."""
    image = _only_image(media)
    return replace(image, boxes=(*image.boxes, *regions))


def _only_image(media: tuple[Media, ...]) -> ImageInput:
    if len(media) != 1 or not isinstance(media[0], ImageInput):
        raise PerceptError(
            "regions belong to one image. For several images give ImageInput(source=..., boxes=[...]), for a video "
            "VideoInput(source=..., boxes={frame: box})."
        )
    return media[0]


def with_boxes(question: str, media: tuple[Media, ...], regions: Sequence[Box]) -> str:
    """Replace `<|bbox0|>`, `<|bbox1|>`, ... by the texts of the regions.

    Raises:
        PerceptError: a region that is not given, not named, or outside the image.
    """
    numbers = {int(match[1]) for match in BOX.finditer(question)}
    if numbers != set(range(len(regions))):
        raise PerceptError(
            f"the question names the regions {sorted(numbers)}; regions given: {len(regions)}. Name each of them, counted from 0."
        )
    width, height = upright_size(_only_image(media).source)
    boxes = [box_text(check_box(region, width, height), width, height) for region in regions]
    return BOX.sub(lambda match: boxes[int(match[1])], question)


def loaded(prompt: Prompt, processor: Processor, visual: Bounded[Tensor]) -> Loaded:
    """Read the media of a prompt that are not remembered, and render it.

    Raises:
        PerceptError: a medium cannot be read, a box lies outside, or the last turn is not the user's.
    """
    if not isinstance(prompt, Conversation):
        raise PerceptError(
            f"a prompt must be a Conversation, got {type(prompt).__name__}. Make it with percept.data.chat.conversation.converse."
        )
    squash = processor.squashes(prompt)
    entries = [_entry(medium, processor, squash, visual) for medium in prompt.media]
    counts = [processor.per_tile * len(_first(known, tiles)) for _, known, tiles in entries]
    rendered = render(prompt, processor.template, processor.tokenizer, counts, ask=True, per_tile=processor.per_tile)
    order = [part for turn in prompt.turns for part in turn.parts if isinstance(part, int)]
    return Loaded(ids=rendered.ids, media=[entries[number] for number in order])


def _first(known: Tensor | None, tiles: Tensor | None) -> Tensor:
    result = tiles if known is None else known
    assert result is not None
    return result


def _entry(
    medium: Media, processor: Processor, squash: bool, visual: Bounded[Tensor]
) -> tuple[Hashable, Tensor | None, Tensor | None]:
    """Return identity, remembered visual tokens, and tiles otherwise."""
    key = _file_identity(medium, processor, squash)
    known = None if key is None else visual.get(key)
    if known is not None:
        return key, known, None
    tiles = processor.read(medium, several=squash)
    if key is None:
        key = hashlib.blake2b(tiles.numpy().tobytes(), digest_size=16).hexdigest(), tuple(tiles.shape)
        known = visual.get(key)
    return key, known, None if known is not None else tiles


def _file_identity(medium: Media, processor: Processor, squash: bool) -> Hashable | None:
    """Return what identifies the content of a regular file and how it is seen; None for everything else."""
    source = medium.source
    if not isinstance(source, str | os.PathLike):
        return None
    try:
        status = os.stat(source)
    except (OSError, ValueError):
        return None  # reading it gives the reason
    if not stat.S_ISREG(status.st_mode):
        return None
    file = os.path.realpath(source), status.st_ino, status.st_size, status.st_mtime_ns
    if isinstance(medium, ImageInput):
        return "image", file, tuple(map(tuple, medium.boxes)), processor.tiler, squash
    boxes = tuple(sorted((number, box and tuple(box)) for number, box in medium.boxes.items()))
    return "video", file, boxes, medium.start, medium.end, processor.tiler.size, processor.frames


def check_context(prompt: Loaded, processor: Processor, context: int, new: int) -> None:
    """Refuse a prompt that does not fit the context together with its answer.

    Raises:
        PerceptError: it does not fit.
    """
    total = len(prompt.ids)
    if total + new <= context:
        return
    visual = sum(processor.per_tile * len(_first(known, tiles)) for _, known, tiles in prompt.media)
    if total < context:
        advice = f"Use max_new_tokens={context - total} at most"
    elif visual > total // 2:
        advice = "Use fewer images, tiles (tiles=..., budget=...) or frames (frames=...)"
    else:
        advice = "Shorten the text"
    raise PerceptError(
        f"the prompt has {total:,} tokens, {visual:,} of them of images, and the answer may have {new:,}: together more than the context of "
        f"{context:,}. {advice}."
    )
