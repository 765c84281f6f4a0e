"""Bodies of `POST /v1/chat/completions`: checked field by field, so that nothing is ignored in silence."""

from dataclasses import dataclass
from typing import Any, TypeAlias

from percept.serve.errors import ApiError
from percept.serve.fields import (
    check_known,
    filled_list,
    flag,
    is_count,
    json_object,
    number,
    short,
    text,
    within,
    wrong,
)

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
    values = json_object(body, "model and messages")
    _check_names(values)
    messages = tuple(
        _message(message, f"messages[{place}]") for place, message in enumerate(filled_list(values, "messages"))
    )
    n = number(values, "n", 1, is_count, "a positive integer")
    temperature = number(values, "temperature", 0.0 if n == 1 else 1.0, within(0.0, MOST_TEMPERATURE), "0 to 2")
    top_p = number(values, "top_p", 1.0, lambda value: 0 < value <= 1, "above 0 and at most 1")
    stream = flag(values, "stream")
    return ChatRequest(
        model=text(values.get("model"), "model"),
        messages=messages,
        temperature=float(temperature),
        top_p=1.0 if temperature == 0 else float(top_p),
        max_tokens=_max_tokens(values),
        n=n,
        stop=_stop(values.get("stop", ())),
        seed=number(values, "seed", None, lambda value: isinstance(value, int), "an integer"),
        stream=stream,
        include_usage=_include_usage(values.get("stream_options"), stream),
    )


def _check_names(values: dict[str, Any]) -> None:
    for name, value in values.items():
        if name in UNSUPPORTED and not any(value == neutral for neutral in UNSUPPORTED[name]):
            raise ApiError(
                400, f"{name} is not supported by this server. Leave it out.", param=name, code="unsupported_parameter"
            )
        if name not in WITHOUT_EFFECT:
            check_known([name], [*KNOWN, *UNSUPPORTED])


def _max_tokens(values: dict[str, Any]) -> int | None:
    names = [name for name in ("max_tokens", "max_completion_tokens") if name in values]
    numbers = {number(values, name, None, is_count, "a positive integer") for name in names}
    if len(numbers) > 1:
        raise ApiError(400, "max_tokens and max_completion_tokens differ. Give one of them.", param="max_tokens")
    return next(iter(numbers), None)


def _stop(value: Any) -> tuple[str, ...]:
    texts = (value,) if isinstance(value, str) else value
    good = isinstance(texts, list | tuple) and all(isinstance(text, str) and text for text in texts)
    if not good or len(texts) > MOST_STOPS:
        raise wrong("stop", f"a non-empty string or a list of at most {MOST_STOPS}", value)
    return tuple(texts)


def _include_usage(options: Any, stream: bool) -> bool:
    if options is None:
        return False
    if not isinstance(options, dict) or not set(options) <= {"include_usage", "include_obfuscation"}:
        raise wrong("stream_options", "an object with include_usage", options)
    if not stream:
        raise ApiError(400, "stream_options needs stream=true. Leave it out.", param="stream_options")
    return flag({name: value for name, value in options.items() if value is not None}, "include_usage")


def _message(message: Any, name: str) -> Message:
    if not isinstance(message, dict):
        raise wrong(name, "an object with role and content", message)
    role = message.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise wrong(f"{name}.role", "system, developer, user or assistant", role)
    for field, value in message.items():
        if field not in ("role", "content", "name", "refusal", "annotations") and value:
            raise ApiError(400, f"{name}.{short(field)} is not supported. Leave it out.", param=name)
    content = message.get("content")
    if isinstance(content, str):
        parts: tuple[Part, ...] = (content,)
    elif isinstance(content, list) and content:
        parts = tuple(_part(part, f"{name}.content[{place}]", role) for place, part in enumerate(content))
    else:
        raise wrong(f"{name}.content", "a string or a list of parts", content)
    return Message(role=ROLES[role], parts=parts)


def _part(part: Any, name: str, role: str) -> Part:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text":
        return text(part.get("text"), f"{name}.text")
    if kind != "image_url":
        raise wrong(f"{name}.type", "text or image_url", kind)
    if role != "user":
        raise ApiError(
            400, f"{name} is an image in a message of role {role}. Put images into user messages.", param=name
        )
    image = part.get("image_url")
    if not isinstance(image, dict):
        raise wrong(f"{name}.image_url", "an object with url", image)
    if image.get("detail", "auto") not in (*DETAILS, None):
        raise wrong(f"{name}.image_url.detail", ", ".join(DETAILS), image.get("detail"))
    return Picture(text(image.get("url"), f"{name}.image_url.url"))
