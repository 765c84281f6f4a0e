"""Judges: rules, and an endpoint on a small local server that refuses, fails and lies."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from percept.core.errors import PerceptError
from percept.eval.vlm.endpoint import KEY_VARIABLE, EndpointJudge, read_verdict
from percept.eval.vlm.judge import Case, Judge, RulesJudge


def answer(prediction: str, reference: str) -> Case:
    return Case(kind="answer", prediction=prediction, reference=reference, question="where?")


def caption(prediction: str, reference: str) -> Case:
    return Case(kind="caption", prediction=prediction, reference=reference)


@pytest.mark.parametrize(
    ("case", "right"),
    [
        (answer("to the left", "left"), True),
        (answer("left or right", "left"), False),
        (answer("the right", "left"), False),
        (answer("It moves to the left.", "it moves left"), True),
        (answer("a blue cup", "a red cup"), False),
        (answer("a gray cup", "a grey cup"), True),
        (answer("three", "3"), True),
        (answer("it does not move", "it moves"), False),
        (answer("", "left"), False),
        (answer("yes", "no"), False),
    ],
)
def test_rules_of_answers(case, right):
    (verdict,) = RulesJudge()([case])
    assert verdict.right is right
    assert verdict.understood


def test_rules_of_captions():
    same, more, less, wrong = RulesJudge()(
        [
            caption("the red cup moves slowly to the left", "the red cup moves slowly to the left"),
            caption(
                "the red cup moves slowly to the left of a blue dog and stops", "the red cup moves slowly to the left"
            ),
            caption("the red cup", "the red cup moves slowly to the left"),
            caption("the red cup moves slowly to the right", "the red cup moves slowly to the left"),
        ]
    )
    assert same.score == more.score == 1.0
    assert less.score == pytest.approx(0.4)
    assert wrong.score == pytest.approx(0.2)
    assert isinstance(RulesJudge(), Judge)


class Handler(BaseHTTPRequestHandler):
    """Answers with what the server's script says for this request."""

    def do_POST(self) -> None:
        server: Any = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            server.requests.append((self.path, self.headers.get("Authorization"), body))
            status, reply = server.script.pop(0) if server.script else (200, server.reply(body))
        if status == 0:  # a lost connection
            self.close_connection = True
            return
        data = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""


def completion(text: str) -> dict[str, Any]:
    return {"choices": [{"message": {"role": "assistant", "content": text}}]}


@pytest.fixture
def server() -> Iterator[Any]:
    made: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.script, made.requests, made.lock = [], [], threading.Lock()
    made.reply = lambda body: completion('{"verdict": "yes", "score": 5}')
    thread = threading.Thread(target=made.serve_forever, args=(0.01,))
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


def judge_of(server: Any, **options: Any) -> EndpointJudge:
    return EndpointJudge(url=f"http://127.0.0.1:{server.server_port}/v1", model="big", delay=0.001, **options)


def test_the_endpoint_is_asked_as_a_chat_api(server, monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, "secret")
    (verdict,) = judge_of(server)([answer("left", "to the left")])
    assert (verdict.score, verdict.right, verdict.understood) == (1.0, True, True)
    ((path, key, body),) = server.requests
    assert (path, key) == ("/v1/chat/completions", "Bearer secret")
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("big", 0, 256)
    assert "to the left" in body["messages"][1]["content"]


def test_equal_cases_are_asked_once_and_the_cache_answers_later(server, tmp_path):
    file = tmp_path / "cache" / "judge.jsonl"
    cases = [caption("a", "b"), caption("a", "b"), caption("a", "c")]
    server.reply = lambda body: completion('{"score": 4, "reason": "partly"}')
    first = judge_of(server, cache=file)(cases)
    assert [verdict.score for verdict in first] == [0.4, 0.4, 0.4]
    assert len(server.requests) == 2
    with file.open("a") as lines:
        lines.write('{"key": "cut off')
    assert judge_of(server, cache=file)(cases) == first
    assert len(server.requests) == 2


def test_refusals_and_lost_connections_are_tried_again(server):
    server.script = [(429, {"error": "slow down"}), (503, {}), (0, {}), (200, b'{"choices": [')]
    (verdict,) = judge_of(server)([answer("left", "left")])
    assert verdict.right
    assert len(server.requests) == 5


def test_an_endpoint_that_never_answers_is_named(server):
    server.script = [(500, {"error": "broken"})] * 3
    with pytest.raises(PerceptError, match=r"gave no answer in 3 attempts: status 500 .*broken"):
        judge_of(server, retries=2)([answer("left", "left")])
    assert len(server.requests) == 3


def test_a_refused_key_is_not_tried_again(server):
    server.script = [(401, {"error": "no key"})]
    with pytest.raises(PerceptError, match=f"status 401.*Set {KEY_VARIABLE}"):
        judge_of(server)([answer("left", "left")])
    assert len(server.requests) == 1


def test_a_server_of_another_kind_is_named(server):
    server.script = [(200, {"hello": 1})]
    with pytest.raises(PerceptError, match="not an OpenAI-compatible endpoint"):
        judge_of(server)([answer("left", "left")])
    with pytest.raises(PerceptError, match="not the address of an API"):
        EndpointJudge(url="localhost:80", model="big")


def test_many_cases_keep_their_order(server):
    server.reply = lambda body: completion(f'{{"score": {len(body["messages"][1]["content"]) % 10}}}')
    cases = [caption("x" * size, "y") for size in range(40)]
    verdicts = judge_of(server)(cases)
    lengths = [len(f"Correct caption: y\nPredicted caption: {case.prediction}") % 10 for case in cases]
    assert [verdict.score for verdict in verdicts] == [length / 10 for length in lengths]


@pytest.mark.parametrize(
    ("reply", "right", "score", "understood"),
    [
        ('{"verdict": "yes", "score": 4}', True, 0.8, True),
        ('```json\n{"verdict": "No", "score": 1}\n```', False, 0.2, True),
        ("{'pred': 'yes', 'score': 5}", True, 1.0, True),
        ("Yes, it is right", True, 1.0, False),
        ("eyes", False, 0.0, False),
        ('{"verdict": "yes", "score": 50}', True, 1.0, True),
        ("", False, 0.0, False),
    ],
)
def test_verdicts_on_answers(reply, right, score, understood):
    verdict = read_verdict(answer("a", "b"), reply)
    assert (verdict.right, verdict.score, verdict.understood) == (right, score, understood)


@pytest.mark.parametrize(
    ("reply", "score", "understood"),
    [
        ('{"score": 7, "reason": "x"}', 0.7, True),
        ('{"score": "7"}', 0.0, False),
        ("seven", 0.0, False),
        ('{"score": 11}', 0.0, False),
    ],
)
def test_verdicts_on_captions(reply, score, understood):
    verdict = read_verdict(caption("a", "b"), reply)
    assert (verdict.score, verdict.understood) == (score, understood)


def test_the_cache_file_is_readable(server, tmp_path: Path):
    file = tmp_path / "judge.jsonl"
    judge_of(server, cache=file)([answer("left", "left")])
    entry = json.loads(file.read_text())
    assert set(entry) == {"key", "reply"}
