"""The application of the chat API: its addresses, and what surrounds them."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from percept.infer.assistant import Assistant
from percept.serve.chat.service import ChatService
from percept.serve.errors import ApiError
from percept.serve.guard import Guard, State, refusal
from percept.serve.limits import Limits

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp

ALIAS = "percept"
"""A name by which every model may be called."""


def chat_app(
    assistant: Assistant,
    *,
    limits: Limits | None = None,
    token: str | None = None,
    allow_urls: bool = False,
    names: tuple[str, ...] = (),
    state: State | None = None,
) -> "ASGIApp":
    """Return an application that answers with an assistant.

    Args:
        assistant: the model.
        limits: what is accepted; the defaults if None.
        token: what requests have to carry; without one only requests to localhost are answered.
        allow_urls: fetch images by URL, from public addresses.
        names: further names by which requests may call the model.
        state: requests are counted there, and refused when it stops.

    Raises:
        PerceptError: the model has no tokenizer or no chat template.
    """
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.routing import Route

    known = tuple(dict.fromkeys((assistant.name, *names, ALIAS)))
    service = ChatService(assistant.answerer, known, limits or Limits(), allow_urls=allow_urls)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        service.close()

    routes = [
        Route("/health", health),
        Route("/v1/models", _Models(known).listed),
        Route("/v1/models/{name:path}", _Models(known).one),
        Route("/v1/chat/completions", service, methods=["POST"]),
    ]
    handlers: Any = {HTTPException: refusal, ApiError: refusal}
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers=handlers)
    return Guard(app, token=token, state=state or State())


async def health(_: "Request") -> Any:
    """Say that the server works."""
    from starlette.responses import JSONResponse

    return JSONResponse({"status": "ok"})


class _Models:
    """The addresses that describe the model."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names
        self._entry = {"id": names[0], "object": "model", "created": int(time.time()), "owned_by": "percept"}

    async def listed(self, _: "Request") -> Any:
        from starlette.responses import JSONResponse

        return JSONResponse({"object": "list", "data": [self._entry]})

    async def one(self, request: "Request") -> Any:
        from starlette.responses import JSONResponse

        name = request.path_params["name"]
        if name not in self._names:
            raise ApiError(
                404, f"There is no model {name[:100]!r} here. Use {self._names[0]!r}.", code="model_not_found"
            )
        return JSONResponse(self._entry)
