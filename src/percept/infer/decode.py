"""The new tokens of a batch, one after the other: rows end by themselves and leave the batch."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from percept.data.chat.vocabulary import LanguageTokenizer
from percept.infer.generation import Allowed, Generation, pick
from percept.infer.prefill import Started
from percept.models.vlm import VLM


@runtime_checkable
class Constraint(Protocol):
    """What an answer may be, token by token. A state is hashable and says what the tokens so far allow."""

    start: Any

    def allowed(self, state: Any, left: int) -> Allowed:
        """Return the tokens after which the answer can still be completed with `left` tokens, these included."""
        ...

    def after(self, state: Any, token: int) -> Any:
        """Return the state after an allowed token."""
        ...

    def complete(self, state: Any) -> bool:
        """Return True if the answer may end here."""
        ...


@dataclass(kw_only=True, eq=False)
class Row:
    """One answer on its way."""

    generation: Generation
    tokenizer: LanguageTokenizer
    stops: frozenset[int]
    dice: random.Random
    constraint: Constraint | None = None
    stream: bool = False
    ids: list[int] = field(default_factory=list)
    """Tokens so far, without the one that ended the answer."""
    text: str = ""
    """Text so far if it is needed while the answer is generated, else when the answer has ended."""
    ended: bool = False
    cut_off: bool = False
    """True if the answer ended only because it had all the tokens it may have."""
    _shown: int = 0
    _used: int = 0
    _state: Any = None

    def __post_init__(self) -> None:
        self._step = self.tokenizer.stepper() if self.stream or self.generation.stop else None
        if self.constraint is not None:
            self._state = self.constraint.start

    def allowed(self) -> Allowed | None:
        """Return the ids to choose from; None for all."""
        if self.constraint is None:
            return None
        ids = self.constraint.allowed(self._state, self.generation.max_new_tokens - self._used)
        return np.append(ids, sorted(self.stops)) if self.constraint.complete(self._state) else ids

    def add(self, token: int) -> None:
        """Add a token, which may end the answer."""
        self._used += 1
        if token in self.stops:
            return self._end()
        self.ids.append(token)
        if self._step is not None and self._stopped(self._step(token)):
            return None
        if self.constraint is not None:
            self._state = self.constraint.after(self._state, token)
        left = self.generation.max_new_tokens - self._used
        over = self.constraint is not None and not len(self.constraint.allowed(self._state, left))
        if left == 0 or over:
            self.cut_off = not over
            self._end()
        return None

    def piece(self) -> str:
        """Return text that is certain and has not been returned yet."""
        certain = self.text if self.ended else self.text[: len(self.text) - self._held()]
        piece, self._shown = certain[self._shown :], max(self._shown, len(certain))
        return piece

    def _stopped(self, piece: str) -> bool:
        """Add text, and end the answer before the first stop text."""
        self.text += piece
        self._cut()
        return self.ended

    def _cut(self) -> None:
        places = [place for stop in self.generation.stop if (place := self.text.find(stop, self._shown)) >= 0]
        if places:
            self.text, self.ended, self.cut_off = self.text[: min(places)], True, False

    def _end(self) -> None:
        """Complete the text; bytes of an incomplete character at the end become �."""
        self.ended = True
        self.text = self.tokenizer.decode(self.ids)
        self._cut()

    def _held(self) -> int:
        """Return the length of the end of the text that may be the beginning of a stop text."""
        longest = max(map(len, self.generation.stop), default=0)
        for count in range(min(longest - 1, len(self.text)), 0, -1):
            if any(stop.startswith(self.text[-count:]) for stop in self.generation.stop):
                return count
        return 0


def decoded(model: VLM, started: Started, rows: Sequence[Row]) -> Iterator[Row]:
    """Yield a row whenever it got a token. Rows that have ended leave the batch.

    The cache of the batch is used up; that of a single row holds all its tokens but the last one at the end.
    """
    cache, logits, active = started.cache, started.logits, list(rows)
    generation = active[0].generation
    while True:
        tokens = pick(logits, generation, [row.dice for row in active], [row.allowed() for row in active])
        for row, token in zip(active, tokens, strict=True):
            row.add(token)
        yield from active
        going = [place for place, row in enumerate(active) if not row.ended]
        if not going:
            return
        if len(going) < len(active):
            cache, active = cache.take(going), [active[place] for place in going]
        ids = torch.tensor([[tokens[place]] for place in going], device=logits.device)
        out = model.decoder(ids, cache=cache).tokens
        logits = model.decoder.logits(out[:, 0])
