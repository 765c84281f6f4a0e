"""Start a server, and serve until it is told to stop."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from percept.core.errors import PerceptError, missing_extra
from percept.infer.assistant import Assistant
from percept.serve.guard import State, is_loopback
from percept.serve.limits import Limits

if TYPE_CHECKING:
    from percept.search.contracts import ImageEncoder, Stamp
    from percept.search.store import Store

TOKEN_VARIABLE = "PERCEPT_TOKEN"
"""Environment variable with the token."""


@dataclass(frozen=True, kw_only=True)
class Access:
    """Where a server listens, and who may use it."""

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not 0 <= self.port < 65536:
            raise PerceptError(f"port must be 0 to 65535, got {self.port}.")
        if self.token is not None and not (self.token.isascii() and self.token.isprintable() and self.token.strip()):
            raise PerceptError("the token must be printable ASCII letters, and not empty. Choose a different one.")
        if self.token is None and not is_loopback(self.host):
            raise PerceptError(
                f"{self.host} can be reached from other machines, so requests need a token. Give --token, set {TOKEN_VARIABLE}, or "
                "use --host 127.0.0.1."
            )


def serve_chat(
    open_assistant: Callable[[], Assistant],
    access: Access,
    *,
    limits: Limits,
    allow_urls: bool = False,
    names: tuple[str, ...] = (),
    ready: Callable[[str, Assistant], None] = lambda *_: None,
) -> None:
    """Serve the chat API until SIGTERM or SIGINT.

    Args:
        open_assistant: opens the model, after the port is bound.
        access: see above.
        limits: what is accepted.
        allow_urls: fetch images by URL.
        names: further names by which requests may call the model.
        ready: called with the base URL of the API and the assistant before the first request is answered.

    Raises:
        PerceptError: the port cannot be used, the model cannot be opened, or a library is missing.
    """

    def make(url: str, state: State) -> Any:
        from percept.serve.chat.app import chat_app

        assistant = open_assistant()
        app = chat_app(assistant, limits=limits, token=access.token, allow_urls=allow_urls, names=names, state=state)
        ready(f"{url}/v1", assistant)
        return app

    _serve(make, access, limits)


def serve_search(
    open_index: "Callable[[], tuple[Store, ImageEncoder]]",
    access: Access,
    *,
    limits: Limits,
    load: "Callable[[Stamp], ImageEncoder]",
    ready: "Callable[[str, Store], None]" = lambda *_: None,
) -> None:
    """Serve the search API of an index and its page until SIGTERM or SIGINT.

    Args:
        open_index: opens the index and its model, after the port is bound; the index is closed at the end.
        load: loads the model again after another process has changed that of the index.
        access: see above.
        limits: what is accepted.
        ready: called with the address of the page and the index before the first request is answered.

    Raises:
        PerceptError: the port cannot be used, the index or its model cannot be opened, or a library is missing.
    """
    with ExitStack() as stack:

        def make(url: str, state: State) -> Any:
            from percept.serve.search.app import search_app

            store, encoder = open_index()
            stack.callback(store.close)
            app = search_app(store, encoder, limits=limits, token=access.token, state=state, load=load)
            ready(url, store)
            return app

        _serve(make, access, limits)


def _serve(make: Callable[[str, State], Any], access: Access, limits: Limits) -> None:
    """Bind the port, make an application for the address, and serve it."""
    try:
        from percept.serve.server import Server, bound
    except ModuleNotFoundError as error:
        raise missing_extra(error.name or "uvicorn", "serve", "serving over HTTP") from None
    with bound(access.host, access.port) as listening:
        host, port = listening.getsockname()[:2]
        state = State()
        app = make(f"http://{f'[{host}]' if ':' in host else host}:{port}", state)
        Server(app, state, stop_seconds=limits.stop_seconds).run(sockets=[listening])
