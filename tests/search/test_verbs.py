"""`percept index` and `percept search` as a person types them, with an encoder that sees only colour."""

import re
from pathlib import Path

import pytest

from percept.cli import main
from percept.data.images import read_image
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
    assert "“a red cup”: best 2 of 5 pictures" in out
    assert re.search(r"1 . +[01]\.\d\d\d . pictures/red\.png", out)
    assert read_image(tmp_path / "s.png").width > 500
    assert "a red cup" in (tmp_path / "p.html").read_text()
    assert main(["search", "--image", "pictures/blue.png", "--top", "1"]) == 0
    assert "pictures/blue.png" in capsys.readouterr().out
    assert main(["search", "blue", "--image", "pictures/red.png", "--weight", "0.9", "--top", "1"]) == 0
    assert "pictures/blue.png" in capsys.readouterr().out


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
        (["index", "empty"], "no pictures in empty"),
        (["index", "pictures", "--index", "pictures"], "in use for something else"),
        (["search", "red"], "does not exist; make one with: percept index"),
        (["search", "red", "--index", "pictures"], "is not an index"),
        (["search"], "needs a text, a picture, or both"),
        (["search", "?"], "no letters"),
        (["search", "red", "--sheet", "pictures"], "is a folder"),
        (["search", "red", "--page", "pictures/red.png/p.html"], "cannot be written"),
        (["search", "--image", "none.png"], "does not exist"),
    ],
)
def test_mistakes_exit_2_with_a_reason(
    arguments: list[str], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert main(arguments) == 2
    assert reason in " ".join(capsys.readouterr().err.split())


def test_an_interruption_says_how_to_go_on(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("percept.search.build.BATCH", 2)
    stops = ColourEncoder(fails_after=4)
    monkeypatch.setattr("percept.infer.load.load", lambda name, **_: stops)
    assert main(["index", "pictures"]) == 130
    assert "4 files are in percept-index, the same command goes on" in " ".join(capsys.readouterr().err.split())
    stops.fails_after = 100
    assert main(["index", "pictures"]) == 0
    assert stops.encoded == 5 + 1  # the picture it stopped at, once more


def test_a_folder_of_bad_files_alone_fails(tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.jpg").write_bytes(b"")
    assert main(["index", "bad"]) == 2
