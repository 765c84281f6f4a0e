"""Answers that match a regular expression: an automaton over the bytes of tokens.

A part of Python's syntax: characters and escapes, `.`, classes such as `[a-z]` and `[^,]`, `\\d`, `\\w`, `\\s` (ASCII only) and their
opposites, groups, `|`, `*`, `+`, `?`, `{n}`, `{n,}` and `{n,m}`. The whole answer has to match, so `^` and `$` are refused, as are
references, conditions and flags. An answer always matches: every token leaves a way to complete it with the tokens that remain.

The tokens that are allowed in a state of the automaton are found when it is first reached, and kept. That takes a millisecond if few are, and
0.6 s if nearly all of 128,000 are (one CPU core); `[a-z ]{1,30}` has 30 such states, `[a-z ]+` has two.
"""

import heapq
from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from percept.core.errors import PerceptError
from percept.data.chat.vocabulary import LanguageTokenizer
from percept.infer.generation import Allowed
from percept.infer.regular import LARGEST, compiled, parsed

DEAD = -1
Nodes = frozenset[int]


@dataclass(frozen=True)
class State:
    """Where an answer stands: nodes of the automaton, and the bytes of a character that is not complete."""

    nodes: Nodes
    pending: bytes = b""


class Words:
    """The tokens of a vocabulary in the order of their bytes."""

    def __init__(self, tokenizer: LanguageTokenizer) -> None:
        pairs = sorted((word, number) for number, word in tokenizer.spellings().items() if word)
        self.words = [word for word, _ in pairs]
        self.ids = [number for _, number in pairs]
        self.by_id = dict(zip(self.ids, self.words, strict=True))
        if len({word for word in self.words if len(word) == 1}) < 256:
            raise PerceptError(
                "the tokenizer lacks tokens of single bytes, without which a pattern may have no next token."
            )

    def after(self, place: int, prefix: bytes) -> int:
        """Return the place of the first word at or behind `place` that does not begin with `prefix`."""
        stripped = prefix.rstrip(b"\xff")
        if not stripped:
            return len(self.words)
        return bisect_left(self.words, stripped[:-1] + bytes([stripped[-1] + 1]), lo=place)


class Matches:
    """An answer that matches a pattern completely; a `percept.infer.decode.Constraint`.

    Raises:
        PerceptError: the pattern is not supported or too large, or no text matches it.
    """

    def __init__(self, pattern: str, words: Words) -> None:
        self.pattern = pattern
        self._words = words
        self._edges, self._silent, first, self._last = compiled(parsed(pattern), pattern)
        self._states: list[State] = []
        self._numbers: dict[State, int] = {}
        self._steps: dict[tuple[int, int], int] = {}
        self._tokens: dict[int, tuple[Allowed, Allowed]] = {}
        self.start = self._number(State(self._closed({first})))
        if self._bytes_left(self.start) == LARGEST:
            raise PerceptError(f"no text matches the pattern {pattern!r}. Correct it.")

    def within(self, most: int) -> "Matches":
        """Return itself if an answer of at most `most` tokens can match.

        Raises:
            PerceptError: none may be able to.
        """
        shortest = self._bytes_left(self.start)
        if shortest > most:
            raise PerceptError(
                f"the shortest answer that matches {self.pattern!r} may take {shortest} tokens, but max_new_tokens={most}. Raise "
                "max_new_tokens."
            )
        return self

    def allowed(self, state: int, left: int) -> Allowed:
        """Return the tokens after which a match can still be completed with `left` tokens, these included."""
        if state not in self._tokens:
            self._tokens[state] = self._found(state)
        ids, distances = self._tokens[state]
        return ids[distances < left]

    def after(self, state: int, token: int) -> int:
        """Return the state after an allowed token."""
        for byte in self._words.by_id[token]:
            state = self._step(state, byte)
        return state

    def complete(self, state: int) -> bool:
        """Return True if the bytes so far match."""
        return self._last in self._states[state].nodes and not self._states[state].pending

    def _found(self, state: int) -> tuple[Allowed, Allowed]:
        """Return all tokens that keep a match possible, and the bytes that are missing after each of them."""
        found: list[tuple[int, int]] = []
        path, before, place = [state], b"", 0
        words = self._words.words
        while place < len(words):
            word = words[place]
            shared = _shared(before, word, len(path) - 1)
            del path[shared + 1 :]
            for byte in word[shared:]:
                following = self._step(path[-1], byte)
                if following == DEAD:
                    break
                path.append(following)
            if len(path) == len(word) + 1:
                found.append((self._words.ids[place], self._bytes_left(path[-1])))
                place += 1
            else:
                place = self._words.after(place, word[: len(path)])
            before = word
        pairs = np.array(found, dtype=np.int64).reshape(-1, 2)
        return pairs[:, 0], pairs[:, 1]

    def _number(self, state: State) -> int:
        if state not in self._numbers:
            self._numbers[state] = len(self._states)
            self._states.append(state)
        return self._numbers[state]

    def _step(self, state: int, byte: int) -> int:
        if (state, byte) not in self._steps:
            self._steps[state, byte] = self._stepped(self._states[state], byte)
        return self._steps[state, byte]

    def _stepped(self, state: State, byte: int) -> int:
        pending = state.pending + bytes([byte])
        span = characters(pending)
        if span is None:
            return DEAD
        targets = self._targets(state.nodes, *span)
        if not targets:
            return DEAD
        if span[0] == span[1]:
            return self._number(State(self._closed(targets)))
        return self._number(State(state.nodes, pending))

    def _targets(self, nodes: Nodes, low: int, high: int) -> set[int]:
        """Return where a character between `low` and `high` can lead."""
        return {target for node in nodes for first, last, target in self._edges[node] if first <= high and low <= last}

    def _closed(self, nodes: set[int]) -> Nodes:
        """Return nodes and those that they reach without a character."""
        reached, waiting = set(nodes), list(nodes)
        while waiting:
            new = [node for node in self._silent[waiting.pop()] if node not in reached]
            reached.update(new)
            waiting += new
        return frozenset(reached)

    def _bytes_left(self, state: int) -> int:
        """Return the bytes of the shortest completion."""
        nodes, pending = self._states[state].nodes, self._states[state].pending
        if not pending:
            return min(self._distances[node] for node in nodes)
        span = characters(pending)
        assert span is not None
        missing = size_of(pending[0]) - len(pending)
        return missing + min(self._distances[node] for node in self._targets(nodes, *span))

    @cached_property
    def _distances(self) -> list[int]:
        """Bytes from each node to the end, by Dijkstra's algorithm on the reversed edges."""
        back: list[list[tuple[int, int]]] = [[] for _ in self._edges]
        for node, (edges, silent) in enumerate(zip(self._edges, self._silent, strict=True)):
            for low, _, target in edges:
                back[target].append((node, len(chr(low).encode())))
            for target in silent:
                back[target].append((node, 0))
        distances = [LARGEST] * len(self._edges)
        waiting = [(0, self._last)]
        while waiting:
            distance, node = heapq.heappop(waiting)
            if distance < distances[node]:
                distances[node] = distance
                for before, cost in back[node]:
                    heapq.heappush(waiting, (distance + cost, before))
        return distances


def _shared(first: bytes, second: bytes, most: int) -> int:
    """Return the length of the common beginning, at most `most`."""
    count = 0
    while count < min(len(first), len(second), most) and first[count] == second[count]:
        count += 1
    return count


def size_of(first: int) -> int:
    """Return the bytes of a character that begins with this byte and has more than one; 0 if none does."""
    return 2 if 0xC2 <= first < 0xE0 else 3 if 0xE0 <= first < 0xF0 else 4 if 0xF0 <= first < 0xF5 else 0


def characters(data: bytes) -> tuple[int, int] | None:
    """Return the range of characters whose UTF-8 form begins with these bytes; None if there is none.

    >>> characters(b"a"), characters("é".encode()), characters(b"\\xc3"), characters(b"\\xff")
    ((97, 97), (233, 233), (192, 255), None)
    """
    first = data[0]
    if first < 0x80:
        return (first, first) if len(data) == 1 else None
    size = size_of(first)
    if not size or len(data) > size or any(not 0x80 <= byte < 0xC0 for byte in data[1:]):
        return None
    high_bits, missing = first & (0x7F >> size), size - len(data)
    for byte in data[1:]:
        high_bits = high_bits << 6 | byte & 0x3F
    smallest = (0, 0, 0x80, 0x800, 0x10000)[size]
    low, high = max(high_bits << 6 * missing, smallest), min((high_bits + 1 << 6 * missing) - 1, 0x10FFFF)
    if low >= 0xD800 and high <= 0xDFFF:  # surrogates are not characters
        return None
    return (low, high) if low <= high else None
