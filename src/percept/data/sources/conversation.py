"""Conversations of LLaVA, ShareGPT and PLM rows in one form: [{"from": "system" | "human" | "assistant", "value": text}, ...]."""

from collections.abc import Mapping
from typing import Any

from percept.data.sources.sample import BadSample

SPEAKERS = {
    **dict.fromkeys(("human", "user"), "human"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bing", "bard", "model"), "assistant"),
    **dict.fromkeys(("system",), "system"),
}
"""Names of speakers in published data, and ours, which are those of the Perception Language Model."""
FIELDS = ("conversations", "conversation", "messages")


def has_conversation(record: Mapping[str, Any]) -> bool:
    """True if a row has a field for a conversation."""
    return any(record.get(name) is not None for name in FIELDS)


def turns_of(key: str, record: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the turns of a row: `from` and `value` (LLaVA, ShareGPT, PLM) or `role` and `content` (chat APIs).

    >>> turns_of("1", {"messages": [{"role": "user", "content": "Hello"}]})
    [{'from': 'human', 'value': 'Hello'}]

    Raises:
        BadSample: the turns are not of this form.
    """
    turns = next(record[name] for name in FIELDS if record.get(name) is not None)
    if not isinstance(turns, list) or not turns:
        raise BadSample("wrong type", key, f"a conversation is a list of turns, not {_short(turns)}")
    return [_turn(key, turn) for turn in turns]


def _turn(key: str, turn: Any) -> dict[str, str]:
    if not isinstance(turn, Mapping):
        raise BadSample("wrong type", key, f"a turn is a json object, not {_short(turn)}")
    speaker, text = turn.get("from", turn.get("role")), turn.get("value", turn.get("content"))
    if speaker not in SPEAKERS:
        raise BadSample("wrong type", key, f"unknown speaker {_short(speaker)}; known: {', '.join(SPEAKERS)}")
    if isinstance(text, list):
        text = "".join(_part(key, part) for part in text)
    if not isinstance(text, str):
        raise BadSample("wrong type", key, f"the text of a turn is {_short(text)}")
    return {"from": SPEAKERS[speaker], "value": text}


def _part(key: str, part: Any) -> str:
    """Return the text of a part of a message of a chat API; an image becomes its tag."""
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "text" and isinstance(part["text"], str):
        return part["text"]
    if kind in ("image", "image_url", "video"):
        return "<video>" if kind == "video" else "<image>"
    raise BadSample("wrong type", key, f"a part of a message is {_short(part)}")


def _short(value: Any) -> str:
    return repr(value)[:60]
