"""The index on disk: what it refuses, what it keeps, what it re-uses and what it forgets."""

import json
import os
import shutil
import sqlite3
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from PIL import Image

import percept
from percept.core.config import to_dict
from percept.core.errors import PerceptError
from percept.infer.identity import Identity
from percept.search import build as building
from percept.search import reading
from percept.search.contracts import Stamp, stamp_of
from percept.search.index import Index
from percept.search.store import FILE, Filter, Piece
from tests.search.fakes import ColourEncoder, picture


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for number in range(10):
        picture(tmp_path / "pictures" / f"{number}.png", (number * 25, 0, 255 - number * 25), (10 + number, 8))
    return tmp_path / "pictures"


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return Index.create(tmp_path / "index", ColourEncoder())


def fill(index: Index, folder: Path, encoder: ColourEncoder | None = None, *, prune: bool = False) -> building.Report:
    return Index(index.store, encoder or ColourEncoder()).add([folder], prune=prune)


def pieces(index: Index) -> list[Piece]:
    return index.store.pieces(index.store.where(Filter()))


def paths(index: Index) -> list[Path]:
    return list(index.store.paths())


def vector_of(index: Index, name: str) -> np.ndarray:
    (found,) = (piece.id for piece in pieces(index) if name in [path.name for path in piece.paths])
    (row,) = (vectors[ids == found] for ids, vectors in index.store.vectors())
    return row[0]


def test_vectors_survive_closing(pictures: Path, index: Index) -> None:
    encoder = ColourEncoder()
    assert fill(index, pictures, encoder).added == 10
    index.close()
    with percept.Index(index.folder, encoder) as again:
        assert len(again) == 10
        for number in range(10):
            expected = encoder.image([Image.open(pictures / f"{number}.png")])[0].numpy()
            np.testing.assert_allclose(vector_of(again, f"{number}.png"), expected, atol=1e-6)
        sizes = {piece.paths[0].name: (piece.width, piece.height, piece.kind) for piece in pieces(again)}
    assert sizes == {f"{number}.png": (10 + number, 8, "image") for number in range(10)}


def test_the_model_of_an_index_is_loaded_when_needed(pictures: Path, index: Index, monkeypatch) -> None:
    loaded = ColourEncoder()
    fill(index, pictures)
    asked: list[tuple[object, ...]] = []
    monkeypatch.setattr("percept.infer.load.load", lambda name, **options: asked.append((name, options)) or loaded)
    with percept.Index(index.folder) as again:
        assert again.add().unchanged == 10
    assert asked == [("colours", {"weights": None, "tokenizer": None, "image_size": None, "dtype": None})]


def test_unchanged_files_are_not_even_read(pictures: Path, index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(index, pictures)
    monkeypatch.setattr(reading, "read_bytes", lambda path: pytest.fail(f"read {path}"))
    report = fill(index, pictures, encoder := ColourEncoder())
    assert (report.added, report.reused, report.unchanged, encoder.encoded) == (0, 0, 10, 0)


def test_touched_moved_and_copied_files_keep_their_vectors(pictures: Path, index: Index) -> None:
    fill(index, pictures)
    os.utime(pictures / "0.png", ns=(1, 1))
    (pictures / "1.png").rename(pictures / "renamed.png")
    shutil.copy(pictures / "2.png", pictures / "copy.png")
    report = fill(index, pictures, encoder := ColourEncoder())
    assert (report.added, report.reused, report.unchanged, encoder.encoded) == (0, 3, 8, 0)
    assert report.removed == [pictures / "1.png"]
    assert len(index) == 11
    assert len(pieces(index)) == 10


def test_duplicates_of_one_run_are_encoded_once(tmp_path: Path, index: Index) -> None:
    for number in range(5):
        picture(tmp_path / "same" / f"{number}.png", "red")
    report = fill(index, tmp_path / "same", encoder := ColourEncoder())
    assert (report.added, report.reused, encoder.encoded <= 5) == (1, 4, True)
    assert len(pieces(index)[0].paths) == 5


def test_a_changed_file_gets_a_new_vector_and_the_old_one_goes(pictures: Path, index: Index) -> None:
    fill(index, pictures)
    picture(pictures / "3.png", "green", (30, 30))
    report = fill(index, pictures)
    assert (report.added, report.unchanged) == (1, 9)
    assert len(pieces(index)) == 10
    (changed,) = (piece for piece in pieces(index) if piece.paths[0].name == "3.png")
    assert changed.width == 30
    np.testing.assert_allclose(vector_of(index, "3.png"), ColourEncoder().text(["green"])[0].numpy(), atol=1e-2)


def test_gone_files_are_dropped_below_the_folders_given_and_elsewhere_on_request(
    pictures: Path, tmp_path: Path, index: Index
) -> None:
    fill(index, pictures)
    picture(tmp_path / "pictures 2" / "x.png", "red")
    (pictures / "4.png").unlink()
    report = fill(index, tmp_path / "pictures 2")
    assert (report.removed, report.away, len(index)) == ([], 1, 11)
    report = fill(index, tmp_path / "pictures 2", prune=True)
    assert (report.removed, report.away, len(index)) == ([pictures / "4.png"], 0, 10)


def test_an_emptied_folder_loses_its_files_and_an_unplugged_one_keeps_them(
    pictures: Path, tmp_path: Path, index: Index, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(index, pictures)
    away = pictures.rename(tmp_path / "away")
    assert Index(index.store, ColourEncoder()).add().away == 10  # of the folders of earlier runs
    assert "is not there now; its files are kept" in " ".join(capsys.readouterr().err.split())
    pictures.symlink_to(tmp_path / "nowhere")
    assert fill(index, pictures).away == 10
    pictures.unlink()
    away.rename(pictures)
    for path in pictures.iterdir():
        path.unlink()
    with monkeypatch.context() as locked:
        locked.setattr(os, "lstat", lambda path: denied(path))
        assert Index(index.store, ColourEncoder()).add().removed == []
    assert len(index) == 10
    assert len(fill(index, pictures).removed) == 10
    assert len(index) == 0


def denied(path: object) -> NoReturn:
    raise PermissionError(13, "Permission denied", str(path))


def test_files_that_the_system_refuses_stop_nothing(
    pictures: Path, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    stat = os.stat
    fill(index, pictures)
    monkeypatch.setattr(
        os, "stat", lambda path, **options: denied(path) if "3.png" in str(path) else stat(path, **options)
    )
    (pictures / ("n" * 250 + ".png")).write_bytes((pictures / "3.png").read_bytes()[:50])
    report = Index(index.store, ColourEncoder()).add([pictures, *pictures.iterdir()])
    assert sorted(file.reason for file in report.bad)[0] == "cannot be read: Permission denied"
    assert len(report.bad) == 2
    assert len(index) == 9


def test_bad_files_are_listed_and_stop_nothing(pictures: Path, index: Index) -> None:
    fill(index, pictures)
    (pictures / "5.png").write_bytes(b"")
    (pictures / "notes.jpg").write_text("not a picture")
    report = fill(index, pictures)
    assert [(file.path.name, file.reason) for file in report.bad] == [
        ("5.png", "is empty (0 bytes)"),
        ("notes.jpg", "is not an image: it is text ('not a picture' ...)"),
    ]
    assert len(index) == 9  # what 5.png was is no longer there to be found
    with pytest.MonkeyPatch.context() as unread:
        unread.setattr(reading, "read_bytes", lambda path: pytest.fail(f"read {path}"))
        again = fill(index, pictures)
    assert [file.reason for file in again.bad] == [file.reason for file in report.bad]
    picture(pictures / "notes.jpg", "green")
    assert len(fill(index, pictures).bad) == 1
    assert len(index) == 10
    (pictures / "5.png").unlink()
    assert fill(index, pictures).removed == []
    assert index.status().bad == 0


def test_an_interrupted_build_resumes(pictures: Path, index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "BATCH", 3)
    with pytest.raises(KeyboardInterrupt):
        fill(index, pictures, ColourEncoder(fails_after=6))
    index.close()
    with Index(index.folder) as again:
        assert len(again) == 6
        report = fill(again, pictures, encoder := ColourEncoder())
        assert (report.added, report.unchanged, encoder.encoded) == (4, 6, 4)
        assert len(pieces(again)) == 10


def test_many_duplicates_are_committed_in_groups(tmp_path: Path, index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "BATCH", 1)
    source = picture(tmp_path / "many" / "0.png", "red")
    fill(index, tmp_path / "many")
    for number in range(1, 80):
        os.link(source, source.with_name(f"{number}.png"))
    assert fill(index, tmp_path / "many").reused == 79


def test_names_that_are_not_text(tmp_path: Path, index: Index) -> None:
    name = os.fsdecode(b"gr\xfcn \xf0\x9f\x9a\x97.png")
    path = picture(tmp_path / "odd" / "a.png", "green").rename(tmp_path / "odd" / name)
    fill(index, tmp_path / "odd")
    assert paths(index) == [path]
    assert fill(index, tmp_path / "odd").unchanged == 1


def test_another_model_is_refused(tmp_path: Path, index: Index) -> None:
    others = {"": ColourEncoder(fingerprint="another"), r" \(size 16 instead of 8\)": ColourEncoder(size=16)}
    for why, other in others.items():
        with pytest.raises(
            PerceptError, match=rf"was made with colours .* cannot be compared{why}; use --model colours"
        ):
            Index(index.folder, other)
        with pytest.raises(PerceptError, match="cannot be compared"):
            fill(index, tmp_path, other)
    Index(index.folder, ColourEncoder(name="the same weights in another folder"))


class TokensOnly(ColourEncoder):
    """As PE-Spatial, which has no vectors."""

    def __init__(self) -> None:
        super().__init__(name="tokens")
        self.identity = Identity(name="tokens", image="70ce4", text=None, dim=0)


def test_a_model_without_vectors_leaves_nothing_behind(tmp_path: Path, index: Index) -> None:
    for make in (Index.create, Index.open_or_create):
        with pytest.raises(PerceptError, match="tokens produces tokens, not vectors"):
            make(tmp_path / "new", TokensOnly())
    assert not (tmp_path / "new").exists()


def test_an_index_without_files_is_taken_over_by_another_model(pictures: Path, index: Index) -> None:
    other = ColourEncoder(fingerprint="another", name="other")
    fill(index, pictures)
    index.remove([pictures])
    index.close()
    with Index.open_or_create(index.folder, other) as taken:
        assert taken.stamp.name == "other"
        fill(taken, pictures, other)
        assert taken.status().damaged == 0
    with pytest.raises(PerceptError, match="was made with other"):
        Index.open_or_create(index.folder, ColourEncoder())
    with Index(index.folder, other) as again:
        assert len(pieces(again)) == 10


def test_files_of_a_model_are_kept_in_the_stamp_and_older_indexes_without_them_open(
    tmp_path: Path, pictures: Path, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    encoder = ColourEncoder()
    fill(index, pictures)
    index.close()
    old = {key: value for key, value in to_dict(index_stamp(index)).items() if key not in ("weights", "tokenizer")}
    with sqlite3.connect(index.folder / FILE) as connection:
        connection.execute("UPDATE space SET stamp = ?", (json.dumps(old),))
    connection.close()
    with Index(index.folder, encoder) as older:
        assert (older.stamp.weights, len(older)) == (None, 10)
    stamp = stamp_of(encoder, "colours", weights="w.pt", tokenizer=Path("t.json"))
    with Index.open_or_create(index.folder, encoder, stamp=stamp) as newer:
        assert (newer.stamp.weights, newer.stamp.tokenizer) == (str(tmp_path / "w.pt"), str(tmp_path / "t.json"))
        assert len(pieces(newer)) == 10
    with Index.open_or_create(index.folder, encoder) as again:
        assert again.stamp.weights == str(tmp_path / "w.pt")
    with pytest.raises(PerceptError, match=r"use --model colours --weights .*w\.pt --tokenizer .*t\.json, or"):
        Index(index.folder, ColourEncoder(fingerprint="another"))


def index_stamp(index: Index) -> Stamp:
    with Index(index.folder) as again:
        return again.stamp


def test_a_known_name_is_never_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("nano", "own"):
        (tmp_path / name).mkdir()
    sources = ["nano", "./nano", "own", "elsewhere", "hf://facebook/PE-Core-B16-224"]
    found = [stamp_of(ColourEncoder(), source).source for source in sources]
    assert found == ["nano", str(tmp_path / "nano"), str(tmp_path / "own"), *sources[3:]]


def test_folders_that_are_no_index_are_refused(tmp_path: Path, index: Index) -> None:
    with pytest.raises(PerceptError, match="does not exist; make one with: percept index"):
        Index(tmp_path / "nowhere")
    (tmp_path / "other").mkdir()
    with pytest.raises(PerceptError, match="is not an index; make one with: percept index"):
        Index(tmp_path / "other")
    (tmp_path / "other" / FILE).write_bytes(b"SQLite format 3 it is not" * 100)
    with pytest.raises(PerceptError, match="is damaged"):
        Index(tmp_path / "other")
    sqlite3.connect(tmp_path / "other.sqlite").execute("CREATE TABLE x (y)").connection.close()
    shutil.move(tmp_path / "other.sqlite", tmp_path / "other" / FILE)
    with pytest.raises(PerceptError, match="another program"):
        Index(tmp_path / "other")
    index.close()
    sqlite3.connect(index.folder / FILE).execute("PRAGMA user_version = 99").connection.close()
    with pytest.raises(PerceptError, match="format 99"):
        Index(index.folder)


def test_an_index_is_not_made_over_anything(tmp_path: Path, index: Index) -> None:
    with pytest.raises(PerceptError, match="is already an index"):
        Index.create(index.folder, ColourEncoder())
    picture(tmp_path / "full" / "x.png", "red")
    with pytest.raises(PerceptError, match="in use for something else"):
        Index.create(tmp_path / "full", ColourEncoder())
    with pytest.raises(PerceptError, match="in use for something else"):
        Index.create(tmp_path / "full" / "x.png", ColourEncoder())


def test_a_damaged_database_is_named(pictures: Path, index: Index) -> None:
    fill(index, pictures)
    index.close()
    data = bytearray((index.folder / FILE).read_bytes())
    data[4096:] = bytes(len(data) - 4096)
    (index.folder / FILE).write_bytes(data)
    with pytest.raises(PerceptError, match="is damaged"), Index(index.folder) as again:
        pieces(again)


def test_a_busy_database_says_so(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("percept.search.store.database.PATIENCE", 0.01)
    holder = sqlite3.connect(index.folder / FILE, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(PerceptError, match="cannot be used now: database is locked"):
        index.remove([index.folder])
    assert len(index) == 0  # reading goes on
    holder.close()


@pytest.mark.parametrize(
    "change", ["UPDATE space SET stamp = '{}'", "UPDATE space SET stamp = '{'", "UPDATE space SET current = 0"]
)
def test_a_lost_stamp_is_named(pictures: Path, index: Index, change: str) -> None:
    fill(index, pictures)
    index.close()
    with sqlite3.connect(index.folder / FILE) as connection:
        connection.execute(change)
    connection.close()
    with Index(index.folder) as again, pytest.raises(PerceptError, match=r"is damaged .*which model made it"):
        again.store.segments()


@pytest.mark.parametrize("error", [None, OSError("no hard links here")])
def test_the_index_that_another_process_made_meanwhile_is_kept(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError | None
) -> None:
    link = os.link

    def too_late(source: Path, target: Path) -> None:
        monkeypatch.setattr(os, "link", link)
        if error is not None:
            raise error
        with Index.create(target.parent, ColourEncoder()) as other:
            fill(other, pictures)
        link(source, target)

    monkeypatch.setattr(os, "link", too_late)
    with Index.open_or_create(tmp_path / "new", ColourEncoder()) as index:
        assert len(index) == (10 if error is None else 0)
    assert {path.name for path in (tmp_path / "new").iterdir()} <= {FILE, "segments"}


def test_an_open_index_loads_the_model_again_after_an_upgrade(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from percept.search.upgrade import upgrade
    from tests.search.test_upgrade import TEXTS, TurnedEncoder, linear

    loaded: list[str] = []

    def load(stamp: Stamp) -> ColourEncoder:
        loaded.append(stamp.name)
        return TurnedEncoder() if stamp.name == "turned" else ColourEncoder()

    monkeypatch.setattr("percept.search.index.load_stamped", load)
    for number in range(20):
        picture(tmp_path / "photos" / f"{number}.png", (7 * number, 90, 250 - 9 * number))
    with Index.create(tmp_path / "index", ColourEncoder()) as given, Index(tmp_path / "index") as opened:
        given.add(tmp_path / "photos")
        first = opened.search("red").hits[0].path
        upgrade(opened.store, TurnedEncoder(), linear, old=ColourEncoder(), texts=TEXTS, images=16)
        assert opened.search("red").hits[0].path == first
        assert opened.search("blue").hits
        assert loaded == ["colours", "turned"]
        with pytest.raises(PerceptError, match="was made with turned"):
            given.search("red")
