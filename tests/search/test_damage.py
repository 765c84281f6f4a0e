"""What a damaged, empty, closed or foreign index does: it is noticed, named, repaired from the files or refused."""

import os
import random
import sqlite3
from pathlib import Path

import pytest

from percept.core.errors import PerceptError
from percept.search.index import Index
from percept.search.store import FILE, Filter, Store
from tests.search.fakes import COLOURS, ColourEncoder, picture


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in COLOURS:
        picture(tmp_path / "images" / f"{name}.png", name)
    return tmp_path / "images"


@pytest.fixture
def index(folder: Path, tmp_path: Path) -> Index:
    index = Index.create(tmp_path / "index", ColourEncoder())
    index.add([folder])
    return index


def vectors(store: Store) -> dict[str, bytes]:
    """Return file name → bytes of the vector, of everything that can be found."""
    return {
        piece.paths[0].name: vector.tobytes()
        for ids, rows in store.vectors()
        for piece, vector in zip(store.pieces(ids), rows, strict=True)
    }


@pytest.mark.parametrize("seed", range(10))
def test_flipped_bits_of_vectors_are_always_found_and_repaired(seed: int, index: Index, folder: Path) -> None:
    before, rng = vectors(index.store), random.Random(seed)
    index.close()
    for file in rng.choices(sorted((index.folder / "segments").iterdir()), k=2):
        data = bytearray(file.read_bytes())
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        file.write_bytes(data)
    with Index(index.folder, ColourEncoder()) as hurt:
        assert hurt.status().damaged == 5
        found, report = hurt.repair()
        assert (found.rows, len(found.files), report.repaired, report.added) == (5, 5, 5, 5)
        assert vectors(hurt.store) == before
        assert hurt.status().damaged == hurt.status().pending == 0


def test_lost_vectors_of_a_file_outside_the_given_folders_are_encoded_by_the_next_run(
    index: Index, tmp_path: Path
) -> None:
    picture(tmp_path / "more" / "grey.png", (90, 90, 90))
    for file in (index.folder / "segments").glob("*.vec"):
        file.write_bytes(bytes(file.stat().st_size))
    index.store.repair()
    assert len(index) == 0
    report = index.add([tmp_path / "more"])
    assert (report.repaired, report.added, len(index)) == (5, 6, 6)


def test_a_lost_file_is_not_repaired_and_leaves(index: Index, folder: Path) -> None:
    (folder / "red.png").unlink()
    for file in (index.folder / "segments").glob("*.ids"):
        file.unlink()
    found, report = index.repair()
    assert (found.rows, report.repaired) == (5, 4)
    assert len(index.add([folder]).removed) == 1
    assert len(vectors(index.store)) == 4


def test_a_lost_table_is_damage(index: Index) -> None:
    index.close()
    with sqlite3.connect(index.folder / FILE) as connection:
        connection.execute("DROP TABLE file")
    connection.close()
    with Index(index.folder) as hurt, pytest.raises(PerceptError, match=r"is damaged .no such table"):
        len(hurt)


@pytest.mark.parametrize("flips", [1, 8])
def test_a_damaged_database_never_crashes(flips: int, index: Index, tmp_path: Path) -> None:
    """Any bit of the database: it works, or the index is refused with the reason."""
    index.close()
    data, rng = (index.folder / FILE).read_bytes(), random.Random(flips)
    outcomes = []
    for _ in range(30):
        hurt = bytearray(data)
        for _ in range(flips):
            hurt[rng.randrange(len(hurt))] ^= 1 << rng.randrange(8)
        (index.folder / FILE).write_bytes(hurt)
        try:
            with Store(index.folder, ColourEncoder()) as store:
                store.pieces(store.where(Filter()))
                store.status()
                outcomes.append("opened")
        except PerceptError:
            outcomes.append("refused")
    assert len(outcomes) == 30
    assert outcomes.count("opened") > 10


def test_an_empty_file_is_named_and_taken_over(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / FILE).touch()
    with pytest.raises(PerceptError, match=r"is empty \(0 bytes\), it was never written; make it with: percept index"):
        Index(tmp_path / "new")
    with Index.open_or_create(tmp_path / "new", ColourEncoder()) as index:
        assert index.add([folder]).added == 5
    assert {file.name for file in (tmp_path / "new").iterdir()} == {FILE, "segments"}


def test_an_index_that_appears_while_an_empty_file_is_replaced_is_kept(
    tmp_path: Path, index: Index, monkeypatch
) -> None:
    new = tmp_path / "new"
    new.mkdir()
    (new / FILE).touch()
    index.close()
    rename = os.rename

    def late(source: Path, target: Path) -> None:
        (new / FILE).write_bytes((index.folder / FILE).read_bytes())  # another process was faster
        rename(source, target)

    monkeypatch.setattr(os, "rename", late)
    with Index.open_or_create(new, ColourEncoder()) as kept:
        assert len(kept) == 5


def test_a_closed_index_says_so(index: Index) -> None:
    index.close()
    for use in (lambda: len(index), lambda: index.remove(["x"])):
        with pytest.raises(PerceptError, match=r"is closed\. Open it again"):
            use()


def test_commands_in_messages_are_quoted(tmp_path: Path) -> None:
    with pytest.raises(PerceptError, match=r"percept index IMAGES --index '.*/my index'"):
        Index(tmp_path / "my index")
    stamped = Index.create(tmp_path / "stamped", ColourEncoder(name="my model"))
    with pytest.raises(PerceptError, match="use --model 'my model', or"):
        stamped.store.check(ColourEncoder(fingerprint="another"))
