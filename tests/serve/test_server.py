"""What surrounds the chat API: queue, tokens, stopping, connections, and the command."""

import asyncio
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from percept.cli import main
from percept.core.errors import PerceptError
from percept.infer.live import LiveBatch
from percept.serve.budget import Budget
from percept.serve.errors import ApiError
from percept.serve.limits import Limits
from percept.serve.server import BufferedTransport
from percept.serve.start import Access
from tests.infer import speaking
from tests.serve.running import Running, picture_part, running, user


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Answers wait for their next token until this is set."""
    event, step = threading.Event(), LiveBatch.step

    def patient(batch: LiveBatch) -> Any:
        assert event.wait(30)
        return step(batch)

    monkeypatch.setattr(LiveBatch, "step", patient)
    yield event
    event.set()


def ask(server: Running, **options: Any) -> Any:
    whole: Any = {"model": "percept", "messages": [user("what?")], "max_tokens": 5} | options
    return server.client().chat.completions.create(**whole)


class Asking(threading.Thread):
    """A question in a thread of its own."""

    def __init__(self, server: Running, **options: Any) -> None:
        super().__init__()
        self.result: Any = None
        self._ask = lambda: ask(server, **options)
        self.start()

    def run(self) -> None:
        try:
            self.result = self._ask()
        except openai.OpenAIError as error:
            self.result = error


def wait_for(condition: Any) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def raw(server: Running, method: str, path: str, headers: dict[str, str] | None = None, body: Any = None) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        chunked = "Transfer-Encoding" in (headers or {})
        connection.request(method, path, body, headers or {}, encode_chunked=chunked)
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), json.loads(response.read())
    finally:
        connection.close()


def test_a_full_queue_is_status_429(gate: threading.Event) -> None:
    with running(speaking.assistant(), limits=Limits(queue=2)) as server:
        asking = [Asking(server) for _ in range(2)]
        wait_for(lambda: server.state.active == 2)
        time.sleep(0.1)
        with pytest.raises(openai.RateLimitError, match="busy: 2 requests wait already") as caught:
            ask(server)
        assert caught.value.response.headers["retry-after"] == "2"
        gate.set()
        for each in asking:
            each.join()
            assert each.result.choices[0].message.content is not None
        assert ask(server).choices


def test_bodies_that_would_fill_the_memory_are_status_429(gate: threading.Event) -> None:
    big = [user("what?", "x" * 400_000)]
    with running(speaking.assistant(), limits=Limits(queue_mib=1)) as server:
        with pytest.raises(openai.RateLimitError, match="fill its memory"):
            ask(server, messages=big)
        gate.set()
        assert ask(server, messages=[user(picture_part(speaking.picture(1)))]).choices


def test_budget() -> None:
    budget = Budget(requests=2, nbytes=100)
    with budget.enter() as first, budget.enter() as second:
        first.resize(60)
        with pytest.raises(ApiError, match="fill its memory"):
            second.resize(41)
        first.resize(10)
        second.resize(90)
        assert (budget.requests, budget.nbytes) == (2, 100)
        with pytest.raises(ApiError, match="2 requests wait"), budget.enter():
            pass
    assert (budget.requests, budget.nbytes) == (0, 0)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_its_place(gate: threading.Event, stream: bool) -> None:
    with running(speaking.assistant(), limits=Limits(queue=1)) as server:
        body = json.dumps({"model": "percept", "messages": [user("what?")], "max_tokens": 400, "stream": stream})
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
        wait_for(lambda: server.state.active == 1)
        time.sleep(0.1)
        connection.close()
        wait_for(lambda: server.state.active == 0)
        gate.set()
        start = time.monotonic()
        assert ask(server, max_tokens=1).choices
        assert time.monotonic() - start < 10


def test_answers_finish_and_new_requests_get_503_when_it_stops(gate: threading.Event) -> None:
    server = Running(speaking.assistant())
    asking = Asking(server)
    wait_for(lambda: server.state.active == 1)
    time.sleep(0.1)
    server.server.handle_exit(signal.SIGTERM, None)
    with pytest.raises(openai.InternalServerError, match="stopping") as caught:
        ask(server)
    assert (caught.value.status_code, raw(server, "GET", "/health")[0]) == (503, 503)
    gate.set()
    asking.join()
    assert asking.result.choices[0].finish_reason
    server.thread.join(20)
    assert not server.thread.is_alive()
    with pytest.raises(openai.APIConnectionError):
        ask(server)
    server.stop()


def test_tokens() -> None:
    with running(speaking.assistant(), token="secret") as server:
        assert ask(server).choices
        with pytest.raises(openai.AuthenticationError, match="token is missing or wrong"):
            server.client(api_key="wrong").models.list()
        assert raw(server, "GET", "/health", {"Host": "any.example"})[0] == 200
        status, headers, body = raw(server, "GET", "/v1/models")
        assert (status, headers["www-authenticate"], body["error"]["code"]) == (401, "Bearer", "invalid_api_key")
        assert raw(server, "GET", "/v1/models", {"Authorization": "bearer secret", "Host": "any.example"})[0] == 200


def test_without_a_token_only_local_names_are_answered() -> None:
    with running(speaking.assistant()) as server:
        for host, status in (
            ("localhost:1", 200),
            ("[::1]", 200),
            ("127.0.0.1", 200),
            ("evil.example", 403),
            ("", 403),
        ):
            assert raw(server, "GET", "/v1/models", {"Host": host})[0] == status
        assert raw(server, "POST", "/v1/chat/completions", {"Content-Type": "text/plain"}, "{}")[0] == 415
        assert raw(server, "POST", "/v1/chat/completions", {"Content-Type": "application/json"}, "{")[0] == 400
        status, _, body = raw(server, "GET", "/v1/nothing")
        assert (status, "nothing at this address" in body["error"]["message"]) == (404, True)
        assert raw(server, "GET", "/v1/chat/completions")[0] == 405
        assert raw(server, "GET", "/health")[2] == {"status": "ok"}


def test_a_body_that_does_not_arrive_is_status_408() -> None:
    lines = [
        "POST /v1/chat/completions HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/json",
        "Content-Length: 9",
    ]
    with running(speaking.assistant(), limits=Limits(read_seconds=0.2)) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
            connection.sendall("\r\n".join([*lines, "", ""]).encode())
            assert b"408" in connection.recv(100)
        wait_for(lambda: server.state.active == 0)


def test_a_body_in_chunks_is_read() -> None:
    chunks: Any = iter([b'{"model": "percept", ', b'"messages": [{"role": "user", "content": "a"}], "max_tokens": 1}'])
    headers = {"Content-Type": "application/json", "Transfer-Encoding": "chunked"}
    with running(speaking.assistant()) as server:
        assert raw(server, "POST", "/v1/chat/completions", headers, chunks)[0] == 200


def test_header_and_body_leave_together() -> None:
    """One packet, because a client may wait 40 ms for the second one."""
    written: list[bytes] = []
    write = BufferedTransport.flush

    class Recording(asyncio.Transport):
        closed = False

        def write(self, data: Any) -> None:
            written.append(data)

        def is_closing(self) -> bool:
            return self.closed

        def close(self) -> None:
            self.closed = True

    later: list[Any] = []
    transport = BufferedTransport(Recording(), later.append)
    transport.write(b"header")
    transport.write(b"body")
    assert (written, len(later)) == ([], 1)
    later[0]()
    transport.write(b"more")
    transport.close()
    later[1]()
    assert written == [b"headerbody", b"more"]
    with running(speaking.assistant()) as server:
        packets: list[int] = []
        BufferedTransport.flush = lambda self: packets.append(len(self._parts)) or write(self)  # type: ignore[method-assign]
        try:
            raw(server, "GET", "/health")
        finally:
            BufferedTransport.flush = write
        assert max(packets) >= 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"host": "0.0.0.0"}, "0.0.0.0 can be reached from other machines, so requests need a token"),
        ({"host": "example.org"}, "need a token"),
        ({"port": 70000}, "port must be 0 to 65535"),
        ({"token": "a\nb"}, "token must be printable"),
        ({"token": "ü"}, "token must be printable"),
    ],
)
def test_access(options: dict[str, Any], words: str) -> None:
    with pytest.raises(PerceptError, match=words):
        Access(**options)
    assert Access(host="0.0.0.0", token="a").port == 8000


def test_limits_are_positive() -> None:
    with pytest.raises(PerceptError, match="images must be positive, got 0"):
        Limits(images=0)


def test_the_command_says_what_is_wrong(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PERCEPT_TOKEN", raising=False)
    assert main(["serve", "plm-nano", "--host", "0.0.0.0"]) == 2
    assert "need a token" in capsys.readouterr().err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["serve", "plm-nano", "--port", str(taken.getsockname()[1])]) == 2
    assert "in use. Choose a different --port" in capsys.readouterr().err
    assert main(["serve", "nano", "--port", "0"]) == 2
    assert "nano" in capsys.readouterr().err


def test_the_command_serves_and_stops(tmp_path: Path) -> None:
    folder = speaking.folder(tmp_path / "speaking")
    environment = os.environ | {"PERCEPT_TOKEN": "secret", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "percept", "serve", str(folder), "--port", "0", "--device", "cpu"]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment)
    try:
        assert process.stderr is not None
        url = process.stderr.readline().split(" at ")[1].split(";")[0].strip()
        message: Any = user("what?", picture_part(speaking.picture(1)))
        with openai.OpenAI(base_url=url, api_key="secret", max_retries=0, timeout=60) as client:
            for model in (str(folder), "speaking", "percept"):
                reply = client.chat.completions.create(model=model, messages=[message], max_tokens=4)
                assert reply.model == "speaking"
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.communicate()
    assert (process.returncode, out, err.split()[-1]) == (0, "", "stopped")
