"""Bodies of requests: read within bounds, or discarded so that the client can read why it was refused."""

import asyncio
from typing import TYPE_CHECKING

from percept.serve.budget import Ticket
from percept.serve.errors import ApiError
from percept.serve.limits import MIB, Limits

if TYPE_CHECKING:
    from starlette.types import Receive, Scope

COPIES = 3
"""How often a body is in memory while it is parsed: as it came, as text, and as decoded images."""
DISCARD_SECONDS, DISCARD_BYTES = 10.0, 256 * MIB
"""How much of a refused body is read."""


JSON, FORM = b"application/json", b"multipart/form-data"


async def read_body(
    scope: "Scope", receive: "Receive", limits: Limits, ticket: Ticket, *, types: tuple[bytes, ...] = (JSON,)
) -> bytes:
    """Return the body of a request, whose bytes the ticket holds from now on.

    Raises:
        ApiError: too large, too slow, not of one of the types, or there is no room for it now.
    """
    headers = dict(scope["headers"])
    if not headers.get(b"content-type", b"").lower().startswith(types):
        names = "json" if types == (JSON,) else "json or a form"
        wanted = " or ".join(each.decode() for each in types)
        raise ApiError(415, f"The body has to be {names}. Send the header Content-Type: {wanted}.")
    announced = headers.get(b"content-length", b"0")
    expected = int(announced) if announced.isdigit() else 0
    _check_size(expected, limits)
    ticket.resize(COPIES * expected)
    body = bytearray()
    try:
        async with asyncio.timeout(limits.read_seconds):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ApiError(400, "The connection was closed before the body had arrived.")
                body += message.get("body", b"")
                _check_size(len(body), limits)
                if len(body) > expected:  # sent in chunks, without a length
                    expected = 2 * len(body)
                    ticket.resize(COPIES * expected)
                if not message.get("more_body"):
                    return bytes(body)
    except TimeoutError:
        raise ApiError(408, f"The body did not arrive within {limits.read_seconds:g} s. Send it again.") from None


def _check_size(size: int, limits: Limits) -> None:
    if size > limits.body_mib * MIB:
        raise ApiError(413, f"The body has more than {limits.body_mib} MiB. Send fewer or smaller images.")


async def discard(receive: "Receive") -> None:
    """Read and drop the rest of a body, up to a limit."""
    seen = 0
    try:
        async with asyncio.timeout(DISCARD_SECONDS):
            while seen < DISCARD_BYTES:
                message = await receive()
                seen += len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body"):
                    return
    except TimeoutError:
        return
