"""Who may use a server: a token, local names only without one, and nobody once it stops."""

import hmac
import ipaddress
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from percept.serve.body import discard
from percept.serve.errors import ApiError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

OPEN_PATHS = ("/health",)
"""Paths that need no token."""


class State:
    """Whether a server stops, and how many requests it answers now."""

    def __init__(self) -> None:
        self.stopping = False
        self.active = 0


class Guard:
    """Refuse requests before they reach an application.

    Args:
        app: the application.
        token: what requests have to carry as `Authorization: Bearer TOKEN`. Without a token only requests for a local name are
            answered, so that a web page cannot reach the server under a name of its own.
        state: the requests that pass are counted there.
        is_open: further requests that need no token: True for those that carry their own permission, or give nothing away.
        is_page: the server has a page of its own. Requests that other pages make are refused, whatever they carry.
    """

    def __init__(
        self,
        app: "ASGIApp",
        *,
        token: str | None,
        state: State,
        is_open: "Callable[[Scope], bool]" = lambda _: False,
        is_page: bool = False,
    ) -> None:
        self._app = app
        self._token = token
        self._state = state
        self._is_open = is_open
        self._is_page = is_page

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        error = self._refusal(scope)
        if error is not None:
            await discard(receive)
            return await refuse(error, scope, receive, send)
        self._state.active += 1
        try:
            return await self._app(scope, receive, send)
        finally:
            self._state.active -= 1

    def _refusal(self, scope: "Scope") -> ApiError | None:
        headers = dict(scope["headers"])
        if self._state.stopping:
            return ApiError(503, "The server is stopping. Try again later.", code="server_stopping")
        if self._is_page and is_from_elsewhere(headers):
            return ApiError(403, "Another page made this request. Open the server's own page.", code="other_origin")
        if self._token is None:
            name = host_name(headers.get(b"host", b"").decode("latin-1"))
            return None if is_loopback(name) else _foreign(name)
        if scope["path"] in OPEN_PATHS or self._is_open(scope):
            return None
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() == b"bearer" and hmac.compare_digest(given.strip(), self._token.encode()):
            return None
        return ApiError(
            401, "The token is missing or wrong. Send the header Authorization: Bearer TOKEN.", code="invalid_api_key"
        )


def _foreign(name: str) -> ApiError:
    return ApiError(
        403,
        f"The server has no token, so it answers only as localhost, not as {name[:100]!r}. Use that name, or start it with a token.",
        code="host_not_allowed",
    )


def is_from_elsewhere(headers: dict[bytes, bytes]) -> bool:
    """True for a request that a page of a different origin makes; opening an address is not one.

    >>> is_from_elsewhere({b"host": b"localhost:8000", b"origin": b"http://localhost:8000"})
    False
    >>> is_from_elsewhere({b"host": b"localhost:8000", b"origin": b"http://example.org"})
    True
    """
    origin = headers.get(b"origin")
    if origin is not None:
        return origin.partition(b"://")[2] != headers.get(b"host", b"")
    elsewhere = headers.get(b"sec-fetch-site", b"none") not in (b"none", b"same-origin")
    return elsewhere and headers.get(b"sec-fetch-mode") != b"navigate"


def is_loopback(host: str) -> bool:
    """Return True for an address that only this machine can reach.

    >>> is_loopback("localhost"), is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("0.0.0.0")
    (True, True, True, False)
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def host_name(host: str) -> str:
    """Return the name in a Host header, without port and brackets.

    >>> host_name("localhost:8000"), host_name("[::1]:8000"), host_name("127.0.0.1")
    ('localhost', '::1', '127.0.0.1')
    """
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()


async def refuse(error: ApiError, scope: "Scope", receive: "Receive", send: "Send") -> None:
    """Send a refusal."""
    from starlette.responses import JSONResponse

    await JSONResponse(error.body, error.status, error.headers)(scope, receive, send)


def refusal(_: Any, error: Exception) -> Any:
    """Return the response to an error, as an exception handler of Starlette."""
    from starlette.responses import JSONResponse

    if not isinstance(error, ApiError):
        status, detail = getattr(error, "status_code", 500), getattr(error, "detail", "Internal error")
        words = {404: "There is nothing at this address. See /v1/models and /v1/chat/completions."}
        error = ApiError(status, words.get(status, f"{detail}."))
    return JSONResponse(error.body, error.status, error.headers)
