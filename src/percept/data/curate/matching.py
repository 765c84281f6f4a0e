"""Find the entries of a word list in texts, as whole words: by Aho-Corasick, or by a table of n-grams with equal results.

Xu et al. 2024, arXiv:2309.16671, section 3.1: blanks are put around the text and around the signs `, . ; : ? ! `` ` ``; tabs and line
breaks become blanks; an entry matches if the text contains it between two blanks. Case matters.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from percept.core.errors import PerceptError

SIGNS = ",.;:?!`"
_SPACED = str.maketrans({sign: f" {sign} " for sign in SIGNS} | dict.fromkeys("\t\n\r", " "))


def spaced(text: str) -> str:
    """Return a text with blanks around it and around the signs.

    >>> spaced("a cat, asleep")
    ' a cat ,  asleep '
    """
    return f" {text.translate(_SPACED)} "


@runtime_checkable
class Matcher(Protocol):
    """Finds the entries in a text."""

    def __call__(self, text: str) -> list[int]:
        """Return the numbers of the entries in a text, each once, in ascending order."""
        ...


class NgramTable:
    """A table of all entries, asked for every run of at most as many words as the longest entry."""

    def __init__(self, entries: Sequence[str]) -> None:
        self._numbers: dict[str, int] = {}
        for number, entry in enumerate(entries):
            self._numbers.setdefault(entry, number)
        self._lengths = sorted({entry.count(" ") + 1 for entry in self._numbers})

    def __call__(self, text: str) -> list[int]:
        """Return the numbers of the entries in a text."""
        words, numbers = spaced(text)[1:-1].split(" "), self._numbers
        found: set[int] = set()
        for length in self._lengths:
            for start in range(len(words) - length + 1):
                run = words[start] if length == 1 else " ".join(words[start : start + length])
                if (number := numbers.get(run)) is not None:
                    found.add(number)
        return sorted(found)


class AhoCorasick:
    """An automaton of `ahocorasick_rs`; it reads a text once, however many entries there are."""

    def __init__(self, entries: Sequence[str], library: Any) -> None:
        first = NgramTable(entries)._numbers  # equal entries count for the first of them
        self._numbers = list(first.values())
        self._automaton = library.AhoCorasick([f" {entry} " for entry in first])

    def __call__(self, text: str) -> list[int]:
        """Return the numbers of the entries in a text."""
        hits = self._automaton.find_matches_as_indexes(spaced(text), overlapping=True)
        return sorted({self._numbers[hit] for hit, _, _ in hits})


def make_matcher(entries: Sequence[str]) -> Matcher:
    """Return the automaton if `ahocorasick_rs` is installed, else the table."""
    try:
        import ahocorasick_rs
    except ImportError:
        return NgramTable(entries)
    return AhoCorasick(entries, ahocorasick_rs)


def match_all(matcher: Matcher, texts: Iterable[str]) -> tuple[Int[np.ndarray, " e"], Int[np.ndarray, " n1"]]:
    """Return the entries of all texts one after the other, and where each text's entries begin, with the total at the end."""
    entries: list[int] = []
    starts = [0]
    for text in texts:
        entries += matcher(text)
        starts.append(len(entries))
    return np.array(entries, dtype=np.int32), np.array(starts, dtype=np.int64)


def read_words(files: Iterable[Path]) -> list[str]:
    """Return the entries of word lists, one a line, in the order of the files; underscores become blanks, each entry once.

    Empty lines and single signs are dropped.

    Raises:
        PerceptError: a file cannot be read, or there is no entry.
    """
    entries: dict[str, None] = {}
    for file in files:
        try:
            lines = Path(file).read_text(encoding="utf-8-sig", errors="replace").splitlines()
        except OSError as error:
            raise PerceptError(f"the word list {file} cannot be read: {error.strerror}.") from None
        entries |= dict.fromkeys(entry for line in lines if is_entry(entry := " ".join(line.replace("_", " ").split())))
    if not entries:
        raise PerceptError("the word lists hold no entry. Give files with one entry on a line.")
    return list(entries)


def is_entry(entry: str) -> bool:
    """True for a text that can be an entry: not empty, and not a single sign.

    >>> is_entry("cat"), is_entry("7"), is_entry("!"), is_entry("")
    (True, True, False, False)
    """
    return bool(entry) and (len(entry) > 1 or entry.isalnum())
