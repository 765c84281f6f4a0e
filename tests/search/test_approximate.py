"""The approximate index: finds what an exact search finds, and is ignored where it cannot be trusted."""

import sys
from pathlib import Path

import numpy as np
import pytest

from percept.search import approximate, nearest
from percept.search.approximate import FOLDER, PLAN, is_outdated, open_approximate, read_plan, refresh_approximate
from percept.search.index import Index
from percept.search.scan import allowing, scan
from percept.search.store import Store
from tests.search.fakes import COLOURS, ColourEncoder, picture
from tests.search.stock import unit, vectors_in

pytest.importorskip("faiss")
ROWS, DIM = 3000, 32


class Wide(ColourEncoder):
    def __init__(self) -> None:
        super().__init__()
        self.identity = type(self.identity)(name="wide", image="wide", text="wide", dim=DIM)


def clustered(count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = unit(np.random.default_rng(0).standard_normal((60, DIM)))
    return unit(centres[rng.integers(0, 60, count)] + 0.1 * rng.standard_normal((count, DIM)))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    for module in (approximate, nearest):
        monkeypatch.setattr(module, "LEAST_ROWS", 1000)
    store = Store.create(tmp_path / "index", Wide())
    vectors_in(store, clustered(ROWS, 1))
    return store


def recall(store: Store, only: np.ndarray | None = None, top: int = 10) -> float:
    found = 0
    for query in clustered(50, 2):
        result = nearest.nearest(store, query, top, only=only)
        assert not result.exact
        wanted = scan(store.segments(), query, top, allowed=allowing(store.dead(), only))
        assert (np.diff(result.found.scores) <= 0).all()
        known = dict(zip(wanted.ids.tolist(), wanted.scores.tolist(), strict=True))
        for id_, score in zip(result.found.ids.tolist(), result.found.scores.tolist(), strict=True):
            assert score == pytest.approx(known.get(id_, score), abs=1e-6)  # scores are exact
        found += len(known.keys() & set(result.found.ids.tolist()))
    return found / 50 / top


def test_it_finds_what_an_exact_search_finds(store: Store) -> None:
    assert is_outdated(store.folder, store.segments())
    plan = refresh_approximate(store)
    assert plan is not None
    assert (plan.rows, read_plan(store.folder)) == (ROWS, plan)
    assert plan.bytes < 0.5 * 4 * DIM * ROWS
    assert plan.recall >= 0.95
    assert recall(store) >= 0.97
    assert refresh_approximate(store) is None  # up to date


def test_indexing_builds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (approximate, nearest):
        monkeypatch.setattr(module, "LEAST_ROWS", 4)
    for name in COLOURS:
        picture(tmp_path / "pictures" / f"{name}.png", name)
    with Index.create(tmp_path / "index", ColourEncoder()) as index:
        index.add(tmp_path / "pictures")
        plan = read_plan(index.folder)
        assert plan is not None
        assert plan.rows == len(COLOURS)
        assert index.search("red", top=2).hits[0].path.stem == "red"
        index.add(tmp_path / "pictures")
        assert read_plan(index.folder) == plan


def test_removed_and_added_pieces(store: Store) -> None:
    refresh_approximate(store)
    query = clustered(1, 3)[0]
    best = nearest.nearest(store, query, 3).found.ids.tolist()
    path = store.pieces(best)[0].paths[0]
    store.remove([path])
    assert best[0] not in nearest.nearest(store, query, 3).found.ids.tolist()
    vectors_in(store, query[None], first=ROWS)
    again = nearest.nearest(store, query, 3)
    assert not again.exact
    assert again.found.scores[0] == pytest.approx(1, abs=1e-6)
    assert not is_outdated(store.folder, store.segments())
    vectors_in(store, clustered(ROWS, 4), first=ROWS + 1)
    assert is_outdated(store.folder, store.segments())
    assert recall(store) >= 0.97
    old = read_plan(store.folder)
    assert refresh_approximate(store) is not None
    assert recall(store) >= 0.97
    assert old is not None
    assert [file.suffix for file in (store.folder / FOLDER).iterdir()].count(".faiss") == 1


@pytest.mark.parametrize("share", [0.05, 0.3, 0.8])
def test_filters_give_what_an_exact_search_gives(store: Store, share: float) -> None:
    refresh_approximate(store)
    rng = np.random.default_rng(5)
    ids = np.sort(rng.choice(np.concatenate([each.ids for each in store.segments()]), round(share * ROWS), False))
    if share > nearest.FEW:
        assert recall(store, ids) >= 0.97
    for query in clustered(20, 6):
        result = nearest.nearest(store, query, 5, only=ids)
        assert set(result.found.ids.tolist()) <= set(ids.tolist())
        assert (len(result.found), result.searched) == (5, len(ids))
        if share <= nearest.FEW:
            assert result.exact
            assert (
                result.found.ids.tolist()
                == scan(store.segments(), query, 5, allowed=allowing(store.dead(), ids)).ids.tolist()
            )


def test_many_hits_are_found_exactly(store: Store) -> None:
    refresh_approximate(store)
    assert nearest.nearest(store, clustered(1, 7)[0], 500).exact


@pytest.mark.parametrize("damage", ["head", "shorter", "missing", "plan", "other"])
def test_a_damaged_index_is_ignored(store: Store, damage: str) -> None:
    plan = refresh_approximate(store)
    assert plan is not None
    file, described = store.folder / FOLDER / plan.file, store.folder / FOLDER / PLAN
    data = file.read_bytes()
    if damage == "head":
        file.write_bytes(data[:50] + bytes([data[50] ^ 255]) + data[51:])
    elif damage == "shorter":
        file.write_bytes(data[:-1])
    elif damage == "missing":
        file.unlink()
    elif damage == "plan":
        described.write_text("{")
    else:
        store.compact()  # nothing is dead: the segments stay
        described.write_text(described.read_text().replace('"1":', '"77":'))
    assert open_approximate(store.folder, store.segments()) is None
    result = nearest.nearest(store, clustered(1, 8)[0], 5)
    assert result.exact
    assert len(result.found) == 5


def test_damaged_lists_cannot_name_rows_that_do_not_exist(store: Store) -> None:
    plan = refresh_approximate(store)
    assert plan is not None
    file = store.folder / FOLDER / plan.file
    data = bytearray(file.read_bytes())
    data[plan.head :] = np.random.default_rng(0).bytes(len(data) - plan.head)
    file.write_bytes(data)
    for query in clustered(5, 9):
        assert len(nearest.nearest(store, query, 5).found) == 5


def test_compacting_makes_it_useless_until_it_is_built_again(store: Store) -> None:
    refresh_approximate(store)
    store.remove([store.pieces([5])[0].paths[0]])
    store.compact()
    assert nearest.nearest(store, clustered(1, 8)[0], 5).exact
    assert refresh_approximate(store) is not None
    assert not nearest.nearest(store, clustered(1, 8)[0], 5).exact


def test_without_faiss_the_search_is_exact_and_says_so_once(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refresh_approximate(store)
    monkeypatch.setitem(sys.modules, "faiss", None)
    for module in (approximate, nearest):
        monkeypatch.setattr(module, "is_available", lambda: False)
    for _ in range(2):
        assert nearest.nearest(store, clustered(1, 8)[0], 5).exact
    assert capsys.readouterr().err.count("faiss is missing") == 1
    assert refresh_approximate(store, always=True) is None
