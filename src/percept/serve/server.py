"""The server process: its socket, its protocol, and how it stops. Importing this needs the extra `serve`."""

import asyncio
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from types import FrameType
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from percept.core.errors import PerceptError
from percept.serve.guard import State

CLOSE_SECONDS = 5
"""Seconds for connections to close once all answers are sent."""
BACKLOG = 1024


def bound(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        PerceptError: the name is unknown, or the port is in use or not permitted.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with ExitStack() as stack:
            made = stack.enter_context(socket.socket(family, kind, protocol))
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(address)
            made.listen(BACKLOG)
            stack.pop_all()
            return made
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PerceptError(f"{host}:{port} cannot be used: {reason}. Choose a different --port or --host.") from None


class Server(uvicorn.Server):
    """A server that finishes what it has accepted before it stops; a second signal ends it at once."""

    def __init__(self, app: Any, state: State, *, stop_seconds: float) -> None:
        super().__init__(
            uvicorn.Config(
                app, http=cast(Any, Buffered), ws="none", lifespan="on", log_level="warning", access_log=False,
                server_header=False, timeout_graceful_shutdown=CLOSE_SECONDS,
            )
        )  # fmt: skip
        self._state = state
        self._stop_seconds = stop_seconds
        self._deadline = float("inf")

    def stop(self) -> None:
        """Refuse new requests, and end when the others are answered."""
        self._state.stopping = True
        self._deadline = time.monotonic() + self._stop_seconds

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop at the first signal, and give up all answers at the second."""
        if self._state.stopping:
            self.should_exit = self.force_exit = True
        else:
            self.stop()

    async def on_tick(self, counter: int) -> bool:
        """Return True when the server is to end."""
        if self._state.stopping and (not self._state.active or time.monotonic() > self._deadline):
            self.should_exit = True
        return await super().on_tick(counter)


class Buffered(H11Protocol):
    """HTTP/1.1 whose writes within one turn of the event loop leave together: header and body in one packet."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Take a connection."""
        super().connection_made(
            cast(asyncio.Transport, BufferedTransport(transport, asyncio.get_running_loop().call_soon))
        )


class BufferedTransport:
    """A transport that collects what is written until the event loop comes round.

    Args:
        transport: what writes.
        later: calls a function in the next turn of the event loop.
    """

    def __init__(self, transport: asyncio.Transport, later: Callable[[Callable[[], None]], object]) -> None:
        self._transport = transport
        self._later = later
        self._parts: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write later."""
        if not self._parts:
            self._later(self.flush)
        self._parts.append(data)

    def flush(self) -> None:
        """Write what was collected."""
        parts, self._parts = self._parts, []
        if parts and not self._transport.is_closing():
            self._transport.write(b"".join(parts))

    def close(self) -> None:
        """Write what was collected, and close."""
        self.flush()
        self._transport.close()
