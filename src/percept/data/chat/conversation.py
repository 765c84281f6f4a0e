"""Conversations about images and videos: what the user and the assistant say, with media at their places."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from percept.core.errors import PerceptError, unknown_name

ROLES = ("system", "user", "assistant")
TAGS = {"image": "<image>", "video": "<video>"}
"""Marks in the text of a row where its images and videos belong."""
Number: TypeAlias = int | float
Box: TypeAlias = tuple[Number, Number, Number, Number]
"""Corners x0, y0, x1, y1 in pixels of the original image."""


@dataclass(frozen=True, kw_only=True)
class ImageInput:
    """One image of a conversation."""

    source: Any
    """What `read_image` takes: a path, bytes, an open file, an array, or a PIL image."""
    boxes: tuple[Box, ...] = ()
    """Regions drawn on it."""


@dataclass(frozen=True, kw_only=True)
class VideoInput:
    """One video of a conversation."""

    source: Any
    """A path, bytes, an open file, or a list of frames."""
    start: Number | None = None
    """Second at which the part in question begins; None for the beginning of the file."""
    end: Number | None = None
    """Second at which it ends; None for the end of the file."""
    boxes: Mapping[int, Box | None] = field(default_factory=dict)
    """Region drawn on a frame, by the number of the frame in the file."""


Media: TypeAlias = ImageInput | VideoInput


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What one participant says."""

    role: str
    """system, user or assistant."""
    parts: tuple[str | int, ...]
    """Texts, and numbers of media of the conversation."""

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise unknown_name("role", self.role, ROLES)
        for part in self.parts:
            if isinstance(part, bool) or not isinstance(part, str | int):
                raise PerceptError(f"a part of a turn is {part!r:.60}. Give texts, and numbers of media.")

    @property
    def text(self) -> str:
        """The texts without the media."""
        return "".join(part for part in self.parts if isinstance(part, str))


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """Turns and the media that they refer to."""

    turns: tuple[Turn, ...]
    media: tuple[Media, ...] = ()

    def __post_init__(self) -> None:
        placed = [part for turn in self.turns for part in turn.parts if isinstance(part, int)]
        if sorted(placed) != list(range(len(self.media))):
            raise PerceptError(
                f"the turns place the media {placed}, but the conversation has {len(self.media)}. Place each of them once."
            )


def converse(turns: Sequence[tuple[str, str]], media: Sequence[Media] = ()) -> Conversation:
    """Return a conversation from (role, text) pairs, with media placed at the tags in the text or before the first question.

    As in PLM, several images or videos take the places of as many `<image>` and `<video>` tags. Without tags all media come before the
    text of the first user turn, as does a single one, whose tag is removed together with one line break next to it.

    >>> images = [ImageInput(source="cup.jpg"), ImageInput(source="jug.jpg")]
    >>> converse([("user", "Is <image> or <image> larger?")], images).turns[0].parts
    ('Is ', 0, ' or ', 1, ' larger?')
    >>> converse([("user", "<image>\\nWhat is it?")], images[:1]).turns[0].parts
    (0, 'What is it?')

    Raises:
        PerceptError: an unknown role, no user turn for the media, or tags whose number is not that of the media.
    """
    tags = sum(_count_tags(text) for role, text in turns if role == "user")
    if len(media) > 1 and tags == len(media):
        return Conversation(turns=_in_place(turns), media=tuple(media))
    if media and tags not in (0, len(media)):
        more = (
            "More images or videos were given than the text has tags" if len(media) > tags else "The text has more tags"
        )
        raise PerceptError(
            f"the number of tags {' or '.join(TAGS.values())} in the text is {tags}, that of images and videos {len(media)}. {more}: "
            "give one tag for each, or none."
        )
    return Conversation(turns=_in_front(turns, len(media)), media=tuple(media))


def _count_tags(text: str) -> int:
    return sum(text.count(tag) for tag in TAGS.values())


def _in_place(turns: Sequence[tuple[str, str]]) -> tuple[Turn, ...]:
    result, number = [], 0
    for role, text in turns:
        parts: list[str | int] = []
        if role == "user":
            pieces = _split(text)
            for place, piece in enumerate(pieces):
                if place:
                    parts.append(number)
                    number += 1
                if piece:
                    parts.append(piece)
        else:
            parts = [text]
        result.append(Turn(role=role, parts=tuple(parts)))
    return tuple(result)


def _split(text: str) -> list[str]:
    for tag in TAGS.values():
        text = text.replace(tag, TAGS["image"])
    return text.split(TAGS["image"])


def _in_front(turns: Sequence[tuple[str, str]], count: int) -> tuple[Turn, ...]:
    first = next((place for place, (role, _) in enumerate(turns) if role == "user"), None)
    if first is None and count:
        raise PerceptError(
            "images or videos were given, but no user turn asks about them. Begin the conversation with a user turn."
        )
    result = []
    for place, (role, text) in enumerate(turns):
        text = without_tags(text) if place == first else text
        front = range(count) if place == first else ()
        result.append(Turn(role=role, parts=(*front, *([text] if text else []))))
    return tuple(result)


def without_tags(text: str) -> str:
    """Remove `<image>` and `<video>`, each with one line break after or before it.

    >>> without_tags("<image>\\nWhat is this?"), without_tags("What is this?\\n<image>")
    ('What is this?', 'What is this?')
    """
    for tag in TAGS.values():
        for form in (f"{tag}\n", f"\n{tag}", tag):
            text = text.replace(form, "")
    return text
