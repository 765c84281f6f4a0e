import tracemalloc
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from percept.core.errors import PerceptError
from percept.data.sources.order import Draws, permuted


@given(st.integers(1, 3000), st.integers(0, 2**40))
@settings(deadline=None, max_examples=60)
def test_a_permutation_holds_every_row_once(count: int, seed: int) -> None:
    assert sorted(permuted(np.arange(count), count, seed=seed).tolist()) == list(range(count))


@given(st.integers(1, 2**50), st.lists(st.integers(0, 2**50), min_size=1, max_size=20), st.integers(0, 2**30))
@settings(deadline=None, max_examples=60)
def test_an_entry_does_not_depend_on_those_asked_for_with_it(count: int, positions: list[int], seed: int) -> None:
    places = np.array(positions) % count
    together = permuted(places, count, seed=seed)
    assert ((together >= 0) & (together < count)).all()
    assert together.tolist() == [int(permuted(np.array([place]), count, seed=seed)[0]) for place in places]


@pytest.mark.parametrize("count", [2, 3, 5, 13])
def test_every_row_is_equally_likely_at_every_place(count: int) -> None:
    seeds = 1000
    first = Counter(int(permuted(np.array([0]), count, seed=seed)[0]) for seed in range(seeds))
    pairs = Counter(str(permuted(np.arange(2), count, seed=seed)) for seed in range(seeds))
    for counts, kinds in ((first, count), (pairs, count * (count - 1))):
        expected = seeds / kinds
        chi = sum((number - expected) ** 2 / expected for number in counts.values()) + expected * (kinds - len(counts))
        assert chi < kinds - 1 + 5 * np.sqrt(2 * kinds)  # five deviations


def test_order_is_random_over_the_whole_set() -> None:
    rows = permuted(np.arange(1000), 10**9, seed=3)
    assert abs(rows.mean() / 10**9 - 0.5) < 0.05
    assert abs(np.corrcoef(rows[:-1], rows[1:])[0, 1]) < 0.15


def test_order_of_a_large_set_needs_no_memory() -> None:
    permuted(np.arange(4), 10**12, seed=1)
    tracemalloc.start()
    permuted(np.arange(256), 10**12, seed=1)
    assert tracemalloc.get_traced_memory()[1] < 200_000
    tracemalloc.stop()


def test_each_epoch_has_all_rows_in_an_order_of_its_own() -> None:
    drawn = Draws(counts=(7,), weights=(1.0,), seed=0).at(np.arange(21))
    epochs = drawn.row.reshape(3, 7).tolist()
    assert [sorted(epoch) for epoch in epochs] == [list(range(7))] * 3
    assert drawn.epoch.tolist() == [0] * 7 + [1] * 7 + [2] * 7
    assert epochs[0] != epochs[1] != epochs[2]


@given(
    st.lists(st.tuples(st.integers(1, 40), st.floats(0.05, 3)), min_size=1, max_size=4),
    st.integers(0, 100),
    st.lists(st.integers(0, 10**6), min_size=1, max_size=10),
)
@settings(deadline=None, max_examples=40)
def test_each_part_of_a_mixture_goes_through_its_rows_in_order(
    parts: list[tuple[int, float]], seed: int, numbers: list[int]
) -> None:
    counts, weights = zip(*parts, strict=True)
    draws = Draws(counts=counts, weights=weights, seed=seed)
    drawn = draws.at(np.arange(300))
    for part, count in enumerate(counts):
        rows = drawn.row[drawn.part == part].tolist()
        for first in range(0, len(rows) - count + 1, count):
            assert sorted(rows[first : first + count]) == list(range(count))
    single = [draws.at(np.array([number])) for number in numbers]
    together = draws.at(np.array(numbers))
    assert together.row.tolist() == [int(each.row[0]) for each in single]
    assert together.part.tolist() == [int(each.part[0]) for each in single]


def test_blocks_of_a_mixture_have_exact_shares_in_random_places() -> None:
    drawn = Draws(counts=(1000, 1000), weights=(0.7, 0.3), seed=0).at(np.arange(2000))
    blocks = drawn.part.reshape(-1, 20)
    assert blocks.sum(1).tolist() == [6] * 100
    assert len({tuple(block) for block in blocks.tolist()}) > 90


def test_weights_are_checked() -> None:
    with pytest.raises(PerceptError, match="above 0 for each"):
        Draws(counts=(1, 1), weights=(1.0, 0.0), seed=0)
    with pytest.raises(PerceptError, match="never be read"):
        Draws(counts=(1, 1), weights=(1.0, 1e-9), seed=0)
