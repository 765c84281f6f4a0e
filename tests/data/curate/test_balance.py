"""Metadata-balanced curation: matching, counting, probabilities, and that both forms keep the same expected set."""

import builtins
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from percept.core.errors import PerceptError
from percept.data.curate.balance import (
    NO_ENTRY,
    NOT_DRAWN,
    PROBABILITY,
    Balance,
    entry_probability,
    keep_probability,
    keeps,
    tail_threshold,
)
from percept.data.curate.matching import AhoCorasick, NgramTable, make_matcher, match_all, read_words, spaced
from percept.data.curate.store import unpack_texts
from tests.data.curate.making import captions, chunk, kept, run

ENTRIES = ["cat", "cats", "black cat", "a black cat", "New York", "c", ",", "7", "cat", "ca t", "."]
words = st.lists(
    st.sampled_from(["cat", "cats", "black", "a", "New", "York", ",", ".", "ca", "t", "7", "Cat"]), max_size=12
)
gaps = st.sampled_from([" ", "", "\n", "  ", "\t"])


def naive(entries: list[str], text: str) -> list[int]:
    """The definition: an entry matches if it is a substring between blanks."""
    return [
        number for number, entry in enumerate(entries) if f" {entry} " in spaced(text) and entry not in entries[:number]
    ]


@settings(max_examples=300, deadline=None)
@given(words, gaps)
def test_both_matchers_agree_with_the_definition(parts: list[str], gap: str) -> None:
    import ahocorasick_rs

    text = gap.join(parts)
    expected = naive(ENTRIES, text)
    assert NgramTable(ENTRIES)(text) == expected
    assert AhoCorasick(ENTRIES, ahocorasick_rs)(text) == expected


def test_matching_is_of_whole_words_and_of_letters_as_written() -> None:
    match = make_matcher(["cat", "New York"])
    assert match("concatenate") == match("Cat") == match("new york") == []
    assert match("the cat, in\nNew York!") == [0, 1]


def test_without_the_library_the_table_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(make_matcher(["a"]), AhoCorasick)
    load = builtins.__import__

    def refuse(name: str, *rest: object, **more: object) -> object:
        if name == "ahocorasick_rs":
            raise ImportError(name)
        return load(name, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", refuse)
    assert isinstance(make_matcher(["a"]), NgramTable)


def test_probabilities_are_those_of_the_paper() -> None:
    counts = np.array([1000, 100, 3, 0])
    chances = entry_probability(counts, 50)
    assert chances.tolist() == [0.05, 0.5, 1, 1]
    entries, starts = np.array([0, 1, 0, 2, 0]), np.array([0, 2, 2, 4, 5])
    expected = [1 - (1 - 0.05) * (1 - 0.5), 0, 1, 0.05]
    np.testing.assert_allclose(keep_probability(entries, starts, chances), expected)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=30), st.floats(0.01, 1))
def test_the_threshold_has_the_nearest_tail_share(counts: list[int], tail: float) -> None:
    table = np.array(counts)
    threshold = tail_threshold(table, tail)
    if table.sum():
        shares = [np.sort(table)[: place + 1].sum() / table.sum() for place in range(len(table))]
        best = min(abs(share - tail) for share in shares)
        places = [place for place, count in enumerate(np.sort(table)) if max(1, count) == threshold]
        assert any(abs(shares[place] - tail) == pytest.approx(best) for place in places)


def step(folder: Path, **settings: object) -> Balance:
    file = folder / "words.txt"
    file.write_text("\n".join(sorted(set(" ".join(captions(2000)).split()) - {"untitled"})))
    return Balance(words=(str(file),), **{"threshold": 40, "tail": None, **settings})  # type: ignore[arg-type]


def chunks(count: int = 600, size: int = 100) -> list:
    texts = captions(count)
    return [
        chunk([[text] for text in texts[low:high]], low // size, low)
        for low, high in pairwise(range(0, count + 1, size))
    ]


def test_counts_are_over_all_chunks_and_texts_without_entry_are_dropped(tmp_path: Path) -> None:
    balance = step(tmp_path)
    decisions, state = run(balance, chunks(), tmp_path)
    entries = unpack_texts(state["entries"])
    every = captions(600)
    assert state["counts"].tolist() == [sum(f" {entry} " in f" {text} " for text in every) for entry in entries]
    reasons = [reason for decision in decisions for reason in decision.reasons]
    assert [reason == NO_ENTRY for reason in reasons] == [text == "untitled" for text in every]
    assert NOT_DRAWN in reasons


def test_the_offline_set_has_the_expected_size_over_seeds(tmp_path: Path) -> None:
    seeds = 40
    sizes, state = np.zeros(600), {}
    for seed in range(seeds):
        decisions, state = run(step(tmp_path, seed=seed), chunks(), tmp_path)
        sizes += kept(decisions)
    texts = captions(600)
    entries, starts = match_all(make_matcher(unpack_texts(state["entries"])), texts)
    chances = keep_probability(entries, starts, state["probability"])
    deviation = np.sqrt((chances * (1 - chances)).sum() * seeds)
    assert abs(sizes.sum() - seeds * chances.sum()) < 3.5 * deviation
    certain = (chances == 0) | (chances == 1)
    np.testing.assert_array_equal(sizes[certain], seeds * chances[certain])
    assert np.abs(sizes / seeds - chances).max() < 0.4


def test_the_loader_draws_the_same_expected_set(tmp_path: Path) -> None:
    offline, _ = run(step(tmp_path), chunks(), tmp_path)
    loader, _ = run(step(tmp_path, offline=False), chunks(), tmp_path)
    chances = [values[0] if values else 0.0 for decision in loader for values in decision.added[PROBABILITY]]
    first = [keeps(chance, str(key)) for key, chance in enumerate(chances)]
    assert first == kept(offline)  # epoch 0 is the offline set itself
    sizes = [sum(keeps(chance, str(key), epoch=epoch) for key, chance in enumerate(chances)) for epoch in range(50)]
    spread = np.sqrt(sum(chance * (1 - chance) for chance in chances))
    assert abs(np.mean(sizes) - sum(chances)) < 3.5 * spread / np.sqrt(len(sizes))
    assert len(set(sizes)) > 1


def test_a_draw_does_not_depend_on_chunks(tmp_path: Path) -> None:
    for name in ("small", "large"):
        (tmp_path / name).mkdir()
    small = kept(run(step(tmp_path), chunks(size=50), tmp_path / "small")[0])
    assert small == kept(run(step(tmp_path), chunks(size=300), tmp_path / "large")[0])


def test_single_captions_of_a_row_are_drawn_and_the_row_stays_with_the_others(tmp_path: Path) -> None:
    rows = [[f"kara x{n}", "nothing", "penux"] for n in range(300)]
    (tmp_path / "words.txt").write_text("kara\n")
    balance = Balance(words=(str(tmp_path / "words.txt"),), threshold=30)
    decisions, _ = run(balance, [chunk(rows)], tmp_path)
    texts = decisions[0].texts
    assert texts is not None
    remaining = [some for some, reason in zip(texts, decisions[0].reasons, strict=True) if reason is None]
    assert all(some == [some[0]] and some[0].startswith("kara") for some in remaining)
    assert 10 < len(remaining) < 60


def test_words_are_counted_in_the_corpus(tmp_path: Path) -> None:
    texts = ["red cup"] * 30 + ["red dog"] * 5 + ["big dog"] * 20 + ["a rare thing"] + ["big cup"] * 2
    balance = Balance(min_count=5, min_ratio=1.5, threshold=1000)
    _, state = run(balance, [chunk([[text] for text in texts])], tmp_path)
    entries = unpack_texts(state["entries"])
    assert entries[:100] == [str(number) for number in range(100)]
    counts = {"red": 35, "cup": 32, "dog": 25, "big": 22}
    assert entries[100:104] == list(counts)
    total = 2 * 57 + 3
    pairs = {"red cup": 30, "red dog": 5, "big dog": 20}
    ratio = {
        pair: number * total / (counts[pair.split()[0]] * counts[pair.split()[1]]) for pair, number in pairs.items()
    }
    assert entries[104:] == [pair for pair in ("red cup", "big dog", "red dog") if ratio[pair] >= 1.5]


def test_word_lists_are_cleaned(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hot_dog\n\n!\ncat\n 7 \n")
    (tmp_path / "b.txt").write_text("cat\nNew York\n")
    assert read_words([tmp_path / "a.txt", tmp_path / "b.txt"]) == ["hot dog", "cat", "7", "New York"]
    with pytest.raises(PerceptError, match="cannot be read"):
        read_words([tmp_path / "none.txt"])
    with pytest.raises(PerceptError, match="tail must be"):
        Balance(tail=None)
