"""What a damaged, empty, closed or foreign index does: it is noticed, named, left out and encoded again."""

import os
import random
import sqlite3
import threading
from collections import Counter
from pathlib import Path

import pytest
import torch

from percept.core.errors import PerceptError
from percept.data.files import find_images
from percept.search.build import Report, build
from percept.search.index import Index
from percept.search.query import search
from percept.search.store import FILE
from tests.search.fakes import COLOURS, ColourEncoder, picture


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in COLOURS:
        picture(tmp_path / "images" / f"{name}.png", name)
    return tmp_path / "images"


@pytest.fixture
def index(folder: Path, tmp_path: Path) -> Index:
    index = Index.create(tmp_path / "index", ColourEncoder())
    build(index, ColourEncoder(), find_images(folder))
    return index


def damage(index: Index, *statements: str) -> Index:
    """Change the database as a failing disk would, and open it again."""
    index.close()
    with sqlite3.connect(index.folder / FILE) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()
    return Index.open(index.folder)


def again(index: Index, folder: Path, encoder: ColourEncoder | None = None) -> Report:
    return build(index, encoder or ColourEncoder(), find_images(folder))


FLIPPED = {
    "vector": "UPDATE content SET vector = x'ff' || substr(vector, 2) WHERE id = 2",
    "one bit": "UPDATE content SET vector = x'01' || substr(vector, 2) WHERE id = 2",
    "length": "UPDATE content SET vector = x'0011' WHERE id = 2",
    "type": "UPDATE content SET vector = 'text' WHERE id = 2",
    "width": "UPDATE content SET width = width + 1 WHERE id = 2",
    "checksum": "UPDATE content SET checksum = checksum + 1 WHERE id = 2",
}


@pytest.mark.parametrize("kind", FLIPPED)
def test_a_damaged_row_is_left_out_and_encoded_again(kind, index, folder, capsys) -> None:
    before = index.matrix().vectors
    hurt = damage(index, FLIPPED[kind])
    assert torch.equal(hurt.matrix().vectors, torch.cat([before[:1], before[2:]]))
    assert "1 file is left out: damaged rows in the index" in " ".join(capsys.readouterr().err.split())
    report = again(hurt, folder, encoder := ColourEncoder())
    assert (report.repaired, report.added, report.unchanged, encoder.encoded) == (1, 1, 4, 1)
    assert torch.equal(hurt.matrix().vectors, before)
    assert capsys.readouterr().err == ""
    assert again(hurt, folder).repaired == 0


def test_a_damaged_row_of_a_file_outside_the_given_folders_is_encoded_again(index, folder, tmp_path) -> None:
    picture(tmp_path / "more" / "grey.png", (90, 90, 90))
    hurt = damage(index, FLIPPED["vector"])
    report = again(hurt, tmp_path / "more")
    assert (report.repaired, report.added, len(hurt.matrix())) == (1, 2, 6)


def test_a_damaged_hash_is_repaired_from_the_file(index, folder) -> None:
    hurt = damage(
        index, "PRAGMA foreign_keys = OFF", "UPDATE content SET hash = 'dead' || substr(hash, 5) WHERE id = 2"
    )
    assert len(hurt.matrix()) == 4
    assert again(hurt, folder).repaired == 1
    assert len(hurt.matrix()) == 5


def test_a_row_without_a_path_is_ignored_and_removed(index, folder) -> None:
    columns = "path, hash, bytes, modified, added"
    hurt = damage(
        index,
        "PRAGMA foreign_keys = OFF",
        f"CREATE TABLE loose AS SELECT {columns} FROM file",
        "DROP TABLE file",
        "ALTER TABLE loose RENAME TO file",
        "CREATE UNIQUE INDEX paths ON file (path)",
        "UPDATE file SET path = NULL WHERE hash = (SELECT hash FROM content WHERE id = 2)",
    )
    assert len(hurt) == len(hurt.files()) == len(hurt.matrix()) == 4
    assert len(search(hurt, ColourEncoder(), text="red", top=9)) == 4
    assert again(hurt, folder).reused == 1
    assert len(hurt) == len(hurt.entries()) == 5


def test_a_missing_content_is_damage_unless_another_process_wrote(index) -> None:
    (path, row), *_ = index.files().items()
    index._connection.execute("PRAGMA foreign_keys = OFF")
    index._connection.execute("DELETE FROM content")
    index._connection.execute("PRAGMA foreign_keys = ON")
    with pytest.raises(PerceptError, match=r"is damaged .*Delete the folder and index again"):
        index.add([], {path: row})
    index.files()
    with Index.open(index.folder) as other:
        other.remove([path])
    with pytest.raises(PerceptError, match="another process"):
        index.add([], {path: row})


def answers(folder: Path) -> dict[str, tuple[float, int, int]]:
    with Index.open(folder, ColourEncoder()) as index:
        hits = search(index, ColourEncoder(), text="red", top=99)
    return {hit.path.name: (hit.score, hit.width, hit.height) for hit in hits}


@pytest.mark.parametrize("flips", [1, 8])
def test_flipped_bits_never_change_an_answer_silently(flips, index, folder, tmp_path, capsys) -> None:
    """Any bit of the file: the answer is the same, or rows are left out with a notice, or the index is refused."""
    before, data, rng = answers(index.folder), (index.folder / FILE).read_bytes(), random.Random(flips)
    (tmp_path / "hurt").mkdir()
    outcomes = Counter()
    for _ in range(30):
        hurt = bytearray(data)
        for _ in range(flips):
            hurt[rng.randrange(len(hurt))] ^= 1 << rng.randrange(8)
        (tmp_path / "hurt" / FILE).write_bytes(hurt)
        capsys.readouterr()
        try:
            after = answers(tmp_path / "hurt")
            assert all(before[name] == after[name] for name in after.keys() & before.keys())
            left_out = "left out" in capsys.readouterr().err
            assert left_out == (len(after) < len(before))
            with Index.open_or_create(tmp_path / "hurt", ColourEncoder()) as again:
                build(again, ColourEncoder(), find_images(folder), within=[folder])
            assert answers(tmp_path / "hurt") == before
            outcomes["left out" if left_out else "same"] += 1
        except PerceptError:
            outcomes["refused"] += 1
    assert outcomes["same"] > 10


def test_a_lost_table_is_damage(index) -> None:
    hurt = damage(index, "DROP TABLE file")
    with pytest.raises(PerceptError, match=r"is damaged .no such table"):
        hurt.files()


def test_an_empty_file_is_named_and_taken_over(folder, tmp_path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / FILE).touch()
    with pytest.raises(PerceptError, match=r"is empty \(0 bytes\), it was never written; make it with: percept index"):
        Index.open(tmp_path / "new")
    with Index.open_or_create(tmp_path / "new", ColourEncoder()) as index:
        assert again(index, folder).added == 5
    assert [file.name for file in (tmp_path / "new").iterdir()] == [FILE]


def test_an_index_that_appears_while_an_empty_file_is_replaced_is_kept(tmp_path, index, monkeypatch) -> None:
    new = tmp_path / "new"
    new.mkdir()
    (new / FILE).touch()
    rename = os.rename

    def late(source, target) -> None:
        (new / FILE).write_bytes((index.folder / FILE).read_bytes())  # another process was faster
        rename(source, target)

    monkeypatch.setattr(os, "rename", late)
    with Index.open_or_create(new, ColourEncoder()) as kept:
        assert len(kept) == 5
    assert [file.name for file in new.iterdir()] == [FILE]


def test_any_thread_may_search(index) -> None:
    found: list[str] = []
    threads = [
        threading.Thread(
            target=lambda name: found.append(search(index, ColourEncoder(), text=name, top=1)[0].path.stem),
            args=(name,),
        )
        for name in COLOURS
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted(COLOURS)


def test_a_closed_index_says_so(index) -> None:
    index.close()
    with pytest.raises(PerceptError, match=r"is closed\. Open it again"):
        index.files()


def test_commands_in_messages_are_quoted(tmp_path) -> None:
    with pytest.raises(PerceptError, match=r"percept index IMAGES --index '.*/my index'"):
        Index.open(tmp_path / "my index")
    stamped = Index.create(tmp_path / "stamped", ColourEncoder(name="my model"))
    with pytest.raises(PerceptError, match="use --model 'my model', or"):
        stamped.check(ColourEncoder(fingerprint="another"))
