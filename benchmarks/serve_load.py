"""Load `percept serve` with many clients, and measure latency and failures.

    python benchmarks/serve_load.py                            # prints a table and writes serve_load.json next to this file
    python benchmarks/serve_load.py --model FOLDER --clients 64

The server is a process of its own, by default with a toy model of random weights. Every client asks one question after the other,
each about an image of its own, in turn streamed and whole, with the `openai` package.
"""

import base64
import io
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openai
import torch
import tyro
from harness import facts, save
from random_assistant import photo, toy

from percept.core.errors import PerceptError
from percept.core.report import out, table

RESULTS = Path(__file__).with_suffix(".json")
QUESTIONS = ("what is on the table?", "how many birds are there?", "is the cup red?")


@dataclass(frozen=True)
class Answered:
    """One answer."""

    seconds: float
    first: float
    """Seconds to the first token; the same as `seconds` for an answer that is not streamed."""
    tokens: int
    streamed: bool


class Client(threading.Thread):
    """One client, which asks its questions one after the other."""

    def __init__(self, number: int, url: str, requests: int, tokens: int) -> None:
        super().__init__()
        self._number, self._requests, self._tokens = number, requests, tokens
        self._client = openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=300)
        self.answers: list[Answered] = []
        self.failures: list[str] = []
        file = io.BytesIO()
        photo(number, 320, 240).save(file, "JPEG")
        self._image = f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"

    def run(self) -> None:
        """Ask all questions."""
        for turn in range(self._requests):
            try:
                self.answers.append(self._ask(turn, streamed=turn % 2 == self._number % 2))
            except openai.OpenAIError as error:
                self.failures.append(f"{type(error).__name__}: {error}")
        self._client.close()

    def _ask(self, turn: int, *, streamed: bool) -> Answered:
        text = {"type": "text", "text": QUESTIONS[(self._number + turn) % len(QUESTIONS)]}
        content = [text, {"type": "image_url", "image_url": {"url": self._image}}]
        options: Any = {"stream": True, "stream_options": {"include_usage": True}} if streamed else {}
        messages: Any = [{"role": "user", "content": content}]
        start, first, usage = time.perf_counter(), None, None
        reply: Any = self._client.chat.completions.create(
            model="percept", messages=messages, max_tokens=self._tokens, **options
        )
        if not streamed:
            taken = time.perf_counter() - start
            return Answered(taken, taken, reply.usage.completion_tokens, streamed)
        for chunk in reply:
            first = first or time.perf_counter() - start
            usage = chunk.usage or usage
        assert first is not None
        assert usage is not None
        return Answered(time.perf_counter() - start, first, usage.completion_tokens, streamed)


@contextmanager
def serving(model: Path, batch: int) -> Iterator[str]:
    """Start the server; yield the address of its API."""
    command = [
        sys.executable,
        "-m",
        "percept",
        "serve",
        str(model),
        "--port",
        "0",
        "--batch",
        str(batch),
        "--device",
        "cpu",
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        if " at http" not in line:
            raise PerceptError(f"the server did not start: {line}{process.stderr.read()}")
        yield line.split(" at ")[1].split(";")[0].strip()
    finally:
        process.terminate()
        process.communicate()


def loaded(url: str, clients: int, requests: int, tokens: int) -> tuple[list[Client], float]:
    """Run all clients at the same time; return them and the seconds."""
    threads = [Client(number, url, requests, tokens) for number in range(clients)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return threads, time.perf_counter() - start


def summary(threads: list[Client], taken: float) -> dict[str, Any]:
    """Return latencies in seconds, rates and failures."""
    answers = [answer for thread in threads for answer in thread.answers]
    failures = [failure for thread in threads for failure in thread.failures]
    if not answers:
        raise PerceptError(f"no request was answered: {failures[:3]}")
    whole = np.array([answer.seconds for answer in answers])
    first = np.array([answer.first for answer in answers if answer.streamed])
    return {
        "requests": len(answers) + len(failures), "failures": len(failures), "reasons": sorted(set(failures))[:5],
        "p50 s": round(float(np.quantile(whole, 0.5)), 3), "p99 s": round(float(np.quantile(whole, 0.99)), 3),
        "first token p50 s": round(float(np.quantile(first, 0.5)), 3), "first token p99 s": round(float(np.quantile(first, 0.99)), 3),
        "answers/s": round(len(answers) / taken, 2), "tokens/s": round(sum(answer.tokens for answer in answers) / taken, 1),
    }  # fmt: skip


def main(
    model: Path | None = None,
    clients: int = 32,
    requests: int = 4,
    tokens: int = 32,
    batch: int = 16,
    json_file: Path = RESULTS,
) -> None:
    """Measure the server under load.

    Args:
        model: Folder of a model. Default: a toy model of random weights.
        clients: Clients that ask at the same time; one is measured too.
        requests: Requests of each client.
        tokens: Most tokens of an answer.
        batch: Answers that the server generates together.
        json_file: Result file.
    """
    start, results = time.perf_counter(), []
    with tempfile.TemporaryDirectory() as folder, serving(model or toy().save(Path(folder, "toy")), batch) as url:
        loaded(url, 2, 1, tokens)  # warms up
        for count in (1, clients):
            threads, taken = loaded(url, count, requests, tokens)
            results.append({"clients": count} | summary(threads, taken))
    columns = [name for name in results[0] if name != "reasons"]
    table("percept serve under load", columns, [[entry[name] for name in columns] for entry in results])
    for entry in results:
        if entry["failures"]:
            out.print(f"failures: {entry['reasons']}")
    about = {
        "model": str(model.name) if model else "toy of random weights",
        "tokens of an answer": tokens,
        "batch": batch,
    }
    save(json_file, facts(torch.device("cpu"), start) | about | {"results": results})


if __name__ == "__main__":
    tyro.cli(main)
