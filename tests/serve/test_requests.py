"""Bodies of chat requests: what is understood, and what is refused with which words."""

import json
from typing import Any

import pytest

from percept.data.chat.conversation import ImageInput
from percept.serve.chat.prompt import conversation
from percept.serve.chat.request import Message, Picture, parse
from percept.serve.errors import ApiError

HELLO = {"model": "percept", "messages": [{"role": "user", "content": "hello"}]}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}


def body(**changes: Any) -> bytes:
    return json.dumps(HELLO | changes).encode()


def said(content: Any, role: str = "user") -> list[dict[str, Any]]:
    return [{"role": role, "content": content}]


def test_defaults() -> None:
    request = parse(body(tools=[], response_format={"type": "text"}, user="me", seed=None, logprobs=False))
    assert (request.temperature, request.top_p, request.n, request.max_tokens, request.seed) == (
        0.0,
        1.0,
        1,
        None,
        None,
    )
    assert (request.stop, request.stream, request.include_usage) == ((), False, False)
    assert parse(body(n=2)).temperature == 1.0
    assert parse(body(temperature=0, top_p=0.5)).top_p == 1.0


def test_values() -> None:
    request = parse(
        body(temperature=0.5, top_p=0.9, n=3, stop=["a", "b"], seed=7, max_tokens=5, max_completion_tokens=5, stream=True,
             stream_options={"include_usage": True})
    )  # fmt: skip
    assert (request.temperature, request.top_p, request.n, request.max_tokens, request.seed) == (0.5, 0.9, 3, 5, 7)
    assert (request.stop, request.stream, request.include_usage) == (("a", "b"), True, True)


@pytest.mark.parametrize(
    ("changes", "param", "words"),
    [
        ({"model": None}, "model", "model must be a string"),
        ({"messages": None}, "messages", "messages must be a list"),
        ({"messages": "hi"}, "messages", "messages must be a list"),
        ({"messages": ["hi"]}, "messages[0]", "an object with role and content"),
        ({"messages": said("x", "robot")}, "messages[0].role", "system, developer, user or assistant, got 'robot'"),
        ({"messages": said("x", "tool")}, "messages[0].role", "got 'tool'"),
        ({"messages": said(None)}, "messages[0].content", "a string or a list of parts"),
        ({"messages": said([])}, "messages[0].content", "a string or a list of parts"),
        ({"messages": said([{"type": "input_audio"}])}, "messages[0].content[0].type", "text or image_url"),
        ({"messages": said([{"type": "text"}])}, "messages[0].content[0].text", "a string"),
        ({"messages": said([{"type": "image_url", "image_url": "x"}])}, "messages[0].content[0].image_url", "an object"),
        ({"messages": said([IMAGE], "assistant")}, "messages[0].content[0]", "an image in a message of role assistant"),
        ({"messages": [{"role": "assistant", "content": "a", "tool_calls": [1]}]}, "messages[0]", "tool_calls is not supported"),
        ({"temperature": 3}, "temperature", "0 to 2, got 3"),
        ({"temperature": True}, "temperature", "0 to 2"),
        ({"temperature": "hot"}, "temperature", "0 to 2"),
        ({"top_p": 0}, "top_p", "above 0"),
        ({"n": 0}, "n", "a positive integer"),
        ({"n": 1.5}, "n", "a positive integer"),
        ({"max_tokens": -1}, "max_tokens", "a positive integer"),
        ({"max_tokens": 3, "max_completion_tokens": 4}, "max_tokens", "differ"),
        ({"stop": list("abcde")}, "stop", "at most 4"),
        ({"stop": ""}, "stop", "a non-empty string"),
        ({"seed": 1.5}, "seed", "an integer"),
        ({"stream": 1}, "stream", "true or false"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "needs stream=true"),
        ({"stream": True, "stream_options": {"usage": True}}, "stream_options", "an object with include_usage"),
        ({"logprobs": True}, "logprobs", "logprobs is not supported"),
        ({"tools": [{"type": "function"}]}, "tools", "tools is not supported"),
        ({"response_format": {"type": "json_object"}}, "response_format", "not supported"),
        ({"frequency_penalty": 0.5}, "frequency_penalty", "not supported"),
        ({"temprature": 1}, "temprature", "did you mean 'temperature'"),
        ({"\ud83d": 1}, "?", "unknown field '?'"),
    ],
)  # fmt: skip
def test_refusals(changes: dict[str, Any], param: str, words: str) -> None:
    with pytest.raises(ApiError) as caught:
        parse(body(**changes))
    assert (caught.value.status, caught.value.param) == (400, param)
    assert words in caught.value.message


@pytest.mark.parametrize(
    "given", [b"", b"{", b"[" * 100_000, b"\xff", b"[1]", b'{"n": NaN, "model": "m", "messages": [1]}']
)
def test_bodies_that_are_no_requests(given: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        parse(given)
    assert caught.value.status == 400


def test_every_field_of_the_client_is_known() -> None:
    """A field that a newer client has is a decision to take: supported, refused, or without effect."""
    from openai.types.chat.completion_create_params import CompletionCreateParamsBase

    from percept.serve.chat.request import KNOWN, UNSUPPORTED, WITHOUT_EFFECT

    known = {*KNOWN, *UNSUPPORTED, *WITHOUT_EFFECT}
    missing = set(CompletionCreateParamsBase.__annotations__) - known - {"moderation", "prompt_cache_options"}
    assert not missing


def parts(*given: Any) -> tuple[str | int, ...]:
    count = sum(isinstance(part, Picture) for part in given)
    made = conversation([Message(role="user", parts=given)], [b"%d" % number for number in range(count)])
    assert made.media == tuple(ImageInput(source=b"%d" % number) for number in range(count))
    return made.turns[0].parts


def test_images_come_before_the_text_of_their_message() -> None:
    image = Picture("data:")
    assert parts("what?", image) == parts(image, "what?") == (0, "what?")
    assert parts("a", image, image, "b") == (0, 1, "a\nb")
    assert parts("is", image, "or", image, "larger?") == ("is", 0, "or", 1, "larger?")
    assert parts("a", "b", "") == ("a\nb\n",)
    assert parts(image) == (0,)


def test_turns_keep_their_images() -> None:
    image = Picture("data:")
    messages = [
        Message(role="system", parts=("be brief",)), Message(role="user", parts=("one", image)),
        Message(role="assistant", parts=("yes",)), Message(role="user", parts=(image, "two")),
    ]  # fmt: skip
    made = conversation(messages, [b"a", b"b"])
    assert [turn.parts for turn in made.turns] == [("be brief",), (0, "one"), ("yes",), (1, "two")]


def test_a_last_message_without_content_is_refused() -> None:
    with pytest.raises(ApiError, match="neither text nor image"):
        parts(" ")
