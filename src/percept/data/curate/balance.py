"""Metadata-balanced curation: keep all captions about rare things, and a random part of those about frequent things.

Xu et al. 2024, "Demystifying CLIP Data", arXiv:2309.16671, algorithm 1; Perception Encoder uses it for its image data. With c_e captions that
contain entry e of a word list and a threshold t:

    p_e = t / max(c_e, t)                    # entries with at most t captions form the tail: p_e = 1
    p(caption) = 1 - Π_{e in caption} (1 - p_e)

A caption is kept if any of its entries draws u < p_e; one draw against p(caption) has the same probability, and captions without entries
are removed. t may be given by the share of all matches that the tail should have: t is the count at which the share of the
matches of entries up to it, in ascending order, is nearest to it (facebookresearch/MetaCLIP, metaclip/curation/curate.py).

The draw of a caption depends on the seed, the key of its row, its number among the captions of the row that have an entry, and the epoch, not on the order of rows. In the
offline form epoch 0 is drawn; with `offline=False` all rows with an entry remain and get a column `keep_probability`, and a loader calls
`keeps` with the epoch: epoch 0 gives the set of the offline form, and every epoch has the same expected set.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from percept.core.errors import PerceptError
from percept.core.io import content_hash
from percept.core.seed import derive
from percept.data.curate import words
from percept.data.curate.matching import Matcher, make_matcher, match_all, read_words
from percept.data.curate.step import Pass, Place, Plain
from percept.data.curate.store import KEPT, Arrays, Chunk, Decision, Parts, pack_texts, unpack_texts

NO_ENTRY, NOT_DRAWN = "no entry of the word list", "frequent entries, not drawn"
PROBABILITY = "keep_probability"
SHOWN = 10
"""Entries that the report lists, of the most frequent before and after."""


@dataclass(frozen=True, kw_only=True)
class Balance(Plain):
    """Balance captions over the entries of word lists."""

    words: tuple[str, ...] = ()
    """Files with one entry on a line. Default: words and pairs of words counted in the captions themselves."""
    threshold: int | None = None
    """Captions of an entry from which on a part is removed (t): 20,000 for 400 million pairs, 170,000 for 2.5 billion."""
    tail: float | None = 0.2
    """Share of all matches that belongs to entries of the tail; it decides the threshold where none is given."""
    offline: bool = True
    """Remove captions; if false, write the probability of each caption for a loader to draw by."""
    seed: int = 0
    """Seed of the draws."""
    min_count: int | None = None
    """Smallest count of counted words and pairs. Default: a thousandth of the captions, at least 2 and at most the paper's 100."""
    min_ratio: float = 30.0
    """Smallest ratio of the count of a pair to its count by chance."""
    most: int = 500_000
    """Most entries of a counted list."""

    def __post_init__(self) -> None:
        if self.threshold is not None and self.threshold < 1:
            raise PerceptError(f"threshold must be at least 1, got {self.threshold}.")
        if self.threshold is None and (self.tail is None or not 0 < self.tail <= 1):
            raise PerceptError(f"tail must be above 0 and at most 1, got {self.tail}. Or give a threshold.")
        if self.min_count is not None and self.min_count < 1:
            raise PerceptError(f"min_count must be at least 1, got {self.min_count}.")

    def files(self) -> Sequence[Path]:
        """Return the word lists."""
        return tuple(map(Path, self.words))

    def passes(self) -> Sequence[Pass]:
        """Count words and pairs unless word lists are given, then match."""
        match = Pass(_match, self._probabilities)
        if self.words:
            return (Pass(lambda *_: {}, self._listed), match)
        return (
            Pass(
                lambda chunk, *_: words.count_words(chunk), lambda parts, _: words.frequent_words(parts, self.min_count)
            ),
            Pass(_count_pairs, self._chosen),
            match,
        )

    def _listed(self, parts: Parts, earlier: Arrays) -> Arrays:
        return {"entries": pack_texts(read_words(self.files()))}

    def _chosen(self, parts: Parts, earlier: Arrays) -> Arrays:
        entries = words.chosen_entries(
            earlier, parts, min_count=int(earlier["min_count"]), min_ratio=self.min_ratio, most=self.most
        )
        return {"entries": pack_texts(entries), "min_count": earlier["min_count"]}

    def _probabilities(self, parts: Parts, earlier: Arrays) -> Arrays:
        """Count the captions of every entry; the state gains the counts, the threshold and the probabilities."""
        counts = np.zeros(len(unpack_texts(earlier["entries"])), dtype=np.int64)
        for part in parts:
            counts += np.bincount(part["entries"], minlength=len(counts))
        if not counts.any():
            raise PerceptError("no caption contains an entry. Give fitting --words, or a smaller min_count.")
        threshold = self.threshold if self.threshold is not None else tail_threshold(counts, self.tail or 0.0)
        return {
            **earlier,
            "counts": counts,
            "threshold": np.array(threshold),
            "probability": entry_probability(counts, threshold),
        }

    def decide(self, chunk: Chunk, measured: Arrays, state: Arrays) -> Decision:
        """Remove captions without entries, and draw the others or write their probabilities."""
        chances = keep_probability(measured["entries"], measured["starts"], state["probability"]).tolist()
        groups: list[list[float]] = [[] for _ in range(len(chunk))]
        removed: list[str | None] = []
        for row, chance in zip(chunk.owners, chances, strict=True):
            place = len(groups[row])
            if chance:
                groups[row].append(chance)
            drawn = not self.offline or keeps(chance, chunk.keys[row], place=place, seed=self.seed)
            removed.append(NO_ENTRY if not chance else None if drawn else NOT_DRAWN)
        return chunk.per_text(removed, {} if self.offline else {PROBABILITY: groups})

    def describe(self, measured: Parts, decided: Sequence[Any], state: Arrays) -> dict[str, Any]:
        """Return the threshold, the most frequent entries, and how many entries have how many captions before and after."""
        entries, before = unpack_texts(state["entries"]), state["counts"]
        after = self._counts_after(measured, decided, state)
        order = np.argsort(-before, kind="stable")[:SHOWN]
        edges = 10 ** np.arange(0, max(1, len(str(int(before.max(initial=1))))) + 1)
        return {
            "threshold": int(state["threshold"]),
            "tail share before": round(tail_share(before, int(state["threshold"])), 6),
            "tail share after": round(float(after[before < int(state["threshold"])].sum() / max(1.0, after.sum())), 6),
            **({"smallest count of an entry": int(state["min_count"])} if "min_count" in state else {}),
            "entries": len(entries),
            "entries with captions": int((before > 0).sum()),
            "entries left without captions": int(((before > 0) & (after < 0.5)).sum()),
            "most frequent": {
                entries[number]: [int(before[number]), round(float(after[number]), 1)] for number in order
            },
            "histogram": {
                "title": "entries by their number of captions",
                "bins": [f"{low:,}–{low * 10 - 1:,}" for low in edges[:-1].tolist()],
                "before": np.histogram(before, edges)[0].tolist(),
                "after": np.histogram(after, edges)[0].tolist(),
            },
        }

    def _counts_after(self, measured: Parts, decided: Sequence[Any], state: Arrays) -> Float[np.ndarray, " e"]:
        """Return the captions of every entry that remain; the expected number where a loader draws."""
        after = np.zeros(len(state["counts"]))
        for part, decision in zip(measured, decided, strict=True):
            if self.offline:
                kept = decision[KEPT].combine_chunks().flatten().to_numpy(zero_copy_only=False).astype(float)
            else:
                kept = keep_probability(part["entries"], part["starts"], state["probability"])
            weights = np.repeat(kept, np.diff(part["starts"]))
            after += np.bincount(part["entries"], weights, minlength=len(after))
        return after


def _count_pairs(chunk: Chunk, earlier: Arrays, place: Place) -> Arrays:
    return words.count_pairs(chunk, set(unpack_texts(earlier["names"])))


def _match(chunk: Chunk, earlier: Arrays, place: Place) -> Arrays:
    packed = earlier["entries"].tobytes()
    entries, starts = match_all(_matcher(content_hash(packed), packed), chunk.flat)
    return {"entries": entries, "starts": starts}


@lru_cache(maxsize=1)
def _matcher(name: str, packed: bytes) -> Matcher:
    return make_matcher(unpack_texts(np.frombuffer(packed, dtype=np.uint8)))


def tail_threshold(counts: Int[np.ndarray, " e"], tail: float) -> int:
    """Return the count at which the share of the matches up to it, in ascending order, is nearest to `tail`; at least 1.

    >>> tail_threshold(np.array([100, 10, 5, 5]), 1 / 6)
    10
    """
    ordered = np.sort(counts)
    share = np.cumsum(ordered) / max(1, counts.sum())
    return max(1, int(ordered[np.abs(share - tail).argmin()])) if len(counts) else 1


def tail_share(counts: Int[np.ndarray, " e"], threshold: int) -> float:
    """Return the share of the matches that belongs to entries with fewer captions than the threshold."""
    return float(counts[counts < threshold].sum() / max(1, counts.sum()))


def entry_probability(counts: Int[np.ndarray, " e"], threshold: int) -> Float[np.ndarray, " e"]:
    """Return p_e = t / max(c_e, t)."""
    return threshold / np.maximum(counts, threshold)


def keep_probability(
    entries: Int[np.ndarray, " m"], starts: Int[np.ndarray, " n1"], probability: Float[np.ndarray, " e"]
) -> Float[np.ndarray, " n"]:
    """Return 1 - Π (1 - p_e) of every text; 0 for a text without entries. Arguments as from `match_all`."""
    miss = 1 - probability[entries]
    chances = np.zeros(len(starts) - 1)
    some = np.diff(starts) > 0
    if some.any():
        chances[some] = 1 - np.multiply.reduceat(miss, starts[:-1][some])
    return chances


def keeps(probability: float, key: str, *, place: int = 0, seed: int = 0, epoch: int = 0) -> bool:
    """Draw whether a caption is kept; the draw depends on all arguments but the probability, and on nothing else.

    Args:
        probability: probability to keep it, from the column `keep_probability`.
        key: key of the caption's row.
        place: number of the caption among those of its row that contain an entry.
        seed: seed of the draws.
        epoch: epoch of a loader; 0 gives the draws of the offline form.
    """
    return derive(seed, "balance", key, place, epoch) / 2**63 < probability
