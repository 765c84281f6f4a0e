"""Conversations from the samples of a source: rows of PLM, LLaVA and ShareGPT."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from percept.core.errors import PerceptError
from percept.data.chat.conversation import Box, Conversation, ImageInput, Media, VideoInput, converse
from percept.data.chat.processor import Prepared, Processor
from percept.data.chat.regions import box_text, check_box
from percept.data.chat.template import check_turns
from percept.data.chat.vocabulary import check_text
from percept.data.sources.sample import BadSample, Sample

ROLES = {"human": "user", "assistant": "assistant", "system": "system"}
CAPTIONS = ("text", "caption", "txt")
"""Fields that are taken for a caption where a row has no conversation."""
_PLACEHOLDER = re.compile(r"<\|bbox(\d+)\|>")


@dataclass(frozen=True, kw_only=True)
class ChatItem:
    """Makes items of a batch from samples: the `prepare` of a source of conversations."""

    processor: Processor
    limit: int
    """Most tokens of a conversation; what does not fit is cut off between turns."""

    def __call__(self, sample: Sample, seed: int) -> Prepared:
        """Read the media of a sample and render its conversation.

        Raises:
            BadSample: a file is missing or broken, the row is not a conversation, or no answer fits the limit.
        """
        conversation = conversation_of(sample)
        for media in (*sample.images, *(() if sample.video is None else (sample.video,))):
            if not isinstance(media, bytes) and not os.path.isfile(media):  # False for names that are too long
                raise BadSample("missing file", sample.key, str(media))
        prepared = self._prepared(conversation, sample.key)
        rendered = prepared.rendered.cut(self.limit)
        if rendered is None:
            raise BadSample("too long", sample.key, f"{len(prepared)} tokens, and no answer fits {self.limit}")
        return Prepared(rendered=rendered, tiles=prepared.tiles)

    def _prepared(self, conversation: Conversation, key: str) -> Prepared:
        reason = "wrong turns"
        try:
            check_turns(conversation, self.processor.template, ask=False)
            for turn in conversation.turns:
                check_text(turn.text)
            reason = "broken image or video"
            return self.processor(conversation)
        except PerceptError as error:
            raise BadSample(reason, key, str(error)) from None


def conversation_of(sample: Sample) -> Conversation:
    """Return the conversation of a sample.

    Besides its images or video and its turns it may have `bbox` [[x, y, w, h], ...] in pixels with `width` and `height`, whose boxes take the
    places of `<|bbox0|>`, `<|bbox1|>`, ... in any turn, and, for a video, `start_time` and `end_time` in seconds and `bbox_map` {frame number:
    [x0, y0, x1, y1] or null}, whose boxes are drawn. A caption alone answers an empty question.

    Raises:
        BadSample: a field is missing or has the wrong type.
    """
    try:
        return converse(_turns(sample), _media(sample))
    except BadSample:
        raise
    except PerceptError as error:
        raise BadSample("wrong turns", sample.key, str(error)) from None


def _turns(sample: Sample) -> list[tuple[str, str]]:
    turns = sample.record.get("conversations")
    if turns is not None:
        return [(ROLES[turn["from"]], _with_boxes(turn["value"], sample)) for turn in turns]
    caption = next((sample.captions[name][0] for name in CAPTIONS if sample.captions.get(name)), "")
    if not caption.strip():
        raise BadSample("no conversation", sample.key, f"its fields: {', '.join(sample.record) or 'none'}")
    return [("user", ""), ("assistant", caption)]


def _media(sample: Sample) -> list[Media]:
    if sample.video is not None:
        return [_video(sample)]
    tags = sum(
        turn["value"].count("<image>") for turn in sample.record.get("conversations", ()) if turn["from"] == "human"
    )
    if len(sample.images) > 1 and not tags:
        raise BadSample(
            "no tags", sample.key, f"{len(sample.images)} images, and no <image> tag says where they belong"
        )
    return [ImageInput(source=image) for image in sample.images]


def _video(sample: Sample) -> VideoInput:
    times = [sample.record.get(name) for name in ("start_time", "end_time")]
    if any(time is not None and (isinstance(time, bool) or not isinstance(time, int | float)) for time in times):
        raise BadSample("wrong type", sample.key, f"start_time and end_time are {_short(times)}, not seconds")
    boxes = sample.record.get("bbox_map") or {}
    try:
        by_frame = {int(number): _box(box) for number, box in boxes.items()}
    except (AttributeError, TypeError, ValueError):
        raise BadSample("wrong type", sample.key, f"bbox_map is {_short(boxes)}") from None
    return VideoInput(source=sample.video, start=times[0], end=times[1], boxes=by_frame)


def _box(box: Any) -> Box | None:
    if box is None:
        return None
    x0, y0, x1, y1 = (float(value) for value in box)
    return x0, y0, x1, y1


def _with_boxes(text: str, sample: Sample) -> str:
    """Replace `<|bbox0|>` by the text of a box."""
    return _PLACEHOLDER.sub(lambda match: _written(int(match[1]), sample.record, sample.key), text)


def _written(number: int, record: Mapping[str, Any], key: str) -> str:
    boxes, width, height = record.get("bbox"), record.get("width"), record.get("height")
    if not isinstance(boxes, list) or number >= len(boxes):
        raise BadSample("no box", key, f"the text refers to box {number} of {_short(boxes)}")
    if not isinstance(width, int | float) or not isinstance(height, int | float):
        raise BadSample("no box", key, "there are boxes, but no width and height of the image")
    try:
        x, y, w, h = (float(value) for value in boxes[number])
        box = check_box((max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)), width, height)
    except (TypeError, ValueError) as error:
        raise BadSample("wrong type", key, f"box {number} is {_short(boxes[number])}: {error}") from None
    return box_text(box, width, height)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
