"""Count words and pairs of words in captions and choose the entries of a word list from them.

Xu et al. 2024, arXiv:2309.16671, section 3.1, take from English Wikipedia the single words that occur at least 100 times and the pairs of
words with a pointwise mutual information of at least 30, without the scale on which 30 is measured. Here it is the ratio
count(ab) · n / (count(a) · count(b)), n being the number of words: how many times as often as by chance a pair occurs.
"""

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

import numpy as np

from percept.data.curate.matching import SIGNS, spaced
from percept.data.curate.store import Arrays, Chunk, Parts, pack_texts, unpack_texts

FEWEST, MOST = 2, 100
"""Bounds of the smallest count where none is given: a word that occurs once balances nothing; 100 is the paper's."""
CAPTIONS = 1000
"""Captions for each 1 of the smallest count, so that the paper's 100 holds from 100,000 captions on."""
NUMBERS = tuple(map(str, range(100)))
"""Entries that every list begins with, as in the paper."""


def runs_of(text: str) -> list[list[str]]:
    """Split a text into runs of words between signs.

    >>> runs_of("a red cup, empty")
    [['a', 'red', 'cup'], ['empty']]
    """
    runs: list[list[str]] = [[]]
    for word in spaced(text).split():
        if word in SIGNS:
            runs.append([])
        else:
            runs[-1].append(word)
    return [run for run in runs if run]


def count_words(chunk: Chunk) -> Arrays:
    """Count the words of a chunk."""
    counts = _packed(Counter(word for text in chunk.flat for run in runs_of(text) for word in run))
    return {**counts, "captions": np.array(len(chunk.flat), dtype=np.int64)}


def count_pairs(chunk: Chunk, frequent: set[str]) -> Arrays:
    """Count the pairs of neighbouring words of a chunk that are both frequent."""
    pairs = Counter(
        f"{first} {second}"
        for text in chunk.flat
        for run in runs_of(text)
        for first, second in pairwise(run)
        if first in frequent and second in frequent
    )
    return _packed(pairs)


def _packed(counts: Counter[str]) -> Arrays:
    names = sorted(counts)
    return {"names": pack_texts(names), "counts": np.array([counts[name] for name in names], dtype=np.int64)}


def total(parts: Iterable[Arrays]) -> Counter[str]:
    """Add the counts of all chunks."""
    counts: Counter[str] = Counter()
    for part in parts:
        counts.update(dict(zip(unpack_texts(part["names"]), part["counts"].tolist(), strict=True)))
    return counts


def usual_min_count(captions: int) -> int:
    """Return the smallest count of an entry for a number of captions.

    >>> [usual_min_count(captions) for captions in (150, 20_000, 1_000_000)]
    [2, 20, 100]
    """
    return min(MOST, max(FEWEST, captions // CAPTIONS))


def frequent_words(parts: Parts, min_count: int | None) -> Arrays:
    """Return the words that occur often enough, by falling count, with their counts and the number of all words.

    Args:
        parts: counts of the words of all chunks.
        min_count: smallest count; `usual_min_count` if None. The result has it too.
    """
    counts = total(parts)
    if min_count is None:
        min_count = usual_min_count(sum(int(part["captions"]) for part in parts))
    chosen = sorted(
        (name for name, count in counts.items() if count >= min_count), key=lambda name: (-counts[name], name)
    )
    return {
        "names": pack_texts(chosen),
        "counts": np.array([counts[name] for name in chosen], dtype=np.int64),
        "total": np.array(sum(counts.values()), dtype=np.int64),
        "min_count": np.array(min_count, dtype=np.int64),
    }


def chosen_entries(words: Arrays, parts: Parts, *, min_count: int, min_ratio: float, most: int) -> list[str]:
    """Return the entries: numbers, frequent words, then frequent pairs that occur more often than by chance."""
    singles = dict(zip(unpack_texts(words["names"]), words["counts"].tolist(), strict=True))
    whole = int(words["total"])

    def ratio(pair: str, count: int) -> float:
        first, second = pair.split(" ")
        return count * whole / (singles[first] * singles[second])

    pairs = {
        name: count for name, count in total(parts).items() if count >= min_count and ratio(name, count) >= min_ratio
    }
    ordered = sorted(pairs, key=lambda name: (-pairs[name], name))
    return list(dict.fromkeys([*NUMBERS, *singles, *ordered]))[:most]
