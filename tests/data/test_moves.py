"""Files that are copied, linked or moved: nothing is overwritten, and everything can be undone."""

import os
from pathlib import Path
from typing import Any

import pytest

from percept.core.errors import PerceptError
from percept.data.files import BadFile
from percept.data.moves import Move, carry_out, planned, undone


@pytest.fixture
def files(tmp_path) -> Path:
    for name, text in (("a/x.png", "one"), ("b/x.png", "two"), ("b/X.png", "three")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def texts(folder: Path) -> dict[str, str]:
    return {
        file.relative_to(folder).as_posix(): file.read_text()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.suffix == ".png"
    }


def place(files: Path, how: str, out: str = "out") -> list[Any]:
    names = [files / "a/x.png", files / "b/x.png", files / "b/X.png"]
    return list(carry_out(planned([(name, files / out) for name in names], how), files / "undo.jsonl"))  # type: ignore[arg-type]


@pytest.mark.parametrize("how", ["copy", "link", "move"])
def test_names_that_are_taken_get_numbers_and_undo_restores(files, how):
    (files / "out").mkdir()
    (files / "out/x.png").write_text("was here")
    before = texts(files)
    assert all(isinstance(each, Move) for each in place(files, how))
    inside = texts(files / "out")
    assert inside.pop("x.png") == "was here"
    assert sorted(inside.values()) == ["one", "three", "two"]
    assert len({name.lower() for name in inside}) == 3  # also on file systems that ignore case
    assert (files / "a/x.png").exists() == (how != "move")
    result = undone(files / "undo.jsonl")
    assert (len(result.done), result.kept) == (3, [])
    assert texts(files) == before
    assert not undone(files / "undo.jsonl").done  # twice does nothing


def test_a_name_that_was_taken_meanwhile_is_not_overwritten(files):
    moves = planned([(files / "a/x.png", files / "out"), (files / "b/x.png", files / "out2")], "move")
    (files / "out").mkdir()
    moves[0].target.write_text("new")
    first, second = carry_out(moves, files / "undo.jsonl")
    assert isinstance(first, BadFile)
    assert isinstance(second, Move)
    assert moves[0].target.read_text() == "new"
    assert (files / "a/x.png").read_text() == "one"
    result = undone(files / "undo.jsonl")
    assert len(result.done) == 1
    assert moves[0].target.read_text() == "new"


def test_undo_leaves_what_was_changed(files):
    moves = [each for each in place(files, "copy") if isinstance(each, Move)]
    moves[0].target.write_text("edited since then")
    result = undone(files / "undo.jsonl")
    assert len(result.done) == 2
    assert "not the copy" in result.kept[0].reason
    assert moves[0].target.read_text() == "edited since then"


def test_undo_does_not_overwrite_a_new_file(files):
    moves = [each for each in place(files, "move") if isinstance(each, Move)]
    (files / "a/x.png").write_text("a new file")
    result = undone(files / "undo.jsonl")
    assert len(result.done) == 2
    assert "different file" in result.kept[0].reason
    assert moves[0].target.read_text() == "one"


def test_a_move_that_was_killed_half_way_is_undone(files):
    (move,) = planned([(files / "a/x.png", files / "out")], "move")
    list(carry_out([move], files / "undo.jsonl"))
    os.link(move.target, move.source)  # both names exist, as between the two steps
    assert len(undone(files / "undo.jsonl").done) == 1
    assert move.source.read_text() == "one"
    assert not move.target.exists()


def test_across_file_systems_the_bytes_are_copied(files, monkeypatch):
    monkeypatch.setattr(os, "link", lambda *_, **__: (_ for _ in ()).throw(OSError(18, "Invalid cross-device link")))
    assert all(isinstance(each, Move) for each in place(files, "move"))
    assert not (files / "a/x.png").exists()
    assert texts(files / "out")["x.png"] == "one"


def test_names_that_are_no_text_survive_the_list(tmp_path):
    name = os.fsdecode(b"byte\xff.png")
    (tmp_path / name).write_text("strange")
    list(carry_out(planned([(tmp_path / name, tmp_path / "out")], "move"), tmp_path / "undo.jsonl"))
    assert (tmp_path / "out" / name).exists()
    assert len(undone(tmp_path / "undo.jsonl").done) == 1
    assert (tmp_path / name).exists()


def test_what_is_there_already_stays(files):
    assert planned([(files / "a/x.png", files / "a")], "move") == []


@pytest.mark.parametrize("how", ["copy", "link"])
def test_a_second_run_does_nothing(files, how):
    names = [(files / "a/x.png", files / "out")]
    list(carry_out(planned(names, how), files / "undo.jsonl"))
    assert planned(names, how) == []
    (files / "out/x.png").unlink()
    (files / "out/x.png").write_text("different")
    assert [move.target.name for move in planned(names, how)] == ["x-2.png"]


def test_lists_are_checked(files):
    place(files, "copy")
    with pytest.raises(PerceptError, match="not overwritten"):
        place(files, "copy")
    (files / "bad.jsonl").write_text('{"how": "burn", "from": "a", "to": "b"}\n')
    for name, words in (("none.jsonl", "cannot be read"), ("bad.jsonl", "not a list")):
        with pytest.raises(PerceptError, match=words):
            undone(files / name)
