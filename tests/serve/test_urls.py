"""Fetching by URL: public addresses only, bounded in size and time."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from percept.serve import urls
from percept.serve.errors import ApiError
from percept.serve.urls import fetch, is_public


class Handler(BaseHTTPRequestHandler):
    seen: list[str] = []  # noqa: RUF012 - reset by the fixture

    def do_GET(self) -> None:
        self.seen.append(self.path)
        if self.path == "/slow":
            self.send_response(200)
            self.end_headers()
            with suppress(OSError):  # the client leaves
                for _ in range(600):
                    self.wfile.write(b"x")
                    time.sleep(0.1)
            return
        moved = {
            "/moved": "/good?a=1",
            "/loop": "/loop",
            "/inside": "http://10.0.0.1/secret",
            "/file": "file:///etc/passwd",
        }
        self.send_response(302 if self.path in moved else 404 if self.path == "/missing" else 200)
        if self.path in moved:
            self.send_header("Location", moved[self.path])
        self.end_headers()
        self.wfile.write(b"picture" * (1000 if self.path == "/large" else 1))

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server on this machine that counts as public."""
    monkeypatch.setattr(urls, "is_public", lambda address: address == "127.0.0.1" or is_public(address))
    monkeypatch.setattr(Handler, "seen", [])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_content_is_returned_also_after_a_redirect(base: str) -> None:
    assert fetch(f"{base}/good?b=2", most=100) == b"picture" == fetch(f"{base}/moved", most=100)
    assert Handler.seen == ["/good?b=2", "/moved", "/good?a=1"]


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/missing", 400, "answered with status 404"), ("/loop", 400, "redirected more than 3 times"),
        ("/inside", 400, "10.0.0.1 is not a public address"), ("/file", 400, "has to begin with http"),
        ("/large", 413, "more than"), ("/a b", 400, "blanks or control"), ("/a\r\nX: y", 400, "blanks or control|not valid|begin"),
    ],
)  # fmt: skip
def test_refusals(base: str, path: str, status: int, words: str) -> None:
    with pytest.raises(ApiError, match=words) as caught:
        fetch(base + path, most=100)
    assert caught.value.status == status


def test_a_slow_server_is_given_up(base: str) -> None:
    start = time.monotonic()
    with pytest.raises(ApiError, match=r"did not arrive within 0\.5 s"):
        fetch(f"{base}/slow", most=100, seconds=0.5)
    assert time.monotonic() - start < 30  # the whole answer takes a minute


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/", "http://localhost/", "http://[::1]/", "http://169.254.169.254/latest", "http://192.168.1.1/", "http://0/",
        "http://[::ffff:127.0.0.1]/", "http://2130706433/", "http://0x7f.1/", "http://100.64.0.1/", "http://224.0.0.1/",
    ],
)  # fmt: skip
def test_private_addresses_are_not_asked(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: pytest.fail("a connection was made"))
    with pytest.raises(ApiError, match=r"is not a public address|connection failed"):
        fetch(url, most=100)


def test_a_name_with_one_private_address_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80)) for address in ("93.184.216.34", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: entries)
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: pytest.fail("a connection was made"))
    with pytest.raises(ApiError, match="is not a public address"):
        fetch("http://mixed.example/", most=100)


@pytest.mark.parametrize("url", ["ftp://a/", "http://", "http://user@a/", "http://a:99999/", "http://[::1/"])
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(ApiError, match="could not be fetched"):
        fetch(url, most=100)
