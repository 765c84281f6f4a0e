"""From the messages of a request to a conversation."""

from collections.abc import Iterator, Sequence

from percept.data.chat.conversation import Conversation, ImageInput, Turn
from percept.serve.chat.request import Message, Part, Picture
from percept.serve.errors import ApiError


def conversation(messages: Sequence[Message], images: Sequence[bytes]) -> Conversation:
    """Return the conversation of some messages and the files of their images, in order.

    Images that follow each other come before the texts of their message, as in training; images between texts stay there. Neighbouring
    texts are joined by a line break.

    Raises:
        ApiError: the last message asks nothing.
    """
    numbers = iter(range(len(images)))
    turns = tuple(Turn(role=message.role, parts=tuple(_parts(message.parts, numbers))) for message in messages)
    last = turns[-1]
    if last.role == "user" and not last.text.strip() and not any(isinstance(part, int) for part in last.parts):
        raise ApiError(400, "The last message has neither text nor image. Ask something.", param="messages")
    return Conversation(turns=turns, media=tuple(ImageInput(source=data) for data in images))


def _parts(parts: Sequence[Part], numbers: Iterator[int]) -> list[str | int]:
    result: list[str | int] = []
    for part in _ordered(parts):
        if isinstance(part, Picture):
            result.append(next(numbers))
        elif result and isinstance(result[-1], str):
            result[-1] += f"\n{part}"
        elif part:
            result.append(part)
    return result


def _ordered(parts: Sequence[Part]) -> Sequence[Part]:
    """Return the images first, unless there are texts between them."""
    places = [place for place, part in enumerate(parts) if isinstance(part, Picture)]
    if not places or places[-1] - places[0] >= len(places):
        return parts
    return [*parts[places[0] : places[-1] + 1], *parts[: places[0]], *parts[places[-1] + 1 :]]
