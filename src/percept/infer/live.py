"""Answers that are generated together although they begin and end at different times, as a server needs them."""

from collections import defaultdict
from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from percept.infer.answers import Answerer
from percept.infer.asking import Loaded
from percept.infer.decode import Row
from percept.infer.generation import pick
from percept.infer.prefill import Started, start
from percept.nn.cache import KVCache


class LiveBatch:
    """Answers in progress. Others join between two tokens, and each leaves when it ends.

    In float32 every answer has the tokens that it would have alone.
    """

    def __init__(self, answerer: Answerer) -> None:
        self._answerer = answerer
        self._cache: KVCache | None = None
        self._logits = torch.empty(0)
        self._needs: list[int] = []
        """Tokens of each row at most, prompt and answer."""
        self.rows: list[Row] = []

    def fits(self, needs: Sequence[int]) -> bool:
        """Return True if answers that need so many tokens each, with their prompts, may join now."""
        count = len(self.rows) + len(needs)
        return count <= self._answerer.rows(max((*self._needs, *needs)))

    def add(self, prompts: Sequence[Loaded], answers: Sequence[Sequence[Row]]) -> None:
        """Run prompts, and let their answers join; the batch stays as it is if that fails.

        Args:
            answers: one or several of each prompt.
        """
        answerer, rows = self._answerer, [row for group in answers for row in group]
        answerer.memory.refresh()
        with answerer.quietly():
            ready = answerer.encoded(prompts)
            every = [prompt for prompt, group in zip(ready, answers, strict=True) for _ in group]
            room = max(row.generation.max_new_tokens for row in rows)
            started = start(answerer.model, every, answerer.memory, room=room)
            needs = [len(prompt) + row.generation.max_new_tokens for prompt, row in zip(every, rows, strict=True)]
            self._join(started, needs)
        self._needs += needs
        self.rows += rows

    def step(self) -> list[Row]:
        """Give every row its next token, and return these rows; those that have ended leave."""
        before = self.rows
        with self._answerer.quietly():
            tokens = self._picked()
            for row, token in zip(before, tokens, strict=True):
                row.add(token)
            going = [place for place, row in enumerate(before) if not row.ended]
            self._keep(going)
            if going:
                self._run([tokens[place] for place in going])
        return before

    def drop(self, rows: Collection[Row]) -> None:
        """Remove rows that nobody waits for."""
        places = [place for place, row in enumerate(self.rows) if row not in rows]
        if len(places) < len(self.rows):
            self._logits = self._logits[places]
            self._keep(places)

    def clear(self) -> None:
        """Remove all rows."""
        self._cache, self._logits, self._needs, self.rows = None, torch.empty(0), [], []

    def _join(self, started: Started, needs: Sequence[int]) -> None:
        if self._cache is None:
            self._cache, self._logits = started.cache, started.logits
            return
        both = (self._cache, started.cache)
        rows = [(cache, place, length) for cache in both for place, length in enumerate(cache.lengths)]
        self._cache = KVCache.joined(rows, capacity=max((*self._needs, *needs)))
        self._logits = torch.cat([self._logits, started.logits])

    def _picked(self) -> list[int]:
        """Return the next token of each row; rows that are sampled alike are sampled together."""
        groups: dict[tuple[float, float, int | None], list[int]] = defaultdict(list)
        for place, row in enumerate(self.rows):
            way = row.generation
            groups[way.temperature, way.top_p, way.top_k].append(place)
        tokens = [0] * len(self.rows)
        for places in groups.values():
            rows = [self.rows[place] for place in places]
            allowed = [row.allowed() for row in rows]
            some = pick(self._logits[places], rows[0].generation, [row.dice for row in rows], allowed)
            for place, token in zip(places, some, strict=True):
                tokens[place] = token
        return tokens

    def _keep(self, places: Sequence[int]) -> None:
        """Keep the rows in these places; the capacity shrinks to what they need."""
        if not places:
            self.clear()
        elif len(places) < len(self.rows):
            assert self._cache is not None
            self._needs = [self._needs[place] for place in places]
            self.rows = [self.rows[place] for place in places]
            self._cache = self._cache.take(places, capacity=max(self._needs))

    def _run(self, tokens: Sequence[int]) -> None:
        decoder = self._answerer.model.decoder
        ids: Tensor = torch.tensor(tokens, device=self._logits.device)[:, None]
        out = decoder(ids, cache=self._cache).tokens
        self._logits = decoder.logits(out[:, 0])
