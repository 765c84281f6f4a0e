"""Responses of the chat API: whole, or as chunks of a stream of server-sent events."""

import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

END = b"data: [DONE]\n\n"


@dataclass
class Choice:
    """One answer."""

    text: str = ""
    finish: str | None = None
    """`stop`, or `length` if it had all the tokens it may have; None while it is generated."""


@dataclass(kw_only=True)
class Reply:
    """The answers to one request."""

    model: str
    count: int
    """Number of answers."""
    prompt_tokens: int
    completion_tokens: int = 0
    usage_in_stream: bool = False
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def usage(self) -> dict[str, int]:
        """Numbers of tokens; the one that ends an answer counts."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
        }

    def whole(self, choices: Sequence[Choice]) -> dict[str, Any]:
        """Return the json of a response that is not streamed."""
        listed = [
            {
                "index": number,
                "message": {"role": "assistant", "content": choice.text, "refusal": None},
                "logprobs": None,
                "finish_reason": choice.finish,
            }
            for number, choice in enumerate(choices)
        ]
        return self._head("chat.completion") | {"choices": listed, "usage": self.usage}

    def first(self) -> bytes:
        """Return the events that begin a stream."""
        return b"".join(self._chunk(number, {"role": "assistant", "content": ""}) for number in range(self.count))

    def piece(self, number: int, text: str) -> bytes:
        """Return the event of some text."""
        return self._chunk(number, {"content": text})

    def finish(self, number: int, reason: str) -> bytes:
        """Return the event that ends one answer."""
        return self._chunk(number, {}, reason)

    def last(self) -> bytes:
        """Return the events that end a stream."""
        usage = self._head("chat.completion.chunk") | {"choices": [], "usage": self.usage}
        return (event(usage) if self.usage_in_stream else b"") + END

    def _chunk(self, number: int, delta: dict[str, str], reason: str | None = None) -> bytes:
        choice = {"index": number, "delta": delta, "logprobs": None, "finish_reason": reason}
        usage = {"usage": None} if self.usage_in_stream else {}
        return event(self._head("chat.completion.chunk") | {"choices": [choice]} | usage)

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model, "system_fingerprint": None}


def event(content: dict[str, Any]) -> bytes:
    """Return a server-sent event."""
    return b"data: " + json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"
