"""The application of the search API and its page: addresses, and what surrounds them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

from percept.core.errors import PerceptError
from percept.search.contracts import ImageEncoder
from percept.search.reload import load_stamped
from percept.search.store import Store
from percept.serve.body import FORM, JSON, discard, read_body
from percept.serve.budget import Budget, Ticket
from percept.serve.errors import ApiError
from percept.serve.fields import json_object
from percept.serve.guard import Guard, State, refusal, refuse
from percept.serve.limits import MIB, Limits
from percept.serve.search.assets import PAGE, page
from percept.serve.search.links import Links
from percept.serve.search.media import HEADERS, FileResponse
from percept.serve.search.models import Load
from percept.serve.search.openapi import document
from percept.serve.search.request import form_values, parse_classify, parse_encode, parse_search
from percept.serve.search.service import SearchService

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

SEARCHERS, READERS = 8, 4
"""Threads that search, and threads that read files and thumbnails."""
MEDIA_REQUESTS = 256
"""Requests for files and thumbnails at one time."""
Parse: TypeAlias = Callable[[dict[str, Any], Limits], Any]


def search_app(
    store: Store,
    encoder: ImageEncoder,
    *,
    limits: Limits | None = None,
    token: str | None = None,
    state: State | None = None,
    load: Load = load_stamped,
) -> "ASGIApp":
    """Return an application that searches an index.

    Args:
        store: the index; it stays open as long as the application.
        encoder: the model it was made with.
        limits: what is accepted; the defaults if None.
        token: what requests have to carry; without one only requests to localhost are answered.
        state: requests are counted there, and refused when it stops.
        load: loads the model again after another process has changed that of the index.

    Raises:
        PerceptError: the index was made with a different model.
    """
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException

    links = Links(signed=token is not None)
    addresses = _Addresses(SearchService(store, encoder, links, load), limits or Limits())

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        addresses.close()

    handlers: Any = {HTTPException: _refusal, ApiError: _refusal, Exception: _refusal}
    app = Starlette(routes=addresses.routes(), lifespan=lifespan, exception_handlers=handlers)
    return Guard(app, token=token, state=state or State(), is_open=links.is_open, is_page=True)


class _Addresses:
    """What is at each address."""

    def __init__(self, service: SearchService, limits: Limits) -> None:
        self._service, self._limits = service, limits
        self._budget = Budget(requests=limits.queue, nbytes=limits.queue_mib * MIB)
        self._media = Budget(requests=MEDIA_REQUESTS, nbytes=1)
        self._searchers = ThreadPoolExecutor(SEARCHERS, "percept-requests")
        self._readers = ThreadPoolExecutor(READERS, "percept-files")

    def close(self) -> None:
        """End all threads."""
        self._service.close()
        self._searchers.shutdown(wait=False, cancel_futures=True)
        self._readers.shutdown(wait=False, cancel_futures=True)

    def routes(self) -> list[Any]:
        """Return the routes."""
        from starlette.responses import JSONResponse
        from starlette.routing import Route

        async def health(_: "Request") -> Any:
            return JSONResponse({"status": "ok"})

        async def described(_: "Request") -> Any:
            return JSONResponse(document())

        service = self._service
        return [
            *(Route(path, page) for path in PAGE),
            Route("/health", health),
            Route("/openapi.json", described),
            Route("/v1/index", self.index),
            Route("/v1/search", _Post(self, parse_search, service.search), methods=["POST"]),
            Route("/v1/encode", _Post(self, parse_encode, service.encode), methods=["POST"]),
            Route("/v1/classify", _Post(self, parse_classify, service.classify), methods=["POST"]),
            Route("/v1/thumbnails/{piece:int}", self.thumbnail),
            Route("/v1/files/{piece:int}", _File(self), methods=["GET", "HEAD"]),
        ]

    async def index(self, _: "Request") -> Any:
        """Describe the index."""
        from starlette.responses import JSONResponse

        with self._budget.enter():
            return JSONResponse(await self.run(self._service.about), headers={"cache-control": "no-store"})

    async def thumbnail(self, request: "Request") -> Any:
        """Return the thumbnail of a piece."""
        from starlette.responses import Response

        media, number = self._service.media, request.path_params["piece"]
        with self._media.enter():
            data = await self.read(lambda: media.thumbnail(media.piece(number)))
        return Response(data, headers=HEADERS | {"cache-control": "private, max-age=3600"}, media_type="image/jpeg")

    async def file(self, number: int, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Send the file of a piece."""
        media = self._service.media
        with self._media.enter():
            response = FileResponse(await self.read(lambda: media.open(media.piece(number))))
            await response(scope, receive, send)

    async def run(self, work: Callable[[], Any]) -> Any:
        """Run a search in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._searchers, _reported, work)

    async def read(self, work: Callable[[], Any]) -> Any:
        """Read a file or thumbnail in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, _reported, work)

    async def answer(
        self, parse: Parse, work: Callable[[Any], Any], ticket: Ticket, scope: "Scope", receive: Any
    ) -> Any:
        """Return the response to a request with a body."""
        from starlette.responses import JSONResponse

        body = await read_body(scope, receive, self._limits, ticket, types=(JSON, FORM))
        kind = dict(scope["headers"])[b"content-type"].decode("latin-1")
        values = await form_values(body, kind, self._limits) if kind.lower().startswith(FORM.decode()) else body
        del body
        return JSONResponse(await self.run(lambda: work(_parsed(values, parse, self._limits))))

    async def respond(self, parse: Parse, work: Callable[[Any], Any], scope: "Scope", receive: Any, send: Any) -> None:
        """Answer a request with a body, or refuse it."""
        arrived = _Arrived(receive)
        try:
            with self._budget.enter() as ticket:
                response = await self.answer(parse, work, ticket, scope, arrived)
            await response(scope, receive, send)
        except ApiError as error:
            if not arrived.whole and error.status != 408:
                await discard(receive)
            await refuse(error, scope, receive, send)


class _Post:
    """The application at an address that takes a body."""

    def __init__(self, addresses: _Addresses, parse: Parse, work: Callable[[Any], Any]) -> None:
        self._addresses, self._parse, self._work = addresses, parse, work

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Answer a request."""
        await self._addresses.respond(self._parse, self._work, scope, receive, send)


class _File:
    """The application at the address of a file."""

    def __init__(self, addresses: _Addresses) -> None:
        self._addresses = addresses

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Send it."""
        await self._addresses.file(scope["path_params"]["piece"], scope, receive, send)


class _Arrived:
    """Receives a body, and notes when it has arrived."""

    def __init__(self, receive: "Receive") -> None:
        self._receive = receive
        self.whole = False

    async def __call__(self) -> Any:
        """Return the next message."""
        message = await self._receive()
        self.whole = message["type"] == "http.disconnect" or not message.get("more_body")
        return message


def _parsed(values: Any, parse: Parse, limits: Limits) -> Any:
    fields = json_object(values, "the fields that /openapi.json lists") if isinstance(values, bytes) else values
    return parse(fields, limits)


def _reported(work: Callable[[], Any]) -> Any:
    """Return what a function returns; a fault of the index or of the machine is no fault of the request."""
    try:
        return work()
    except PerceptError as error:
        message = str(error)
        raise ApiError(503, message[0].upper() + message[1:], code="index_unusable") from None
    except MemoryError:
        raise ApiError(503, "The server has no memory for this request. Try again later.", code="no_memory") from None


def _refusal(request: Any, error: Exception) -> Any:
    if getattr(error, "status_code", None) == 404:
        error = ApiError(404, "There is nothing at this address. See /openapi.json.")
    return refusal(request, error)
