"""Load `percept serve INDEX` with many clients, and measure latency, failures and memory.

    python benchmarks/search_server.py                         # prints a table and writes search_server.json next to this file
    python benchmarks/search_server.py --items 1000000 --clients 50

The server is a process of its own, with the model nano and an index of random unit vectors. Every client searches one thing after
the other, in turn by a text, by an image file and by an item of the index. Every text and image is asked for once, so that no
answer comes from a cache, and a thumbnail is fetched after each. The clients share the processors with the server; "processor ms" is what the server alone used for a search.
"""

import base64
import http.client
import io
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import torch
import tyro
from harness import facts, save
from random_assistant import photo

import percept
from percept.core.errors import PerceptError
from percept.core.report import out, table
from percept.search.store import FileState, NewContent, Store

RESULTS = Path(__file__).with_suffix(".json")
BATCH = 10_000
KINDS = ("text", "image", "like")
COLOURS = ("red", "green", "blue", "yellow", "pink", "grey", "brown", "orange")
THINGS = ("bus", "horse", "boat", "cup", "tree", "duck", "kite", "lamp")


def make_index(folder: Path, items: int) -> None:
    """Make an index of random unit vectors, each an image with the same thumbnail."""
    encoder, random = percept.load("nano"), np.random.default_rng(0)
    thumbnail = jpeg(0)
    with Store.create(folder, encoder) as store:
        dim = store.stamp.dim
        for first in range(0, items, BATCH):
            rows = random.standard_normal((min(BATCH, items - first), dim)).astype(np.float32)
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
            names = [f"{first + row:08d}" for row in range(len(rows))]
            contents = [
                NewContent(hash=name, kind="image", width=320, height=240, vectors=row[None], thumbnail=thumbnail)
                for name, row in zip(names, rows, strict=True)
            ]
            paths = [Path("/nowhere", f"{name}.jpg") for name in names]
            files = [
                FileState(path=path, bytes=1, modified=0, hash=name) for path, name in zip(paths, names, strict=True)
            ]
            store.add(contents, files)


def jpeg(number: int) -> bytes:
    """Return an image file."""
    file = io.BytesIO()
    photo(number, 320, 240).save(file, "JPEG")
    return file.getvalue()


class Client(threading.Thread):
    """One client, which keeps its connection and asks one thing after the other."""

    def __init__(self, number: int, url: str, requests: int) -> None:
        super().__init__()
        self._number = number
        kinds = [KINDS[(number + turn) % len(KINDS)] for turn in range(requests)]
        self._bodies = [(kind, json.dumps({"top": 24} | self._query(kind, turn))) for turn, kind in enumerate(kinds)]
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=300)
        self.seconds: dict[str, list[float]] = {kind: [] for kind in (*KINDS, "thumbnail")}
        self.failures: list[str] = []

    def run(self) -> None:
        """Ask everything."""
        for kind, body in self._bodies:
            hits = self._timed(kind, "POST", "/v1/search", body)
            if hits:
                self._timed("thumbnail", "GET", json.loads(hits)["hits"][0]["thumbnail"], None)
        self._connection.close()

    def _query(self, kind: str, turn: int) -> dict[str, Any]:
        number = self._number * 1009 + turn
        if kind == "image":
            return {"image": base64.b64encode(jpeg(number)).decode()}
        if kind == "like":
            return {"like": 1 + number % 1000}
        words = [COLOURS[number % 8], THINGS[number // 8 % 8], COLOURS[number // 64 % 8], THINGS[number // 512 % 8]]
        return {"text": f"a {words[0]} {words[1]} next to a {words[2]} {words[3]}, {self._number} {turn}"}

    def _timed(self, kind: str, method: str, path: str, body: str | None) -> bytes:
        start = time.perf_counter()
        try:
            self._connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
            response = self._connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            self.failures.append(type(error).__name__)
            self._connection.close()
            return b""
        self.seconds[kind].append(time.perf_counter() - start)
        if response.status != 200:
            self.failures.append(f"status {response.status}: {content[:100].decode()}")
            return b""
        return content


@contextmanager
def serving(index: Path) -> Iterator[tuple[str, int]]:
    """Start the server; yield its address and process id."""
    command = [sys.executable, "-m", "percept", "serve", str(index), "--port", "0", "--device", "cpu"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        if " at http" not in line:
            raise PerceptError(f"the server did not start: {line}{process.stderr.read()}")
        yield line.split(" at ")[1].split()[0], process.pid
    finally:
        process.terminate()
        process.communicate()


def memory(pid: int, name: str) -> float:
    """Return a line of /proc/PID/status in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return round(next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024, 1)


def processor(pid: int) -> float:
    """Return the seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measured(url: str, pid: int, clients: int, requests: int, first: int) -> dict[str, Any]:
    """Run all clients at the same time; return latencies in milliseconds, the rate, failures and memory."""
    threads = [Client(first + number, url, requests) for number in range(clients)]
    used, start = processor(pid), time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken, used = time.perf_counter() - start, processor(pid) - used
    times = {kind: [each for thread in threads for each in thread.seconds[kind]] for kind in (*KINDS, "thumbnail")}
    searches = [each for kind in KINDS for each in times[kind]]
    failures = [failure for thread in threads for failure in thread.failures]
    row: dict[str, Any] = {"clients": clients, "searches": len(searches), "failures": len(failures)}
    for name, values in {"search": searches, **times}.items():
        for quantile in (50, 99):
            row[f"{name} p{quantile} ms"] = (
                round(1000 * float(np.quantile(values, quantile / 100)), 1) if values else None
            )
    row |= {
        "searches/s": round(len(searches) / taken, 1),
        "processor ms": round(1000 * used / max(1, len(searches)), 1),
        "peak MiB": memory(pid, "VmHWM"),
        "after MiB": memory(pid, "VmRSS"),
    }
    return row | {"reasons": sorted(set(failures))[:5]}


def main(items: int = 50_000, clients: int = 50, requests: int = 12, json_file: Path = RESULTS) -> None:
    """Measure the server under load.

    Args:
        items: Images of the index.
        clients: Clients that search at the same time; one is measured too.
        requests: Searches of each client.
        json_file: Result file.
    """
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        make_index(Path(folder, "index"), items)
        with serving(Path(folder, "index")) as (url, pid):
            measured(url, pid, 1, 6, 10_000)  # warms up
            before = memory(pid, "VmRSS")
            rows = [
                measured(url, pid, count, requests, 1000 * place) for place, count in enumerate((1, clients, clients))
            ]
    columns = [
        "clients", "searches", "failures", "search p50 ms", "search p99 ms", "thumbnail p50 ms", "searches/s", "processor ms",
        "peak MiB",
    ]  # fmt: skip
    table("percept serve INDEX under load", columns, [[row[name] for name in columns] for row in rows])
    for row in rows:
        if row["failures"]:
            out.print(f"failures: {row['reasons']}")
    about = {"model": "nano", "items": items, "searches of a client": requests, "MiB before": before}
    save(json_file, facts(torch.device("cpu"), start) | about | {"results": rows})


if __name__ == "__main__":
    tyro.cli(main)
