"""The search server as a process and under load: many clients, stopping, and the command."""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from percept.cli import main
from percept.serve.guard import State
from percept.serve.search.app import search_app
from percept.serve.server import Server, bound
from tests.search.fakes import COLOURS, ColourEncoder, picture
from tests.serve.searching import indexed, served


def post(url: str, fields: dict[str, Any]) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
    try:
        connection.request("POST", "/v1/search", json.dumps(fields), {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def test_fifty_clients_at_once(tmp_path: Path) -> None:
    colours = list(COLOURS)

    def asking(number: int) -> list[tuple[int, str]]:
        colour = colours[number % 3]
        answers = [post(url, {"text": f"{colour} {number} {turn}", "top": 1}) for turn in range(3)]
        return [(status, answer["hits"][0]["name"]) for status, answer in answers]

    expected = {"red": "red copy.png", "green": "green.png", "blue": "blue <b>&.png"}
    with indexed(tmp_path, video=False) as store, served(store) as url, ThreadPoolExecutor(50) as clients:
        for number, answers in enumerate(clients.map(asking, range(50))):
            assert answers == [(200, expected[colours[number % 3]])] * 3


def test_searches_finish_and_new_ones_get_503_when_it_stops(tmp_path: Path) -> None:
    gate, entered = threading.Event(), threading.Event()

    class Slow(ColourEncoder):
        def text(self, texts: list[str]) -> torch.Tensor:
            entered.set()
            assert gate.wait(30)
            return super().text(texts)

    state = State()
    with indexed(tmp_path, video=False) as store, bound("127.0.0.1", 0) as listening, ThreadPoolExecutor(1) as pool:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        server = Server(search_app(store, Slow(), state=state), state, stop_seconds=30.0)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        waiting = pool.submit(post, url, {"text": "red"})
        assert entered.wait(30)
        server.stop()
        assert post(url, {"text": "blue"})[0] == 503
        gate.set()
        status, answer = waiting.result()
        assert (status, answer["hits"][0]["name"]) == (200, "red copy.png")
        thread.join(timeout=30)
        assert not thread.is_alive()


def test_a_client_that_leaves_a_download_is_forgotten(tmp_path: Path) -> None:
    state = State()
    with indexed(tmp_path, video=False) as store, bound("127.0.0.1", 0) as listening:
        large = picture(tmp_path / "pictures" / "large.png", "white", (4, 4))
        large.write_bytes(large.read_bytes() + b"\0" * (64 << 20))  # far more than sockets buffer
        from percept.search.build import build
        from percept.search.store import Root

        build(store, ColourEncoder(), [Root(path=large)])
        server = Server(search_app(store, ColourEncoder(), state=state), state, stop_seconds=30.0)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        hit = post(url, {"text": "white", "top": 1})[1]["hits"][0]
        response = urllib.request.urlopen(url + hit["file"], timeout=30)
        assert len(response.read(1000)) == 1000
        assert state.active == 1
        response.close()
        end = time.monotonic() + 20
        while state.active:
            assert time.monotonic() < end
            time.sleep(0.02)
        server.stop()
        thread.join(timeout=30)
        assert not thread.is_alive()


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture(tmp_path / "pictures" / "red.png", "red", (64, 64))
    index = tmp_path / "index"
    assert main(["index", str(tmp_path / "pictures"), "--index", str(index)]) == 0
    capsys.readouterr()
    assert main(["serve", str(index), "--allow-urls", "--port", "0"]) == 2
    assert "--allow-urls has no effect with an index" in capsys.readouterr().err
    command = [sys.executable, "-m", "percept", "serve", str(index), "--port", "0", "--device", "cpu"]
    pipe, environment = subprocess.PIPE, os.environ | {"PYTHONUNBUFFERED": "1", "PERCEPT_TOKEN": ""}
    process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment)
    try:
        assert process.stderr is not None
        url = process.stderr.readline().split(" at ")[1].split()[0]
        assert post(url, {"text": "a red square"})[1]["hits"][0]["name"] == "red.png"
        with urllib.request.urlopen(url, timeout=30) as page:
            assert b"<!doctype html>" in page.read()
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.communicate()
    assert (process.returncode, out, err.split()[-1]) == (0, "", "stopped")
