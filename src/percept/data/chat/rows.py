"""Conversations from rows of data: the json schemas of PLM, LLaVA and ShareGPT."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from percept.core.errors import PerceptError
from percept.data.chat.conversation import Box, Conversation, ImageInput, Media, VideoInput, converse
from percept.data.chat.regions import box_text, check_box

ROLE_NAMES = {
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "assistant", "model"), "assistant"),
    "system": "system",
}
"""Names of roles in rows: PLM, LLaVA, ShareGPT and chat APIs."""
_PLACEHOLDER = re.compile(r"<\|bbox(\d+)\|>")


def conversation_of(row: Any, root: Path | str = "") -> Conversation:
    """Return the conversation of a row.

    Understood are `image` (a path or several), `video` with `start_time` and `end_time` in seconds, `conversations` with from and value
    or `messages` with role and content, `text` as a short form of a caption, `bbox` [[x, y, w, h], ...] in pixels with placeholders
    `<|bbox0|>` in any turn, and `bbox_map` {frame number: [x0, y0, x1, y1] or null} of a video.

    Args:
        root: folder of relative paths.

    Raises:
        PerceptError: a field is missing or has the wrong type, or a role is unknown.
    """
    if not isinstance(row, Mapping):
        raise PerceptError(f"a row has to be a json object, not {type(row).__name__}. Give one object per line.")
    turns = [(role, _with_boxes(text, row)) for role, text in _turns(row)]
    media = _media(row, root)
    if len(media) > 1 and not any("<image>" in text for role, text in turns if role == "user"):
        raise PerceptError(f"the row has {len(media)} images and no <image> tag. Put a tag where each image belongs.")
    return converse(turns, media)


def _turns(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    for field, role_key, text_key in (("conversations", "from", "value"), ("messages", "role", "content")):
        if field in row:
            turns = row[field]
            if not isinstance(turns, Sequence) or isinstance(turns, str) or not turns:
                raise PerceptError(
                    f"{field} has to be a list of turns, not {_short(turns)}. Give objects with {role_key} and {text_key}."
                )
            return [_turn(turn, role_key, text_key) for turn in turns]
    caption = row.get("text")
    if not isinstance(caption, str) or not caption.strip():
        raise PerceptError(
            f"the row has no conversations, messages or text, only {', '.join(row) or 'nothing'}. Add one of them."
        )
    return [("user", ""), ("assistant", caption)]


def _turn(turn: Any, role_key: str, text_key: str) -> tuple[str, str]:
    if not isinstance(turn, Mapping) or not {role_key, text_key} <= turn.keys():
        raise PerceptError(f"a turn has to be an object with {role_key} and {text_key}, not {_short(turn)}.")
    role = ROLE_NAMES.get(str(turn[role_key]))
    if role is None:
        raise PerceptError(f"unknown role {turn[role_key]!r} in a turn. Known: {', '.join(ROLE_NAMES)}")
    text = turn[text_key]
    if isinstance(text, list):
        text = "".join(_part(part) for part in text)
    if not isinstance(text, str):
        raise PerceptError(f"{text_key} of a turn has to be a text, not {_short(text)}.")
    return role, text


def _part(part: Any) -> str:
    """Return one part of a chat API's content as text with tags."""
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "text":
        return str(part.get("text", ""))
    if kind in ("image", "image_url"):
        return "<image>"
    if kind == "video":
        return "<video>"
    raise PerceptError(f"a part of a turn is {_short(part)}. Known types are text, image and video.")


def _media(row: Mapping[str, Any], root: Path | str) -> list[Media]:
    image, video = row.get("image", row.get("images")), row.get("video")
    if image is not None and video is not None:
        raise PerceptError("the row has an image and a video. Give one of them.")
    if video is not None:
        return [_video(row, _path(video, "video", root))]
    if image is None or image == []:
        return []
    paths = [image] if isinstance(image, str) else image
    if not isinstance(paths, list):
        raise PerceptError(f"image has to be a path or a list of paths, not {_short(image)}.")
    return [ImageInput(source=_path(path, "image", root)) for path in paths]


def _path(value: Any, field: str, root: Path | str) -> str:
    if not isinstance(value, str) or not value:
        raise PerceptError(f"{field} has to be a path, not {_short(value)}.")
    return os.path.join(root, value)


def _video(row: Mapping[str, Any], path: str) -> VideoInput:
    times = [row.get(name) for name in ("start_time", "end_time")]
    if any(time is not None and (isinstance(time, bool) or not isinstance(time, int | float)) for time in times):
        raise PerceptError(f"start_time and end_time have to be seconds, not {_short(times)}.")
    boxes = row.get("bbox_map") or {}
    try:
        by_frame = {int(number): _box(box) for number, box in boxes.items()}
    except (AttributeError, TypeError, ValueError):
        raise PerceptError(
            f"bbox_map has to map frame numbers to [x0, y0, x1, y1] or null, not {_short(boxes)}."
        ) from None
    return VideoInput(source=path, start=times[0], end=times[1], boxes=by_frame)


def _box(box: Any) -> Box | None:
    if box is None:
        return None
    x0, y0, x1, y1 = (float(value) for value in box)
    return x0, y0, x1, y1


def _with_boxes(text: str, row: Mapping[str, Any]) -> str:
    """Replace `<|bbox0|>` by the text of a box."""

    def written(match: re.Match[str]) -> str:
        boxes, number = row.get("bbox"), int(match[1])
        if not isinstance(boxes, list) or not 0 <= number < len(boxes):
            count = len(boxes) if isinstance(boxes, list) else 0
            raise PerceptError(f"the text refers to box {number}, but the row has {count}. Add it to bbox.")
        width, height = row.get("width"), row.get("height")
        if not isinstance(width, int | float) or not isinstance(height, int | float):
            raise PerceptError("the row has boxes but no width and height. Add the size of the image in pixels.")
        try:
            x, y, w, h = (float(value) for value in boxes[number])
        except (TypeError, ValueError):
            raise PerceptError(
                f"box {number} is {_short(boxes[number])}. Give [x, y, width, height] in pixels."
            ) from None
        return box_text(check_box((x, y, min(x + w, width), min(y + h, height)), width, height), width, height)

    return _PLACEHOLDER.sub(written, text)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
