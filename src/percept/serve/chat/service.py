"""The endpoint `/v1/chat/completions`: from a request to its response."""

import asyncio
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from percept.core.errors import PerceptError
from percept.infer.answers import Answerer
from percept.infer.asking import Loaded, check_context, loaded
from percept.infer.generation import Generation
from percept.serve.body import discard, read_body
from percept.serve.budget import Budget, Ticket
from percept.serve.chat.pictures import PREFIX, bad_image, check_pictures, read_pictures
from percept.serve.chat.prompt import conversation
from percept.serve.chat.reply import Choice, Reply, event
from percept.serve.chat.request import ChatRequest, parse
from percept.serve.chat.scheduler import Job, News, Scheduler
from percept.serve.errors import ApiError
from percept.serve.guard import refuse
from percept.serve.limits import MIB, Limits
from percept.serve.urls import fetch

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

READERS = 4
"""Threads that read images; the pixels that they decode at one time are bounded by `percept.data.limits`."""
NEW_TOKENS = 512
"""Most tokens of an answer whose request gives no number."""


class ChatService:
    """Answers chat requests with one model.

    Args:
        answerer: the model.
        names: names by which requests may call the model; the first is used in responses.
        limits: what is accepted.
        allow_urls: fetch images by URL.
    """

    def __init__(self, answerer: Answerer, names: tuple[str, ...], limits: Limits, *, allow_urls: bool) -> None:
        self._answerer = answerer
        self._names = names
        self._limits = limits
        self._urls = allow_urls
        self._budget = Budget(requests=limits.queue, nbytes=limits.queue_mib * MIB)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="percept-images")
        self._scheduler = Scheduler(answerer)

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Answer one request."""
        arrived = False
        try:
            with self._budget.enter() as ticket:
                body = await read_body(scope, receive, self._limits, ticket)
                arrived = True
                await _while_connected(receive, self._answer(body, ticket, scope, receive, send))
        except ApiError as error:
            if not arrived and error.status != 408:
                await discard(receive)
            await refuse(error, scope, receive, send)

    def close(self) -> None:
        """End all threads."""
        self._scheduler.close()
        self._readers.shutdown(wait=False, cancel_futures=True)

    async def _answer(self, body: bytes, ticket: Ticket, scope: "Scope", receive: "Receive", send: "Send") -> None:
        loop = asyncio.get_running_loop()
        request, prompt, generation = await loop.run_in_executor(self._readers, self._prepared, body)
        del body
        ticket.resize(_nbytes(prompt))
        news: asyncio.Queue[News] = asyncio.Queue()
        rows = [
            self._answerer.row(generation, None, sample=number, stream=request.stream) for number in range(request.n)
        ]
        job = Job(prompt=prompt, rows=rows, tell=partial(_put, loop, news), stream=request.stream)
        reply = Reply(
            model=self._names[0], count=request.n, prompt_tokens=len(prompt.ids), usage_in_stream=request.include_usage
        )
        self._scheduler.submit(job)
        try:
            if request.stream:
                await _stream(news, reply, send)
            else:
                await _whole(news, reply, job, scope, receive, send)
        finally:
            self._scheduler.drop(job)

    def _prepared(self, body: bytes) -> tuple[ChatRequest, Loaded, Generation]:
        """Parse a request and read its images."""
        request = parse(body)
        self._check(request)
        pictures = read_pictures(request.pictures, self._limits, partial(fetch, most=self._limits.image_mib * MIB))
        asked = conversation(request.messages, pictures)
        processor, context = self._answerer.processor, self._answerer.model.config.decoder.context
        try:
            prompt = loaded(asked, processor, self._answerer.memory.visual)
            room = max(1, min(NEW_TOKENS, context - len(prompt.ids)))
            generation = _generation(request, room)
            check_context(prompt, processor, context, generation.max_new_tokens)
        except PerceptError as error:
            raise _refusal(error) from None
        if request.n > self._answerer.rows(len(prompt.ids) + generation.max_new_tokens):
            raise ApiError(
                400,
                f"{request.n} answers of this length do not fit. Ask for fewer, or for a smaller max_tokens.",
                param="n",
            )
        return replace(request, messages=()), prompt, generation

    def _check(self, request: ChatRequest) -> None:
        if request.model not in self._names:
            raise ApiError(
                404, f"There is no model {request.model[:100]!r} here. Use {self._names[0]!r}.",
                param="model", code="model_not_found",
            )  # fmt: skip
        most = self._answerer.setting.batch
        if request.n > most:
            raise ApiError(400, f"n must be at most {most}, got {request.n}.", param="n", code="invalid_value")
        check_pictures(request.pictures, self._limits, urls=self._urls)


def _generation(request: ChatRequest, room: int) -> Generation:
    return Generation(
        max_new_tokens=request.max_tokens or room,
        temperature=request.temperature,
        top_p=request.top_p,
        seed=request.seed,
        stop=request.stop,
    )


def _refusal(error: PerceptError) -> ApiError:
    text = str(error)
    if text.startswith(PREFIX):
        return bad_image("An image", error)
    if "more than the context of" in text:
        text = text.replace("max_new_tokens=", "max_tokens=")
        return ApiError(400, text[0].upper() + text[1:], param="messages", code="context_length_exceeded")
    return ApiError(400, text[0].upper() + text[1:], param="messages", code="invalid_value")


def _nbytes(prompt: Loaded) -> int:
    """Return the bytes of the images of a prompt."""
    return sum(tiles.nbytes for _, _, tiles in prompt.media if tiles is not None)


def _put(loop: asyncio.AbstractEventLoop, queue: "asyncio.Queue[News]", news: News) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(queue.put_nowait, news)


async def _while_connected(receive: "Receive", work: Awaitable[None]) -> None:
    """Wait for some work, and cancel it if the client leaves."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
    finally:
        for each in (task, gone):
            each.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _gone(receive: "Receive") -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _whole(
    news: "asyncio.Queue[News]", reply: Reply, job: Job, scope: "Scope", receive: "Receive", send: "Send"
) -> None:
    """Send the answers when all of them are complete."""
    from starlette.responses import JSONResponse

    choices = [Choice() for _ in range(reply.count)]
    while any(choice.finish is None for choice in choices):
        progress = await news.get()
        if isinstance(progress, ApiError):
            raise progress
        for one in progress:
            reply.completion_tokens += one.tokens
            choices[one.number].finish = one.finish
    for choice, row in zip(choices, job.rows, strict=True):
        choice.text = row.text
    await JSONResponse(reply.whole(choices))(scope, receive, send)


async def _stream(news: "asyncio.Queue[News]", reply: Reply, send: "Send") -> None:
    """Send pieces of the answers as they are generated; an error before the first of them is an ordinary response."""
    open_answers, started = reply.count, False
    while open_answers:
        progress = await news.get()
        if isinstance(progress, ApiError):
            if not started:
                raise progress
            await _send(send, event(progress.body), more=False)
            return
        if not started:
            await _begin(send)
        content = b"" if started else reply.first()
        started = True
        for one in progress:
            reply.completion_tokens += one.tokens
            content += reply.piece(one.number, one.piece) if one.piece else b""
            if one.finish is not None:
                content += reply.finish(one.number, one.finish)
                open_answers -= 1
        content += b"" if open_answers else reply.last()
        if content:
            await _send(send, content, more=bool(open_answers))


async def _begin(send: "Send") -> None:
    headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def _send(send: "Send", content: bytes, *, more: bool) -> None:
    await send(cast(Any, {"type": "http.response.body", "body": content, "more_body": more}))
