"""Regular expressions as automata: a parser of a part of Python's syntax, and Thompson's construction."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from percept.core.errors import PerceptError

Ranges: TypeAlias = tuple[tuple[int, int], ...]
"""Code points, first and last of each range."""
LARGEST = 1 << 30
MOST_NODES = 20_000
"""Largest automaton."""
TOP = 0x10FFFF
SURROGATES = (0xD800, 0xDFFF)
CLASSES = {
    "d": ((48, 57),),
    "w": ((48, 57), (65, 90), (95, 95), (97, 122)),
    "s": ((9, 13), (32, 32)),
}
CONTROLS = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v"}


@dataclass(frozen=True)
class Letters:
    """One character of some ranges."""

    ranges: Ranges


@dataclass(frozen=True)
class Sequences:
    """Parts one after the other."""

    parts: "tuple[Node, ...]"


@dataclass(frozen=True)
class Either:
    """One of several parts."""

    parts: "tuple[Node, ...]"


@dataclass(frozen=True)
class Repeated:
    """A part several times; without an upper limit if `most` is None."""

    part: "Node"
    least: int
    most: int | None


Node: TypeAlias = Letters | Sequences | Either | Repeated


def outside(ranges: Ranges) -> Ranges:
    """Return the characters that are in none of the ranges.

    >>> outside(((0, 96), (123, 0x10FFFF)))
    ((97, 122),)
    """
    result, free = [], 0
    for low, high in sorted((*ranges, SURROGATES)):
        if low > free:
            result.append((free, low - 1))
        free = max(free, high + 1)
    return (*result, (free, TOP)) if free <= TOP else tuple(result)


def parsed(pattern: str) -> Node:
    """Return the tree of a pattern.

    Raises:
        PerceptError: it is not a regular expression, or uses what is not supported.
    """
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError, TypeError) as error:
        raise PerceptError(f"{pattern!r} is not a regular expression: {error}. Correct it.") from None
    return _Parser(pattern).whole()


class _Parser:
    """Reads a pattern that Python accepts, from left to right."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.place = 0

    def whole(self) -> Node:
        node = self.either()
        if self.place < len(self.pattern):
            raise self.refused(self.pattern[self.place])
        return node

    def refused(self, what: str) -> PerceptError:
        return PerceptError(
            f"the pattern {self.pattern!r} uses {what!r}, which is not supported. Use characters, classes, groups, | and repetitions; "
            "the whole answer has to match without ^ and $."
        )

    def peek(self) -> str:
        return self.pattern[self.place : self.place + 1]

    def take(self) -> str:
        letter = self.peek()
        self.place += 1
        return letter

    def taken(self, text: str) -> bool:
        if self.pattern.startswith(text, self.place):
            self.place += len(text)
            return True
        return False

    def either(self) -> Node:
        parts = [self.sequence()]
        while self.taken("|"):
            parts.append(self.sequence())
        return parts[0] if len(parts) == 1 else Either(tuple(parts))

    def sequence(self) -> Node:
        parts = []
        while self.peek() not in ("", "|", ")"):
            parts.append(self.repeated(self.single()))
        return Sequences(tuple(parts))

    def repeated(self, part: Node) -> Node:
        match = re.compile(r"[*+?]|\{(\d*)(,?)(\d*)\}").match(self.pattern, self.place)
        if match is None or match[0] == "{}":
            return part
        self.place = match.end()
        if self.peek() == "+":
            raise self.refused(f"{match[0]}+")
        self.taken("?")  # a lazy repetition matches the same answers
        least, most = _counts(match)
        return Repeated(part, least, most)

    def single(self) -> Node:
        letter = self.take()
        if letter == "(":
            return self.group()
        if letter == "[":
            return Letters(self.bracket())
        if letter == "\\":
            return Letters(outside(outside(self.escape())))
        if letter == ".":
            return Letters(outside(((10, 10),)))
        if letter in "^$":
            raise self.refused(letter)
        return Letters(outside(outside(((ord(letter), ord(letter)),))))

    def group(self) -> Node:
        if self.peek() == "?" and not self.taken("?:"):
            raise self.refused(f"({self.pattern[self.place : self.place + 2]}")
        node = self.either()
        self.taken(")")
        return node

    def escape(self) -> Ranges:
        letter = self.take()
        if letter.lower() in CLASSES:
            ranges = CLASSES[letter.lower()]
            return ranges if letter.islower() else outside(ranges)
        if letter in "xu":
            code = int(self.pattern[self.place : self.place + (2 if letter == "x" else 4)], 16)
            self.place += 2 if letter == "x" else 4
            return ((code, code),)
        if letter.isascii() and letter.isalnum() and letter not in CONTROLS:
            raise self.refused(f"\\{letter}")
        code = ord(CONTROLS.get(letter, letter))
        return ((code, code),)

    def bracket(self) -> Ranges:
        negated = self.taken("^")
        ranges: list[tuple[int, int]] = []
        while not (ranges and self.peek() == "]"):
            first = self.member()
            if self.peek() == "-" and self.pattern[self.place + 1 : self.place + 2] != "]":
                self.take()
                ranges.append((first[0][0], self.member()[0][1]))
            else:
                ranges += first
        self.take()
        return outside(tuple(ranges)) if negated else outside(outside(tuple(ranges)))

    def member(self) -> Ranges:
        letter = self.take()
        return self.escape() if letter == "\\" else ((ord(letter), ord(letter)),)


def _counts(match: re.Match[str]) -> tuple[int, int | None]:
    """Return the least and the most repetitions."""
    simple = {"*": (0, None), "+": (1, None), "?": (0, 1)}
    if match[0] in simple:
        return simple[match[0]]
    least = int(match[1] or 0)
    return least, (int(match[3]) if match[3] else None) if match[2] else least


Edges: TypeAlias = list[list[tuple[int, int, int]]]


class _Builder:
    """Makes the nodes of an automaton: edges with a range of characters, and silent ones."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.edges: Edges = []
        self.silent: list[list[int]] = []

    def new(self) -> int:
        if len(self.edges) == MOST_NODES:
            raise PerceptError(
                f"the pattern {self.pattern[:60]!r} needs more than {MOST_NODES:,} states. Use smaller counts of repetitions."
            )
        self.edges.append([])
        self.silent.append([])
        return len(self.edges) - 1

    def build(self, node: Node, start: int) -> int:
        """Add a part behind a node, and return the node behind the part."""
        if isinstance(node, Letters):
            end = self.new()
            self.edges[start] += [(low, high, end) for low, high in node.ranges]
            return end
        if isinstance(node, Sequences):
            for part in node.parts:
                start = self.build(part, start)
            return start
        return self.either(node.parts, start) if isinstance(node, Either) else self.repeated(node, start)

    def either(self, parts: Sequence[Node], start: int) -> int:
        end = self.new()
        for part in parts:
            begin = self.new()
            self.silent[start].append(begin)
            self.silent[self.build(part, begin)].append(end)
        return end

    def repeated(self, node: Repeated, start: int) -> int:
        for _ in range(node.least):
            start = self.build(node.part, start)
        if node.most is None:
            loop = self.new()
            self.silent[start].append(loop)
            self.silent[self.build(node.part, loop)].append(loop)
            return loop
        end = self.new()
        for _ in range(node.most - node.least):
            self.silent[start].append(end)
            start = self.build(node.part, start)
        self.silent[start].append(end)
        return end


def compiled(node: Node, pattern: str) -> tuple[Edges, list[list[int]], int, int]:
    """Return the edges and the silent edges of each node of an automaton, and its first and last node.

    Raises:
        PerceptError: it would have more than `MOST_NODES` nodes.
    """
    builder = _Builder(pattern)
    first = builder.new()
    last = builder.build(node, first)
    return builder.edges, builder.silent, first, last
