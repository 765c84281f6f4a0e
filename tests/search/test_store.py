"""The store on disk: what is committed stays, what is removed is not found, and filters mean what they say."""

import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from percept.core.errors import PerceptError
from percept.search.store import FileState, Filter, NewContent, Root, Store
from percept.search.store import segments as segments_module
from percept.search.store.segments import BLOCK, segment_files
from tests.search.fakes import ColourEncoder

DIM = 4


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.create(tmp_path / "index", ColourEncoder()) as store:
        yield store


def content(number: int, *, pieces: int = 1, **fields: float) -> NewContent:
    vectors = np.random.default_rng(number).normal(size=(pieces, DIM)).astype(np.float32)
    spans = (None,) if pieces == 1 else tuple((float(piece), piece + 1.0) for piece in range(pieces))
    values = {"width": 100 + number, "height": 50, **fields}
    kind = "image" if pieces == 1 else "video"
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return NewContent(hash=f"h{number}", kind=kind, vectors=vectors, spans=spans, **values)  # type: ignore[arg-type]


def file(name: str, hash_: str, *, modified: int = 5 * 10**9) -> FileState:
    return FileState(path=Path(f"/photos/{name}"), bytes=10, modified=modified, hash=hash_)


def fill(store: Store, numbers: range, *, pieces: int = 1) -> None:
    contents = [content(number, pieces=pieces) for number in numbers]
    assert store.add(contents, [file(f"{each.hash}.jpg", each.hash) for each in contents]) == []


def stored(store: Store) -> dict[str, np.ndarray]:
    """Return hash → vectors of everything that can be found."""
    found: dict[str, list[np.ndarray]] = {}
    for ids, vectors in store.vectors():
        for piece, vector in zip(store.pieces(ids), vectors, strict=True):
            found.setdefault(piece.hash, []).append(vector)
    return {hash_: np.stack(rows) for hash_, rows in found.items()}


def names(store: Store, condition: Filter) -> set[str]:
    return {path.name for piece in store.pieces(store.where(condition)) for path in piece.paths}


def test_vectors_come_back_to_the_bit_from_a_store_that_was_closed(tmp_path: Path, store: Store) -> None:
    fill(store, range(10))
    fill(store, range(10, 20), pieces=3)
    store.close()
    with Store(tmp_path / "index", ColourEncoder()) as again:
        found = stored(again)
        assert len(again) == 20
        assert all(np.array_equal(found[f"h{n}"], content(n, pieces=1 if n < 10 else 3).vectors) for n in range(20))
        spans = [(piece.start, piece.stop) for piece in again.pieces(range(11, 14))]
        assert spans == [(0.0, 1.0), (1.0, 2.0), (2.0, 3.0)]
        (segment,) = again.segments()
        assert isinstance(segment.vectors, np.memmap)
        assert segment.vectors.shape == (40, DIM)


def test_segments_are_sealed_at_their_size(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments_module, "ROWS", 300)
    for first in range(0, 700, 70):
        fill(store, range(first, first + 70))
    assert [(segment.rows, segment.sealed) for segment in store.segments()] == [(300, True), (300, True), (100, False)]
    assert len(stored(store)) == 700
    assert store.status().damaged == 0


def test_pieces_come_in_the_order_asked_and_without_unknown_ones(store: Store) -> None:
    fill(store, range(5))
    assert [piece.hash for piece in store.pieces([3, 99, 1, 3])] == ["h2", "h0", "h2"]


def test_a_piece_id_is_never_used_twice(store: Store) -> None:
    fill(store, range(3))
    store.remove([Path("/photos")])
    store.compact()
    fill(store, range(3))
    assert sorted(ids for part, _ in store.vectors() for ids in part.tolist()) == [4, 5, 6]


def test_duplicates_share_a_content_until_the_last_file_goes(store: Store) -> None:
    store.add([content(1)], [file("a.jpg", "h1"), file("b.jpg", "h1")])
    store.add([content(1)], [file("c.jpg", "h1")])
    (piece,) = store.pieces([1, 2])
    assert [path.name for path in piece.paths] == ["a.jpg", "b.jpg", "c.jpg"]
    store.forget([Path("/photos/a.jpg"), Path("/photos/b.jpg")])
    assert len(store.pieces([1])) == 1
    store.forget([Path("/photos/c.jpg")])
    assert store.pieces([1]) == []
    assert store.dead().tolist() == [1]
    assert stored(store) == {}


def test_a_changed_file_drops_what_it_held(store: Store) -> None:
    store.add([content(1)], [file("a.jpg", "h1")])
    store.add([content(2)], [file("a.jpg", "h2")])
    assert list(stored(store)) == ["h2"]
    assert store.dead().tolist() == [1]


def test_content_that_another_process_removed_is_reported(tmp_path: Path, store: Store) -> None:
    fill(store, range(2))
    with Store(tmp_path / "index") as other:
        other.remove([Path("/photos/h0.jpg")])
    assert store.add([], [file("copy.jpg", "h0"), file("other.jpg", "h1")]) == [Path("/photos/copy.jpg")]
    assert len(store) == 2


def test_every_write_raises_the_version_for_other_processes_too(tmp_path: Path, store: Store) -> None:
    with Store(tmp_path / "index") as other:
        before = other.version()
        assert other.segments() == []
        fill(store, range(3))
        assert other.version() > before
        assert [segment.rows for segment in other.segments()] == [3]
        kept = other.segments()
        assert other.segments() is kept


def test_a_reader_keeps_its_rows_while_another_process_compacts(tmp_path: Path, store: Store) -> None:
    fill(store, range(100))
    with Store(tmp_path / "index") as reader:
        (segment,) = reader.segments()
        before = segment.vectors.copy()
        store.remove([Path(f"/photos/h{number}.jpg") for number in range(50)])
        assert store.compact() == 50
        assert not segment.vector_file.exists()
        assert np.array_equal(segment.vectors, before)
        assert [each.rows for each in reader.segments()] == [50]


def test_compact_keeps_the_living_and_frees_the_rest(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments_module, "ROWS", 64)
    fill(store, range(200))
    before = stored(store)
    untouched = store.segments()[1].id
    gone = [*range(10), *range(130, 200)]
    store.remove([Path(f"/photos/h{number}.jpg") for number in gone])
    size = store.status().vector_bytes
    assert store.compact() == len(gone)
    after = stored(store)
    assert after.keys() == before.keys() - {f"h{number}" for number in gone}
    assert all(np.array_equal(after[hash_], before[hash_]) for hash_ in after)
    assert untouched in [segment.id for segment in store.segments()]
    status = store.status()
    assert (status.dead, status.damaged) == (0, 0)
    assert status.vector_bytes < size
    assert store.compact() == 0


FILTERS = {
    "folder": (Filter(below=("/photos/a",)), {"1.jpg", "2.png"}),
    "two folders": (Filter(below=("/photos/a", "/photos/ab")), {"1.jpg", "2.png", "3.jpg"}),
    "a file": (Filter(below=("/photos/clip.mp4",)), {"clip.mp4"}),
    "a file that is not there": (Filter(below=("/photos/cl",)), set()),
    "pattern": (Filter(include=("*.jpg",)), {"1.jpg", "3.jpg"}),
    "pattern from a folder": (Filter(include=("a/*",)), {"1.jpg", "2.png"}),
    "absolute pattern": (Filter(include=("/photos/a*",)), {"1.jpg", "2.png", "3.jpg"}),
    "set of letters": (Filter(include=("[!13].*",)), {"2.png"}),
    "several": (Filter(include=("*.jpg", "*.mp4"), exclude=("ab/*",)), {"1.jpg", "clip.mp4"}),
    "kind": (Filter(kind="video"), {"clip.mp4"}),
    "taken": (Filter(after=100.0), {"1.jpg"}),
    "changed, where it does not say": (Filter(after=8.0, before=10.0), {"3.jpg"}),
    "before": (Filter(before=8.0), {"2.png", "clip.mp4"}),
    "larger": (Filter(min_side=200), {"3.jpg"}),
    "smaller": (Filter(max_side=102), {"1.jpg", "2.png"}),
    "nothing": (Filter(), {"1.jpg", "2.png", "3.jpg", "clip.mp4"}),
}


@pytest.mark.parametrize("kind", FILTERS)
def test_filters(kind: str, store: Store) -> None:
    contents = [content(1, taken=100.0), content(2), content(3, height=200, width=300), content(4, pieces=2)]
    files = [file("a/1.jpg", "h1"), file("a/2.png", "h2"), file("ab/3.jpg", "h3", modified=9 * 10**9)]
    store.add(contents, [*files, file("clip.mp4", "h4")])
    condition, expected = FILTERS[kind]
    assert names(store, condition) == expected
    ids = store.where(condition)
    assert ids.dtype == np.int64
    assert (np.diff(ids) > 0).all()


def test_filters_take_names_that_are_not_text(store: Store) -> None:
    name = os.fsdecode(b"gr\xfcn [1].jpg")
    store.add([content(1)], [file(f"odd/{name}", "h1")])
    for condition in (
        Filter(include=(name.replace("[", "[[]"),)),
        Filter(include=("gr?n*",)),
        Filter(below=("/photos/odd",)),
    ):
        assert names(store, condition) == {name}


def test_impossible_filters_are_refused(store: Store) -> None:
    with pytest.raises(PerceptError, match="unknown kind 'photo'"):
        store.where(Filter(kind="photo"))
    with pytest.raises(PerceptError, match="an empty pattern matches nothing"):
        store.where(Filter(include=("",)))


def test_vectors_of_another_length_or_not_finite_are_refused(store: Store) -> None:
    for vectors in (np.zeros((1, 3), np.float32), np.full((1, DIM), np.nan, np.float32)):
        bad = NewContent(hash="x", kind="image", width=1, height=1, vectors=vectors)
        with pytest.raises(PerceptError, match="vectors of a content have the shape"):
            store.add([bad], [file("x.jpg", "x")])
    assert len(store) == 0


def test_an_interrupted_write_leaves_rows_that_do_not_count(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(store, range(3))

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as stopped:
        stopped.setattr("percept.search.store.writes.add_files", stop)
        with pytest.raises(KeyboardInterrupt):
            fill(store, range(3, 9))
    vectors, _ = segment_files(store.folder, 1)
    assert vectors.stat().st_size == 9 * 4 * DIM
    assert (len(store), list(stored(store))) == (3, ["h0", "h1", "h2"])
    fill(store, range(20, 22))
    assert vectors.stat().st_size == 5 * 4 * DIM
    assert list(stored(store)) == ["h0", "h1", "h2", "h20", "h21"]
    assert store.status().damaged == 0


def test_a_full_disk_loses_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(store, range(3))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(segments_module, "write_rows", full)
        with pytest.raises(PerceptError, match="cannot be used: No space left on device"):
            fill(store, range(3, 9))
        store.remove([Path("/photos/h0.jpg")])
        with pytest.raises(PerceptError, match="No space left on device"):
            store.compact()
    assert list(stored(store)) == ["h1", "h2"]
    assert store.compact() == 1
    assert list(stored(store)) == ["h1", "h2"]


FLIPPED = {"vectors": 0, "ids": 1}


@pytest.mark.parametrize("kind", FLIPPED)
def test_a_flipped_bit_is_found_and_repaired(kind: str, tmp_path: Path, store: Store) -> None:
    fill(store, range(BLOCK + 50))
    before = stored(store)
    damaged = segment_files(store.folder, 1)[FLIPPED[kind]]
    store.close()
    data = bytearray(damaged.read_bytes())
    data[-100] ^= 1
    damaged.write_bytes(data)
    with Store(tmp_path / "index") as hurt:
        assert hurt.status().damaged == 50
        (segment,) = hurt.segments()
        assert segment.damaged_rows([3]).tolist() == []
        assert segment.damaged_rows([BLOCK + 3, 7]).tolist() == list(range(BLOCK, BLOCK + 50))
        hurt.remove([Path("/photos/h0.jpg")])
        with pytest.raises(PerceptError, match=r"segment 1 .* is damaged .*percept index repair"):
            hurt.compact()
        repair = hurt.repair()
        assert (repair.rows, len(repair.files), repair.leftovers) == (50, 50, 2)
        assert sorted(repair.files) == hurt.pending()
        assert hurt.known(repair.files) == {}
        status = hurt.status()
        assert (status.damaged, status.pending, status.files, status.dead) == (0, 50, BLOCK - 1, 0)
        fill(hurt, range(BLOCK, BLOCK + 50))
        after = stored(hurt)
        assert after.keys() == before.keys() - {"h0"}
        assert all(np.array_equal(after[hash_], before[hash_]) for hash_ in after)
        assert hurt.pending() == []


@pytest.mark.parametrize("loss", ["missing", "short"])
def test_a_lost_segment_is_named_and_repaired(loss: str, tmp_path: Path, store: Store) -> None:
    fill(store, range(30))
    store.close()
    vectors, _ = segment_files(tmp_path / "index", 1)
    vectors.unlink() if loss == "missing" else os.truncate(vectors, 100)
    with Store(tmp_path / "index") as hurt:
        with pytest.raises(PerceptError, match=r"segment 1 .* is damaged .*percept index repair --index"):
            hurt.segments()
        with pytest.raises(PerceptError, match=r"segment 1 .* is damaged .*percept index repair --index"):
            fill(hurt, range(30, 40))
        assert hurt.status().damaged == 30
        assert len(hurt.repair().files) == 30
        assert (hurt.segments(), len(hurt)) == ([], 0)
        fill(hurt, range(30))
        assert len(stored(hurt)) == 30


def test_several_threads_read_while_one_writes(store: Store) -> None:
    fill(store, range(20))
    failures: list[BaseException] = []
    stop = threading.Event()

    def read() -> None:
        try:
            while not stop.is_set():
                for ids, vectors in store.vectors():
                    assert len(ids) == len(vectors) >= 20
                assert len(store.where(Filter(kind="image"))) >= 20
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for first in range(20, 120, 5):
        fill(store, range(first, first + 5))
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(stored(store)) == 120


def test_folders_are_remembered_with_their_selection(store: Store) -> None:
    roots = [Root(path=Path("/photos/b"), include=("*.jpg",), hidden=True), Root(path=Path("/photos/a"))]
    store.remember_roots(roots)
    assert store.roots() == roots[::-1]
    version = store.version()
    store.remember_roots(roots)
    assert store.version() == version
    store.remove([Path("/photos/a")])
    assert store.roots() == roots[:1]


def read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let SQLite fail as in a folder that cannot be written; a test may run as root, whom no permission stops."""
    connect = sqlite3.connect

    def refused(file: object, **options: object) -> sqlite3.Connection:
        if "immutable=1" in str(file):
            return connect(file, **options)  # type: ignore[call-overload]
        error = sqlite3.OperationalError("attempt to write a readonly database")
        error.sqlite_errorcode = sqlite3.SQLITE_READONLY
        raise error

    monkeypatch.setattr(sqlite3, "connect", refused)


def test_a_read_only_index_is_searched_and_not_written(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store, range(5))
    store.close()
    read_only(monkeypatch)
    with Store(tmp_path / "index") as locked:
        assert len(stored(locked)) == 5
        assert names(locked, Filter(include=("h1*",))) == {"h1.jpg"}
        with pytest.raises(PerceptError, match="attempt to write a readonly database"):
            fill(locked, range(5, 6))


def test_a_read_only_index_with_unfinished_transactions_is_refused(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store, range(5))  # the log of the open index holds them
    read_only(monkeypatch)
    with pytest.raises(PerceptError, match="attempt to write a readonly database"):
        Store(tmp_path / "index")


def test_a_transaction_that_sqlite_has_rolled_back_keeps_its_error(tmp_path: Path) -> None:
    """On a full disk SQLite may roll back by itself; a second rollback must not hide the reason."""
    from percept.search.store.database import transaction

    connection = sqlite3.connect(tmp_path / "some.sqlite", isolation_level=None)
    twice = "INSERT OR ROLLBACK INTO one VALUES (1), (1)"
    connection.execute("CREATE TABLE one (a UNIQUE)")
    with pytest.raises(sqlite3.IntegrityError), transaction(connection):
        connection.execute(twice)
    assert not connection.in_transaction
    with transaction(connection):
        connection.execute("CREATE TABLE t (a)")
    connection.close()
