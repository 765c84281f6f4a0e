"""Bodies of `POST /v1/chat/completions`: checked field by field, so that nothing is ignored in silence."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from percept.core.errors import unknown_name
from percept.serve.errors import ApiError

ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
"""Role of a message: role of the turn."""
WITHOUT_EFFECT = (
    "user", "store", "metadata", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention",
    "parallel_tool_calls",
)  # fmt: skip
"""Fields that concern the bookkeeping of OpenAI's own service, or tools, which there are none of."""
UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "web_search_options": (),
    "reasoning_effort": ("none",),
    "verbosity": ("medium",),
}
"""Fields that are refused, except with the values that ask for nothing."""
KNOWN = (
    "model", "messages", "temperature", "top_p", "max_tokens", "max_completion_tokens", "n", "stop", "seed", "stream",
    "stream_options",
)  # fmt: skip
MOST_STOPS, MOST_TEMPERATURE = 4, 2.0
DETAILS = ("auto", "low", "high")


@dataclass(frozen=True)
class Picture:
    """An image of a message."""

    url: str
    """A data URI, or the address of a file."""


Part: TypeAlias = str | Picture


@dataclass(frozen=True, kw_only=True)
class Message:
    """One turn of the conversation."""

    role: str
    parts: tuple[Part, ...]


@dataclass(frozen=True, kw_only=True)
class ChatRequest:
    """A request whose values are in range."""

    model: str
    messages: tuple[Message, ...]
    temperature: float
    """The most likely token every time, unless it is given or several answers are asked for."""
    top_p: float
    max_tokens: int | None
    """Most tokens of an answer; None for the server's choice."""
    n: int
    stop: tuple[str, ...]
    seed: int | None
    stream: bool
    include_usage: bool
    """A stream ends with the numbers of tokens."""

    @property
    def pictures(self) -> list[Picture]:
        """All images, in order."""
        return [part for message in self.messages for part in message.parts if isinstance(part, Picture)]


def parse(body: bytes) -> ChatRequest:
    """Return the request in a body.

    Raises:
        ApiError: not json, a field is missing, unknown, unsupported, or out of range.
    """
    try:
        given = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"The body is not valid json ({_short(error)}). Send a json object.") from None
    if not isinstance(given, dict):
        raise ApiError(400, "The body is not a json object. Send an object with model and messages.")
    values = {name: value for name, value in given.items() if value is not None}
    _check_names(values)
    messages = tuple(_message(message, f"messages[{place}]") for place, message in enumerate(_list(values, "messages")))
    n = _number(values, "n", 1, _is_count, "a positive integer")
    temperature = _number(values, "temperature", 0.0 if n == 1 else 1.0, _within(0.0, MOST_TEMPERATURE), "0 to 2")
    top_p = _number(values, "top_p", 1.0, lambda value: 0 < value <= 1, "above 0 and at most 1")
    stream = _flag(values, "stream")
    return ChatRequest(
        model=_text(values.get("model"), "model"),
        messages=messages,
        temperature=float(temperature),
        top_p=1.0 if temperature == 0 else float(top_p),
        max_tokens=_max_tokens(values),
        n=n,
        stop=_stop(values.get("stop", ())),
        seed=_number(values, "seed", None, lambda value: isinstance(value, int), "an integer"),
        stream=stream,
        include_usage=_include_usage(values.get("stream_options"), stream),
    )


def _check_names(values: dict[str, Any]) -> None:
    for name, value in values.items():
        if name in UNSUPPORTED and not any(value == neutral for neutral in UNSUPPORTED[name]):
            raise ApiError(
                400, f"{name} is not supported by this server. Leave it out.", param=name, code="unsupported_parameter"
            )
        if name not in KNOWN and name not in UNSUPPORTED and name not in WITHOUT_EFFECT:
            error = unknown_name("field", _short(name), [*KNOWN, *UNSUPPORTED])
            raise ApiError(400, f"{error}", param=_short(name), code="unknown_parameter")


def _short(value: object) -> str:
    text = str(value).encode(errors="replace").decode()  # json may hold half of a surrogate pair
    return text if len(text) <= 100 else f"{text[:100]}…"


def _wrong(name: str, wanted: str, value: object) -> ApiError:
    return ApiError(400, f"{name} must be {wanted}, got {_short(repr(value))}.", param=name, code="invalid_value")


def _list(values: dict[str, Any], name: str) -> list[Any]:
    value = values.get(name)
    if not isinstance(value, list) or not value:
        raise _wrong(name, "a list with at least one entry", value)
    return value


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise _wrong(name, "a string", value)
    return value


def _number(values: dict[str, Any], name: str, default: Any, accepts: Callable[[Any], bool], wanted: str) -> Any:
    value = values.get(name, default)
    if value is default:
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not accepts(value):
        raise _wrong(name, wanted, value)
    return value


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and value > 0


def _within(low: float, high: float) -> Callable[[Any], bool]:
    return lambda value: low <= value <= high


def _flag(values: dict[str, Any], name: str) -> bool:
    value = values.get(name, False)
    if not isinstance(value, bool):
        raise _wrong(name, "true or false", value)
    return value


def _max_tokens(values: dict[str, Any]) -> int | None:
    names = [name for name in ("max_tokens", "max_completion_tokens") if name in values]
    numbers = {_number(values, name, None, _is_count, "a positive integer") for name in names}
    if len(numbers) > 1:
        raise ApiError(400, "max_tokens and max_completion_tokens differ. Give one of them.", param="max_tokens")
    return next(iter(numbers), None)


def _stop(value: Any) -> tuple[str, ...]:
    texts = (value,) if isinstance(value, str) else value
    good = isinstance(texts, list | tuple) and all(isinstance(text, str) and text for text in texts)
    if not good or len(texts) > MOST_STOPS:
        raise _wrong("stop", f"a non-empty string or a list of at most {MOST_STOPS}", value)
    return tuple(texts)


def _include_usage(options: Any, stream: bool) -> bool:
    if options is None:
        return False
    if not isinstance(options, dict) or not set(options) <= {"include_usage", "include_obfuscation"}:
        raise _wrong("stream_options", "an object with include_usage", options)
    if not stream:
        raise ApiError(400, "stream_options needs stream=true. Leave it out.", param="stream_options")
    return _flag({name: value for name, value in options.items() if value is not None}, "include_usage")


def _message(message: Any, name: str) -> Message:
    if not isinstance(message, dict):
        raise _wrong(name, "an object with role and content", message)
    role = message.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise _wrong(f"{name}.role", "system, developer, user or assistant", role)
    for field, value in message.items():
        if field not in ("role", "content", "name", "refusal", "annotations") and value:
            raise ApiError(400, f"{name}.{_short(field)} is not supported. Leave it out.", param=name)
    content = message.get("content")
    if isinstance(content, str):
        parts: tuple[Part, ...] = (content,)
    elif isinstance(content, list) and content:
        parts = tuple(_part(part, f"{name}.content[{place}]", role) for place, part in enumerate(content))
    else:
        raise _wrong(f"{name}.content", "a string or a list of parts", content)
    return Message(role=ROLES[role], parts=parts)


def _part(part: Any, name: str, role: str) -> Part:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text":
        return _text(part.get("text"), f"{name}.text")
    if kind != "image_url":
        raise _wrong(f"{name}.type", "text or image_url", kind)
    if role != "user":
        raise ApiError(
            400, f"{name} is an image in a message of role {role}. Put images into user messages.", param=name
        )
    image = part.get("image_url")
    if not isinstance(image, dict):
        raise _wrong(f"{name}.image_url", "an object with url", image)
    if image.get("detail", "auto") not in (*DETAILS, None):
        raise _wrong(f"{name}.image_url.detail", ", ".join(DETAILS), image.get("detail"))
    return Picture(_text(image.get("url"), f"{name}.image_url.url"))
