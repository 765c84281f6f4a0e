"""A judge behind an OpenAI-compatible endpoint, with a cache, retries, and several requests at a time."""

import hashlib
import json
import os
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any

from percept.core.errors import PerceptError
from percept.core.report import track
from percept.eval.vlm.judge import Case, Verdict

KEY_VARIABLE = "PERCEPT_JUDGE_KEY"
"""Environment variable with the key of the endpoint."""
MOST_TOKENS = 256
RETRIED = (408, 409, 429, 500, 502, 503, 504)
"""Status codes after which a request is sent again."""
LARGEST_REPLY = 1 << 20
ANSWER_POINTS, CAPTION_POINTS = 5, 10
ANSWER_RULES = (
    "You compare an answer to a question about a video with the correct answer. It is right if it means the same; wording, synonyms and "
    "further details that do not contradict are irrelevant. Reply with nothing but a json object of the form "
    '{"verdict": "yes" or "no", "score": an integer from 0 to 5}, where 5 means the same and 0 is unrelated or wrong.'
)
CAPTION_RULES = (
    "You grade how well a predicted caption agrees with a correct caption. Look for each fact of the correct caption in the prediction: missing "
    "and wrong facts cost points, grave ones more. Further details cost nothing unless they contradict; nor does wording. Reply with "
    'nothing but a json object of the form {"score": an integer from 0 to 10, "reason": a short sentence}, where 10 says everything.'
)


@dataclass(frozen=True, kw_only=True)
class EndpointJudge:
    """Asks a language model for verdicts, at temperature 0.

    The wording is ours; the published one is that of the public evaluation code.
    """

    url: str
    """Of the API, such as http://127.0.0.1:8000/v1; /chat/completions is added."""
    model: str
    cache: Path | None = None
    """File to which replies are appended, and from which equal requests are answered."""
    retries: int = 5
    """After a refusal for too many requests, an error of the server or a lost connection."""
    delay: float = 1.0
    """Seconds before the first retry; each further one waits twice as long."""
    timeout: float = 120.0
    """Seconds of a request."""
    parallel: int = 8
    """Requests at a time."""
    _known: dict[str, str] = field(default_factory=dict, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise PerceptError(
                f"the judge {self.url!r} is not the address of an API. Give http://HOST:PORT/v1, or rules."
            )
        if self.cache is not None and self.cache.is_file():
            self._known.update(_read_cache(self.cache))

    @property
    def name(self) -> str:
        """Name of the language model."""
        return self.model

    def __call__(self, cases: Sequence[Case], /) -> list[Verdict]:
        """Return a verdict for each case; equal ones are asked once.

        Raises:
            PerceptError: the endpoint refuses, or does not answer after all retries.
        """
        unique = list(dict.fromkeys(cases))
        with ThreadPoolExecutor(self.parallel) as pool:
            replies = pool.map(self._reply, unique)
            by_case = dict(zip(unique, track(replies, "judge", len(unique)), strict=True))
        return [read_verdict(case, by_case[case]) for case in cases]

    def _reply(self, case: Case) -> str:
        request = {
            "model": self.model, "messages": messages(case), "temperature": 0, "max_tokens": MOST_TOKENS,
        }  # fmt: skip
        key = hashlib.blake2b(json.dumps(request, sort_keys=True).encode(), digest_size=16).hexdigest()
        with self._lock:
            known = self._known.get(key)
        if known is not None:
            return known
        reply = self._sent(request)
        with self._lock:
            self._known[key] = reply
            if self.cache is not None:
                self.cache.parent.mkdir(parents=True, exist_ok=True)
                with self.cache.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"key": key, "reply": reply}, ensure_ascii=False) + "\n")
        return reply

    def _sent(self, request: dict[str, Any]) -> str:
        """Send a request until it is answered."""
        for attempt in range(self.retries + 1):
            try:
                return self._once(request)
            except _Retry as error:
                if attempt == self.retries:
                    raise PerceptError(
                        f"the judge at {self.url} gave no answer in {attempt + 1} attempts: {error}. Try again later; answers so far are "
                        "kept if a cache file is given."
                    ) from None
                time.sleep(error.wait if error.wait is not None else self.delay * 2**attempt)
        raise AssertionError("not reached")

    def _once(self, request: dict[str, Any]) -> str:
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(KEY_VARIABLE):
            headers["Authorization"] = f"Bearer {key}"
        url = f"{self.url.rstrip('/')}/chat/completions"
        try:
            sent = urllib.request.Request(url, json.dumps(request).encode(), headers)
            with urllib.request.urlopen(sent, timeout=self.timeout) as response:
                return _content(response.read(LARGEST_REPLY), self.url)
        except urllib.error.HTTPError as error:
            text = error.read(500).decode(errors="replace").strip()
            if error.code in RETRIED:
                raise _Retry(f"status {error.code} {text}"[:200], _seconds(error.headers.get("Retry-After"))) from None
            hint = f"Set {KEY_VARIABLE}" if error.code in (401, 403) else "Check the address and the name of the model"
            raise PerceptError(
                f"the judge at {self.url} refused with status {error.code}: {text[:200]}. {hint}."
            ) from None
        except PerceptError:
            raise
        except (OSError, HTTPException, ValueError) as error:  # a refused or lost connection, a reply that is cut off
            raise _Retry(str(getattr(error, "reason", error))) from None


class _Retry(Exception):
    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


def _seconds(header: str | None) -> float | None:
    """Return the seconds that a server asks to wait, at most 60."""
    return min(float(header), 60.0) if header is not None and header.isdigit() else None


def _content(data: bytes, url: str) -> str:
    reply = json.loads(data)
    try:
        content = reply["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        raise PerceptError(f"{url} is not an OpenAI-compatible endpoint: it replied {str(reply)[:100]}.") from None
    return content or ""


def _read_cache(path: Path) -> dict[str, str]:
    """Return the replies in a cache file; a line that was cut off is left out."""
    known = {}
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            entry = json.loads(line)
            known[entry["key"]] = entry["reply"]
        except (ValueError, KeyError, TypeError):
            continue
    return known


def messages(case: Case) -> list[dict[str, str]]:
    """Return the request for a verdict as messages of a chat API."""
    if case.kind == "answer":
        lines = [
            f"Question: {case.question}",
            f"Correct answer: {case.reference}",
            f"Answer to judge: {case.prediction}",
        ]
    else:
        lines = [f"Correct caption: {case.reference}", f"Predicted caption: {case.prediction}"]
    rules = ANSWER_RULES if case.kind == "answer" else CAPTION_RULES
    return [{"role": "system", "content": rules}, {"role": "user", "content": "\n".join(lines)}]


def read_verdict(case: Case, reply: str) -> Verdict:
    """Return the verdict that a reply states.

    A json object or a Python dictionary anywhere in the reply is taken. Of an answer, a reply without one counts as right if it has the word yes.

    >>> read_verdict(Case(kind="caption", prediction="a", reference="b"), 'Sure: {"score": 7, "reason": "colour"}').score
    0.7
    """
    said = _object(reply)
    points = ANSWER_POINTS if case.kind == "answer" else CAPTION_POINTS
    score = said.get("score")
    valid = isinstance(score, int | float) and not isinstance(score, bool) and 0 <= score <= points
    value = float(score) / points if isinstance(score, int | float) and valid else 0.0
    if case.kind == "caption":
        return Verdict(score=value, right=value >= 0.5, understood=valid, reply=reply)
    verdict = str(said.get("verdict", said.get("pred", ""))).strip().lower()
    understood = verdict in ("yes", "no")
    right = verdict == "yes" if understood else re.search(r"\byes\b", reply, re.IGNORECASE) is not None
    return Verdict(score=value if valid else float(right), right=right, understood=understood, reply=reply)


def _object(reply: str) -> dict[str, Any]:
    import ast

    for match in re.finditer(r"\{[^{}]*\}", reply):
        for read in (json.loads, ast.literal_eval):
            try:
                value = read(match[0])
            except (ValueError, SyntaxError):
                continue
            if isinstance(value, dict):
                return value
    return {}
