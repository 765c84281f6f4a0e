"""Files by URL: http and https, from public addresses only, within bounds of size and time."""

import http.client
import ipaddress
import socket
import ssl
import time
from urllib.parse import SplitResult, urljoin, urlsplit

from percept.serve.errors import ApiError

SECONDS = 10.0
"""Seconds for a file, redirects included."""
REDIRECTS = 3
BLOCK = 64 << 10
REDIRECT_STATUSES = (301, 302, 303, 307, 308)


def is_public(address: str) -> bool:
    """Return True for an address of the public internet.

    >>> is_public("127.0.0.1"), is_public("169.254.169.254"), is_public("::ffff:10.0.0.1"), is_public("1.1.1.1")
    (False, False, False, True)
    """
    number = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(number, "ipv4_mapped", None)
    number = number if mapped is None else mapped
    return number.is_global and not number.is_multicast


def fetch(url: str, *, most: int, seconds: float = SECONDS) -> bytes:
    """Return the content of a URL.

    The name is resolved once, and the address that was checked is the one that is used.

    Args:
        most: largest size in bytes.
        seconds: longest time.

    Raises:
        ApiError: not http(s), not a public address, too large, too slow, or an error of the other server.
    """
    end = time.monotonic() + seconds
    try:
        for _ in range(REDIRECTS + 1):
            parts = _split(url)
            with _Connection(parts, end) as connection:
                response = connection.get(parts)
                place = response.getheader("location")
                if response.status in REDIRECT_STATUSES and place:
                    url = urljoin(url, place)
                    continue
                if response.status != 200:
                    raise _refused(f"{parts.hostname} answered with status {response.status}")
                return _content(response, connection, most)
    except TimeoutError:
        raise _refused(f"it did not arrive within {seconds:g} s") from None
    except (OSError, http.client.HTTPException) as error:
        raise _refused(f"the connection failed ({type(error).__name__})") from None
    raise _refused(f"it was redirected more than {REDIRECTS} times")


def _refused(reason: str) -> ApiError:
    return ApiError(
        400,
        f"An image could not be fetched: {reason}. Send it as a data URI.",
        param="messages",
        code="invalid_image_url",
    )


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise _refused("its URL is not valid") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise _refused("its URL has to begin with http:// or https:// and a host, without a user name")
    if any(letter <= " " or letter == "\x7f" for letter in url):
        raise _refused("its URL has blanks or control characters")
    return parts


class _Connection:
    """A connection to an address that was checked, which is given up when the time has passed."""

    def __init__(self, parts: SplitResult, end: float) -> None:
        self._end = end
        self._response: http.client.HTTPResponse | None = None
        assert parts.hostname is not None
        self._http = http.client.HTTPConnection(parts.hostname, parts.port or (443 if parts.scheme == "https" else 80))
        address = _address(parts.hostname, self._http.port)
        sock = socket.create_connection(address, timeout=self._left())
        if parts.scheme == "https":
            sock = ssl.create_default_context().wrap_socket(sock, server_hostname=parts.hostname)
        self._socket = self._http.sock = sock

    def __enter__(self) -> "_Connection":
        return self

    def __exit__(self, *_: object) -> None:
        if self._response is not None:
            self._response.close()
        self._http.close()
        self._socket.close()

    def get(self, parts: SplitResult) -> http.client.HTTPResponse:
        """Send a request; return the response, whose content has not been read."""
        self.limit()
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        path = path.encode("ascii", "ignore").decode() if not path.isascii() else path
        self._http.request("GET", path, headers={"Accept": "image/*", "User-Agent": "percept", "Connection": "close"})
        self._response = self._http.getresponse()
        return self._response

    def limit(self) -> None:
        """Set the timeout of the next operation to the remaining time."""
        self._socket.settimeout(self._left())

    def _left(self) -> float:
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


def _address(name: str, port: int) -> tuple[str, int]:
    """Return an address of a host, all of whose addresses are public."""
    found = [str(entry[4][0]) for entry in socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)]
    if not found or not all(map(is_public, found)):
        raise _refused(f"{name[:100]} is not a public address")
    return found[0], port


def _content(response: http.client.HTTPResponse, connection: _Connection, most: int) -> bytes:
    content = bytearray()
    while True:
        connection.limit()
        block = response.read1(BLOCK)
        if not block:
            return bytes(content)
        content += block
        if len(content) > most:
            raise ApiError(413, f"An image has more than {most >> 20} MiB. Send a smaller one.", param="messages")
