"""Exact search: equal to comparing one by one, whatever is dead, filtered, damaged or in which segment."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from percept.search import scan as module
from percept.search.scan import allowing, read_rows, rows_of, scan, vectors_of
from percept.search.store import Segment
from tests.search.stock import unit

DIM = 32


class Rows(Segment):
    """A segment made of arrays."""

    def __init__(self, *, id: int, vectors: np.ndarray, ids: np.ndarray) -> None:
        self.id, self.rows = id, len(ids)
        self.__dict__.update(vectors=vectors, ids=ids)


@pytest.fixture
def segments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Rows]:
    monkeypatch.setattr(module, "PART_BYTES", 4 * DIM * 100)  # several parts to a segment
    rng, made, first = np.random.default_rng(0), [], 1
    for number, count in enumerate((350, 99, 1), start=1):
        vectors = unit(rng.standard_normal((count, DIM)))
        vectors.tofile(tmp_path / f"{number}.vec")
        mapped = np.memmap(tmp_path / f"{number}.vec", "<f4", mode="r", shape=(count, DIM))
        made.append(Rows(id=number, vectors=mapped, ids=np.arange(first, first + 2 * count, 2)))
        first += 2 * count
    return made


def one_by_one(segments: list[Rows], query: np.ndarray, ids: set[int] | None = None) -> list[tuple[float, int]]:
    pairs = [
        (-float(vector @ query), int(id_))
        for rows in segments
        for vector, id_ in zip(rows.vectors, rows.ids, strict=True)
        if ids is None or int(id_) in ids
    ]
    return sorted(pairs)


QUERY = unit(np.random.default_rng(1).standard_normal(DIM))


@pytest.mark.parametrize("top", [1, 7, 120, 450, 999])
def test_the_nearest_are_those_of_comparing_one_by_one(segments: list[Rows], top: int) -> None:
    found = scan(segments, QUERY, top)
    wanted = one_by_one(segments, QUERY)[:top]
    assert found.ids.tolist() == [id_ for _, id_ in wanted]
    assert found.scores == pytest.approx([-score for score, _ in wanted], abs=1e-6)
    assert np.vecdot(vectors_of(segments, found), QUERY) == pytest.approx(found.scores, abs=1e-6)


@pytest.mark.parametrize("share", [0.02, 0.5, 1.0])
def test_only_what_is_allowed_is_found(segments: list[Rows], share: float) -> None:
    rng = np.random.default_rng(2)
    ids = np.concatenate([rows.ids for rows in segments])
    only = np.sort(rng.choice(ids, round(share * len(ids)), replace=False))
    dead = np.sort(rng.choice(ids, 40, replace=False))
    wanted = one_by_one(segments, QUERY, set(only.tolist()) - set(dead.tolist()))
    found = scan(segments, QUERY, 20, allowed=allowing(dead, only))
    assert found.ids.tolist() == [id_ for _, id_ in wanted[:20]]
    everything = scan(segments, QUERY, 1000, allowed=allowing(dead))
    assert set(everything.ids.tolist()) == set(ids.tolist()) - set(dead.tolist())


def test_pieces_added_after_a_filter_was_made_do_not_pass_it(segments: list[Rows]) -> None:
    none = np.zeros(0, np.int64)
    assert len(scan(segments, QUERY, 9, allowed=allowing(none, none))) == 0
    few = allowing(none, np.array([1, 3]))
    assert set(scan(segments, QUERY, 9, allowed=few).ids.tolist()) == {1, 3}
    assert len(scan(segments, QUERY, 999, allowed=allowing(np.array([1])))) == 449


def test_rows_that_are_not_numbers_are_left_out(segments: list[Rows]) -> None:
    vectors = np.array(segments[0].vectors)
    vectors[3], vectors[200], vectors[340] = np.nan, np.inf, 1e30
    segments[0].vectors = vectors
    found = scan(segments, QUERY, 999)
    assert len(found) == 447
    assert np.isfinite(found.scores).all()


def test_equal_scores_keep_the_order_of_ids(segments: list[Rows]) -> None:
    segments[0].vectors = np.repeat(QUERY[None], 350, 0)
    assert scan(segments, QUERY, 5).ids.tolist() == [1, 3, 5, 7, 9]


def test_a_part_can_be_skipped(segments: list[Rows]) -> None:
    found = scan(segments, QUERY, 999, begin={1: 340, 2: 99})
    assert sorted(found.ids.tolist()) == [*segments[0].ids[340:].tolist(), *segments[2].ids.tolist()]


def test_rows_are_found_by_id_also_out_of_order(segments: list[Rows]) -> None:
    wanted = np.array([0, 2, 1, 699, 701, 10**9, -3])  # even ids do not exist
    for _ in range(2):
        found = rows_of(segments, wanted)
        assert found.ids.tolist() == [1, 699, 701]
        for place, row, id_ in zip(found.segments, found.rows, found.ids, strict=True):
            assert segments[place].ids[row] == id_
        segments[0].ids = segments[0].ids[::-1].copy()


def test_several_threads_find_the_same(segments: list[Rows]) -> None:
    wanted = scan(segments, QUERY, 10).ids.tolist()
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(lambda _: scan(segments, QUERY, 10), range(50)):
            assert found.ids.tolist() == wanted


def resident() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssFile"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's account of memory")
def test_a_search_does_not_keep_what_it_reads_in_memory(tmp_path: Path) -> None:
    rows = 32_000
    np.zeros((rows, 512), np.float32).tofile(tmp_path / "zeros")  # 64 MB
    mapped = np.memmap(tmp_path / "zeros", "<f4", mode="r", shape=(rows, 512))
    segments = [Rows(id=1, vectors=mapped, ids=np.arange(rows))]
    before = resident()
    assert float(np.abs(mapped).sum()) == 0
    assert resident() - before > 60e6  # what reading it costs otherwise
    module.release(mapped, 0, rows)
    scan(segments, np.zeros(512, np.float32), 10)
    read_rows(mapped, np.arange(0, rows, 100))
    assert resident() - before < 20e6
