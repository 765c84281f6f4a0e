"""`percept index` and `percept search` as a person types them, with an encoder that sees only colour."""

import json
import os
import re
import shutil
import sqlite3
from pathlib import Path

import pytest
import torch

from percept.cli import main
from percept.data.images import read_image
from percept.infer.load import load
from percept.search.index import Index
from tests.infer import tiny
from tests.search.fakes import COLOURS, ColourEncoder, picture


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("percept.infer.load.load", lambda name, **_: ColourEncoder(fingerprint=name, name=name))
    for name in COLOURS:
        picture(tmp_path / "pictures" / f"{name}.png", name)


def test_index_then_search_by_text_picture_and_both(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "pictures" / "bad.jpg").write_bytes(b"")
    assert main(["index", "pictures"]) == 0
    out = capsys.readouterr().out
    assert "bad.jpg" in out
    assert "is empty (0 bytes)" in out
    assert (tmp_path / "percept-index" / "index.sqlite").is_file()
    assert main(["search", "a red cup", "--top", "2", "--sheet", "s.png", "--page", "p.html"]) == 0
    out = capsys.readouterr().out
    assert "“a red cup”: best 2 of 5 images" in out
    assert re.search(r"1 . +[01]\.\d\d\d . pictures/red\.png", out)
    assert read_image(tmp_path / "s.png").width > 500
    assert "a red cup" in (tmp_path / "p.html").read_text()
    assert main(["search", "--image", "pictures/blue.png", "--top", "1"]) == 0
    assert "pictures/blue.png" in capsys.readouterr().out
    assert main(["search", "blue", "--image", "pictures/red.png", "--weight", "0.9", "--top", "1"]) == 0
    assert "pictures/blue.png" in capsys.readouterr().out


def test_copies_count_once_and_that_is_said(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("again.png", "once more.png"):
        shutil.copy(tmp_path / "pictures" / "red.png", tmp_path / "pictures" / name)
    assert main(["index", "pictures"]) == 0
    assert main(["search", "red", "--page", "p.html"]) == 0
    printed = capsys.readouterr().out
    assert "“red”: best 5 of 5 images (7 files, copies count once)" in printed
    assert "2 copies" in printed
    assert (tmp_path / "p.html").read_text().count("(7 files, copies count once)") == 2


def test_indexing_again_and_with_the_index_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["index", "pictures", "--model", "large"]) == 0
    assert main(["index", "pictures"]) == 0  # takes the model the index was made with
    assert "unchanged" in capsys.readouterr().out
    assert main(["index", "pictures", "--model", "other"]) == 2
    assert main(["search", "red", "--model", "other"]) == 2
    error = capsys.readouterr().err
    assert error.count("was made with large") == 2
    assert "Traceback" not in error


def test_a_model_folder_is_found_again_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("percept.infer.load.load", lambda name, **_: asked.append(name) or ColourEncoder(name="own"))
    (tmp_path / "own-model").mkdir()
    assert main(["index", "pictures", "--model", "own-model"]) == 0
    monkeypatch.chdir(tmp_path / "pictures")
    assert main(["search", "red", "--index", str(tmp_path / "percept-index")]) == 0
    assert asked == ["own-model", str(tmp_path / "own-model")]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["index", "nowhere"], "there is no file or folder nowhere"),
        (["index", "empty"], "no images or videos in empty"),
        (["index", "pictures", "--index", "pictures"], "in use for something else"),
        (["search", "red"], "does not exist; make one with: percept index"),
        (["search", "red", "--index", "pictures"], "is not an index"),
        (["search"], "needs a text, an image, or both"),
        (["search", "?"], "no letters"),
        (["search", "red", "--sheet", "sheets.png"], "is a folder"),
        (["search", "red", "--page", "pictures/red.png/p.html"], "cannot be written"),
        (["search", "--image", "none.png"], "there is no file none.png"),
        (["search", "--image", "pictures"], "pictures is a folder, not a file"),
        (["search", "--image", "http://x/y.jpg"], "is a url, and nothing is fetched"),
        (["search", "red", "--sheet", "keep.jpg"], "the format written is .png. Give a name such as keep.png"),
        (["search", "red", "--sheet", "both", "--page", "both"], "both ends in nothing"),
        (["search", "red", "--sheet", "both.png", "--page", "both.png"], "the format written is .html or .htm"),
    ],
)
def test_mistakes_exit_2_with_a_reason(
    arguments: list[str], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "sheets.png").mkdir()
    before = picture(tmp_path / "keep.jpg", "green").read_bytes()
    assert main(arguments) == 2
    assert reason in " ".join(capsys.readouterr().err.split())
    assert (tmp_path / "keep.jpg").read_bytes() == before


@pytest.mark.parametrize("sheet", ["pictures/red.png", "query.png"])
def test_a_sheet_replaces_no_picture_that_is_searched(
    sheet: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = [picture(tmp_path / name, "red").read_bytes() for name in ("query.png", "pictures/red.png")]
    assert main(["index", "pictures"]) == 0
    assert main(["search", "--image", "query.png", "--sheet", sheet]) == 2
    assert "is one of your images" in capsys.readouterr().err
    assert [(tmp_path / name).read_bytes() for name in ("query.png", "pictures/red.png")] == before


def test_local_weights_and_tokenizer_are_found_again_from_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[object, ...]] = []

    def load(name: str, *, weights: object, tokenizer: object, **_: object) -> ColourEncoder:
        asked.append((name, weights, tokenizer))
        return ColourEncoder(name=name)

    monkeypatch.setattr("percept.infer.load.load", load)
    for name in ("w.pt", "t.json"):
        (tmp_path / name).touch()
    given = ["--model", "large", "--weights", "w.pt", "--tokenizer", "t.json"]
    assert main(["index", "pictures", *given]) == 0
    monkeypatch.chdir(tmp_path / "pictures")
    there = ["--index", str(tmp_path / "percept-index")]
    assert main(["search", "red", *there]) == 0
    assert main(["search", "red", "--model", "large", *there]) == 0
    assert main(["index", ".", *there]) == 0
    assert asked[1:] == [("large", tmp_path / "w.pt", tmp_path / "t.json")] * 3

    moved = (tmp_path / "w.pt").rename(tmp_path / "moved.pt")
    for verb in ("search", "index"):
        capsys.readouterr()
        assert main([verb, ".red" if verb == "search" else ".", *there]) == 2
        error = " ".join(capsys.readouterr().err.split())
        assert f"made with large and the weights in {tmp_path / 'w.pt'}, which no longer exists" in error
        assert "--weights FILE" in error
    assert main(["search", "red", "--weights", str(moved), *there]) == 0
    assert main(["index", ".", "--weights", str(moved), *there]) == 0  # the index remembers the new place
    assert main(["search", "red", *there]) == 0
    assert asked[-1] == ("large", moved, tmp_path / "t.json")


def test_after_a_build_that_failed_another_model_may_be_used(tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.jpg").write_bytes(b"")
    assert main(["index", "bad", "--model", "large"]) == 2
    assert main(["index", "pictures", "--model", "nano"]) == 0
    assert main(["search", "red", "--model", "nano"]) == 0


def test_an_emptied_folder_leaves_the_index_and_others_wait_for_prune(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture(tmp_path / "more" / "x.png", "red", (9, 9))
    assert main(["index", "pictures", "more"]) == 0
    for path in (tmp_path / "pictures").iterdir():
        path.unlink()
    assert main(["index", "more"]) == 0
    assert re.search(r"kept \(--prune drops them\) +. +5 ", capsys.readouterr().out)
    assert main(["index", "pictures"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"missing and dropped +. +5 ", out)
    assert re.search(r"in the index now +. +1 ", out)
    assert main(["index", "pictures"]) == 2  # nothing is known of it any more
    (tmp_path / "more" / "x.png").unlink()
    (tmp_path / "more").rmdir()
    assert main(["index", "--prune"]) == 0
    assert re.search(r"in the index now +. +0 ", capsys.readouterr().out)


def test_names_and_queries_that_are_no_text_are_shown_anyway(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def odd(name: bytes) -> str:
        return os.fsdecode(name)

    monkeypatch.setenv("COLUMNS", "300")
    folder, index = odd(b"q\xff"), ["--index", odd(b"i\xffx")]
    (tmp_path / "pictures").rename(tmp_path / folder)
    (tmp_path / folder / "red.png").rename(tmp_path / folder / odd(b"r\x1b[31m\xff.png"))
    (tmp_path / folder / odd(b"\xff.jpg")).write_bytes(b"")
    assert main(["index", folder, *index]) == 0
    outputs = ["--sheet", odd(b"s\xff.png"), "--page", odd(b"p\xff.html")]
    image = ["--image", f"{folder}/blue.png"]
    assert main(["search", odd(b"red \x1b[31m \xff"), "--top", "1", *image, *index, *outputs]) == 0
    assert main(["search", "red", "--index", folder]) == 2
    printed = capsys.readouterr()
    assert "“red �[31m �”, like blue.png: best 1" in printed.out
    assert "\x1b[31m" not in printed.out + printed.err
    assert "wrote s�.png" in printed.err
    assert "q� is not an index" in printed.err
    page = (tmp_path / odd(b"p\xff.html")).read_text(encoding="utf-8")
    assert "Search: “red �[31m �”" in page
    assert "i�x" in page


def test_an_interruption_says_how_to_go_on(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("percept.search.build.BATCH", 2)
    stops = ColourEncoder(fails_after=4)
    monkeypatch.setattr("percept.infer.load.load", lambda name, **_: stops)
    assert main(["index", "pictures"]) == 130
    assert "4 files are in percept-index, the same command continues" in " ".join(capsys.readouterr().err.split())
    stops.fails_after = 100
    assert main(["index", "pictures"]) == 0
    assert stops.encoded == 5 + 1  # the picture it stopped at, once more


def test_a_folder_of_bad_files_alone_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.jpg").write_bytes(b"")
    assert main(["index", "bad"]) == 2
    printed = capsys.readouterr()
    assert "x.jpg" in printed.out
    assert "none of the files could be read, so there is nothing to search in percept-index" in printed.err
    assert main(["search", "red", "--index", "percept-index"]) == 2
    assert "add some with: percept index IMAGES --index percept-index" in " ".join(capsys.readouterr().err.split())


def test_pictures_are_brought_to_size_as_the_index_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("percept.infer.load.load", load)
    folder, wide = str(tiny.folder(tmp_path / "model")), picture(tmp_path / "pictures" / "wide.png", "red", (90, 20))
    native = ["--resize", "native", "--tokens", "12"]
    assert main(["index", "pictures", "--model", folder, *native]) == 0
    assert main(["search", "--image", str(wide), "--top", "1", "--page", "p.html"]) == 0  # needs no --resize
    assert re.search(r"1 . +1\.000 . pictures/wide\.png", capsys.readouterr().out)
    assert "numbers, native to 12 patches)" in (tmp_path / "p.html").read_text()
    picture(tmp_path / "pictures" / "new.png", "blue", (20, 90))
    assert main(["index", "pictures"]) == 0
    assert main(["index", "pictures", *native]) == 0
    assert main(["index", "pictures", "--tokens", "12"]) == 0  # of the way to resize that the index has
    with Index("percept-index") as index:
        sizes = load(folder, resize="native", tokens=12)
        ids, vectors = next(index.store.vectors())
        (row,) = [row for row, piece in enumerate(index.store.pieces(ids)) if piece.paths[0].name == "new.png"]
        expected = sizes.image(tmp_path / "pictures" / "new.png")[0]
        torch.testing.assert_close(torch.from_numpy(vectors[row]), expected, atol=1e-3, rtol=1e-3)

    for other in (["--resize", "squash"], ["--resize", "native", "--tokens", "4"]):
        capsys.readouterr()
        assert main(["index", "pictures", *other]) == 2
        error = " ".join(capsys.readouterr().err.split())
        assert "numbers, native to 12 patches)" in error
        assert "use --resize native --tokens 12, or make another index" in error


def test_an_index_alone_fetches_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An index that somebody sent names a model on the hub: percept asks before it goes there."""
    monkeypatch.setattr("percept.infer.load.load", load)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    asked: list[str] = []
    monkeypatch.setattr("percept.weights.hub.hub_reachable", lambda *_: asked.append("network") or False)
    assert main(["index", "pictures"]) == 0
    for source in ("hf://somebody/model", "PE-Core-T16-384"):
        with sqlite3.connect("percept-index/index.sqlite") as connection:
            stamp = json.loads(connection.execute("SELECT stamp FROM space").fetchone()[0])
            connection.execute("UPDATE space SET stamp = ?", (json.dumps({**stamp, "source": source}),))
        connection.close()
        for command in (["search", "red"], ["index", "pictures"]):
            capsys.readouterr()
            assert main(command) == 2
            error = " ".join(capsys.readouterr().err.split())
            assert f"was made with {source}, which is not on this machine" in error
            assert f"add --model {source}" in error
        assert asked == []
        assert "HF_HUB_OFFLINE" not in os.environ
        assert main(["search", "red", "--model", source]) == 2  # typed by the user: the hub is asked
        assert asked == ["network"]
        asked.clear()


def test_a_type_behind_a_folder_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, ...]] = []

    def opened(name: str, *, dtype: object, image_size: object, **_: object) -> ColourEncoder:
        asked.append((name, dtype, image_size))
        return ColourEncoder(name="own")

    monkeypatch.setattr("percept.infer.load.load", opened)
    (tmp_path / "own model").mkdir()
    given = ["--model", "own model@int8", "--dtype", "float32", "--image-size", "64"]
    assert main(["index", "pictures", *given]) == 0
    monkeypatch.chdir(tmp_path / "pictures")
    assert main(["search", "red", "--index", str(tmp_path / "percept-index")]) == 0
    assert asked[1] == (str(tmp_path / "own model@int8"), "float32", 64)


def test_a_list_of_paths_is_indexed_and_its_folders_are_kept_up_to_date(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "list.txt").write_text("pictures\nelsewhere.png\n")
    shutil.copy("pictures/red.png", "elsewhere.png")
    assert main(["index", "@list.txt"]) == 0
    assert re.search(r"in the index now +. +6 ", capsys.readouterr().out)
    (tmp_path / "pictures" / "red.png").unlink()
    reader, writer = os.pipe()
    os.write(writer, b"pictures\0elsewhere.png\0")
    os.close(writer)
    try:
        assert main(["index", f"/dev/fd/{reader}"]) == 0
    finally:
        os.close(reader)
    assert re.search(r"missing and dropped +. +1 ", capsys.readouterr().out)


def test_an_image_in_a_pipe_is_not_indexed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reader, writer = os.pipe()
    os.write(writer, (tmp_path / "pictures" / "red.png").read_bytes()[:4000])
    os.close(writer)
    try:
        assert main(["index", f"/dev/fd/{reader}"]) == 2
    finally:
        os.close(reader)
    assert "is an image in a pipe, and an index holds files. Save it" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "percept-index").exists()
