"""The chat API as the real `openai` client sees it."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest

from percept.data.chat.conversation import Conversation, ImageInput, Turn
from percept.infer.answers import Answerer
from percept.serve import urls
from percept.serve.limits import Limits
from tests.infer import speaking
from tests.serve.running import Running, picture_part, png, running, uri, user

QUESTION = "what colour is the cup?"
ALONE = speaking.assistant()


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    limits = Limits(images=4, image_pixels=10_000, image_mib=1, body_mib=2)
    with running(speaking.assistant(), limits=limits, names=("models/speaking",)) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: Running) -> openai.OpenAI:
    return server.client()


def create(client: openai.OpenAI, *messages: dict[str, Any], **options: Any) -> Any:
    whole: Any = {"model": "percept", "messages": messages or [user(QUESTION)], "max_tokens": 12} | options
    return client.chat.completions.create(**whole)


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["speaking"]
    assert client.models.retrieve("percept").id == client.models.retrieve("models/speaking").id == "speaking"
    with pytest.raises(openai.NotFoundError, match="There is no model 'other' here"):
        client.models.retrieve("other")


def test_an_answer_is_that_of_the_assistant(client: openai.OpenAI) -> None:
    image = speaking.picture(1)
    reply = create(client, user(QUESTION, picture_part(image)))
    assert reply.object == "chat.completion"
    assert (reply.model, len(reply.choices), reply.choices[0].message.role) == ("speaking", 1, "assistant")
    assert reply.choices[0].message.content == ALONE.ask(image, QUESTION, max_new_tokens=12)
    assert reply.choices[0].finish_reason == "length"
    usage, prompt = reply.usage, ALONE.processor(speaking.about(1), ask=True)
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (len(prompt), 12, len(prompt) + 12)


def test_text_alone_several_images_and_turns(client: openai.OpenAI) -> None:
    images = [speaking.picture(number) for number in (1, 2, 3)]
    assert create(client, {"role": "user", "content": "yes?"}).choices[0].message.content == ALONE.ask(
        None, "yes?", max_new_tokens=12
    )
    several = create(client, user(*map(picture_part, images), "left?")).choices[0].message.content
    assert several == ALONE.ask(images, "left?", max_new_tokens=12)
    between = create(client, user("is ", picture_part(images[0]), " or ", picture_part(images[1]), " left?"))
    assert between.choices[0].message.content == ALONE.ask(images[:2], "is <image> or <image> left?", max_new_tokens=12)
    turns = (
        Turn(role="system", parts=("yes or no",)), Turn(role="user", parts=(0, "red?")),
        Turn(role="assistant", parts=("no",)), Turn(role="user", parts=(1, "left?")),
    )  # fmt: skip
    prompt = Conversation(turns=turns, media=tuple(ImageInput(source=image) for image in images[:2]))
    reply = create(
        client, {"role": "developer", "content": "yes or no"}, user("red?", picture_part(images[0])),
        {"role": "assistant", "content": "no"}, user(picture_part(images[1]), "left?"),
    )  # fmt: skip
    assert reply.choices[0].message.content == ALONE.reply(prompt, max_new_tokens=12)


def test_a_stream_has_the_same_text(client: openai.OpenAI) -> None:
    messages = [user(QUESTION, picture_part(speaking.picture(2)))]
    whole = create(client, *messages, max_tokens=40)
    chunks = list(create(client, *messages, max_tokens=40, stream=True, stream_options={"include_usage": True}))
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert {chunk.id for chunk in chunks} == {chunks[0].id}
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert len(chunks) > 5
    assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert (chunks[-1].choices, chunks[-1].usage) == ([], whole.usage)
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1] if chunk.choices[0].finish_reason] == ["length"]
    assert not any(chunk.usage for chunk in create(client, *messages, stream=True))


def test_several_answers_and_seeds(client: openai.OpenAI) -> None:
    messages = [user(QUESTION, picture_part(speaking.picture(3)))]
    reply = create(client, *messages, n=3, seed=5, temperature=0.9, top_p=0.9)
    texts = [choice.message.content for choice in reply.choices]
    assert texts == ALONE.ask(
        speaking.picture(3), QUESTION, samples=3, seed=5, temperature=0.9, top_p=0.9, max_new_tokens=12
    )
    assert [choice.index for choice in reply.choices] == [0, 1, 2]
    streamed = ["", "", ""]
    for chunk in create(client, *messages, n=3, seed=5, temperature=0.9, top_p=0.9, stream=True):
        streamed[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert streamed == texts
    greedy = create(client, *messages, n=2, temperature=0)
    assert greedy.choices[0].message.content == greedy.choices[1].message.content
    assert len({choice.message.content for choice in create(client, *messages, n=8).choices}) > 1


def test_stop(client: openai.OpenAI) -> None:
    messages = [user(QUESTION, picture_part(speaking.picture(4)))]
    whole = create(client, *messages, max_tokens=30).choices[0].message.content
    stop = next(letter for letter in whole[3:] if letter.isascii() and letter not in whole[:3])
    reply = create(client, *messages, max_tokens=30, stop=[stop, "never"])
    assert (reply.choices[0].message.content, reply.choices[0].finish_reason) == (whole[: whole.index(stop)], "stop")
    streamed = create(client, *messages, max_tokens=30, stop=stop, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in streamed) == whole[: whole.index(stop)]


def test_special_tokens_in_a_text_are_text(client: openai.OpenAI) -> None:
    reply = create(client, {"role": "user", "content": "<|image|><image><|eot_id|> what?"})
    ids = ALONE.processor.tokenizer.encode("<|image|>")
    assert len(ids) > 1
    assert reply.usage.prompt_tokens > 20


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"model": "gpt-x"}, openai.NotFoundError, "There is no model 'gpt-x' here. Use 'speaking'"),
        ({"logprobs": True}, openai.BadRequestError, "logprobs is not supported"),
        ({"n": 17}, openai.BadRequestError, "n must be at most 16"),
        ({"max_tokens": 600}, openai.BadRequestError, "more than the context of 512. Use max_tokens="),
        ({"messages": [user("cup " * 900)]}, openai.BadRequestError, "Shorten the text"),
        ({"messages": [user("a"), user("b")]}, openai.BadRequestError, "Begin with the user, let user and assistant alternate"),
        ({"messages": [{"role": "assistant", "content": "a"}]}, openai.BadRequestError, "turns of the conversation are"),
        ({"messages": [user(*[picture_part(speaking.picture(1))] * 5)]}, openai.BadRequestError, "5 images, more than 4"),
        ({"messages": [user({"type": "image_url", "image_url": {"url": "https://a.example/"}})]}, openai.BadRequestError, "--allow-urls"),
        ({"messages": [user({"type": "image_url", "image_url": {"url": uri(b"no image")}})]}, openai.BadRequestError, "is not an image"),
        ({"messages": [user(picture_part(speaking.picture(1, 200, 100)))]}, openai.BadRequestError, "more than the 10000 allowed"),
        ({"messages": [user({"type": "image_url", "image_url": {"url": uri(bytes(1200 << 10))}})]}, openai.APIStatusError, "1 MiB"),
        ({"messages": [user("a" * (3 << 20))]}, openai.APIStatusError, "The body has more than 2 MiB"),
        ({"extra_body": {"top_k": 5}}, openai.BadRequestError, "unknown field 'top_k'"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
def test_refusals(
    client: openai.OpenAI, changes: dict[str, Any], kind: type[Exception], words: str, stream: bool
) -> None:
    with pytest.raises(kind) as caught:
        create(client, **({"stream": stream} | changes))
    assert words in str(caught.value)
    body: Any = getattr(caught.value, "body", {})
    assert set(body) == {"message", "type", "param", "code"}
    status = getattr(caught.value, "status_code", 0)
    assert status == (413 if "MiB" in words else 404 if kind is openai.NotFoundError else 400)


def test_half_of_a_surrogate_pair_is_refused(server: Running) -> None:
    """Json may hold one, and the answer must be json too."""
    for body in ({"messages": [user("hi \ud83d")], "model": "percept"}, {"\ud83d": 1}):
        request = urllib.request.Request(
            f"{server.url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=30)
        with caught.value as response:
            assert response.status == 400
            assert json.loads(response.read())["error"]["type"] == "invalid_request_error"


def test_a_damaged_image_is_refused(client: openai.OpenAI) -> None:
    data = png(speaking.picture(1, 60, 60))
    with pytest.raises(openai.BadRequestError, match="mage"):
        create(client, user("what?", {"type": "image_url", "image_url": {"url": uri(data[: len(data) // 2])}}))


def test_many_clients_get_the_answers_of_single_calls(server: Running) -> None:
    def ask(number: int) -> tuple[int, str]:
        message = user(f"{'cup ' * (number % 5)}left?", picture_part(speaking.picture(number % 4)))
        options = {"max_tokens": 3 + number % 9, "stream": number % 2 == 1}
        reply = create(server.client(), message, **options)
        if options["stream"]:
            return number, "".join(chunk.choices[0].delta.content or "" for chunk in reply)
        return number, reply.choices[0].message.content

    with ThreadPoolExecutor(16) as pool:
        for number, text in pool.map(ask, range(48)):
            images, question = speaking.picture(number % 4), f"{'cup ' * (number % 5)}left?"
            assert text == ALONE.ask(images, question, max_new_tokens=3 + number % 9)


def test_urls_where_they_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def fetched(url: str, *, most: int) -> bytes:
        asked.append(url)
        return png(speaking.picture(1))

    monkeypatch.setattr("percept.serve.chat.service.fetch", fetched)
    message = user(QUESTION, {"type": "image_url", "image_url": {"url": "https://a.example/cup.png", "detail": "high"}})
    with running(speaking.assistant(), allow_urls=True) as server:
        text = create(server.client(), message).choices[0].message.content
        monkeypatch.setattr("percept.serve.chat.service.fetch", urls.fetch)
        with pytest.raises(openai.BadRequestError, match=r"127\.0\.0\.1 is not a public address"):
            create(server.client(), user({"type": "image_url", "image_url": {"url": f"{server.url}/health"}}))
    assert text == ALONE.ask(speaking.picture(1), QUESTION, max_new_tokens=12)
    assert asked == ["https://a.example/cup.png"]


def test_an_error_of_the_model_is_status_500_and_the_server_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with running(speaking.assistant()) as server:
        client = server.client()
        with monkeypatch.context() as patch:
            patch.setattr(Answerer, "encoded", lambda *_: 1 / 0)
            with pytest.raises(openai.InternalServerError, match="The answer failed"):
                create(client)
        with monkeypatch.context() as patch:
            patch.setattr("percept.infer.live.LiveBatch.step", lambda _: 1 / 0)
            with pytest.raises(openai.InternalServerError, match="The answer failed"):
                create(client, stream=True)
        with monkeypatch.context() as patch:
            patch.setattr(Answerer, "encoded", lambda *_: (_ for _ in ()).throw(MemoryError()))
            with pytest.raises(openai.APIStatusError, match="out of memory"):
                create(client)
        assert create(client).choices[0].message.content == ALONE.ask(None, QUESTION, max_new_tokens=12)
    assert "an answer failed" in caplog.text
