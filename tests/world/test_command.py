"""`percept world write` and `percept world show`, as typed."""

from pathlib import Path

import pytest
from PIL import Image

from percept.cli import main


def test_write_makes_files_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(
            [
                "world",
                "write",
                "--out",
                str(tmp_path / "w"),
                "--count",
                "3",
                "--format",
                "jsonl",
                "--split",
                "evaluation",
            ]
        )
        == 0
    )
    assert len((tmp_path / "w" / "truth.jsonl").read_text().splitlines()) == 3
    assert "evaluation" in capsys.readouterr().out


def test_write_refuses_a_full_folder_without_a_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    assert main(["world", "write", "--out", str(tmp_path), "--count", "3"]) == 2
    assert "is not empty" in capsys.readouterr().err


def test_show_makes_a_sheet(tmp_path: Path) -> None:
    assert main(["world", "show", "--out", str(tmp_path / "s.png"), "--count", "4", "--style", "sketch"]) == 0
    with Image.open(tmp_path / "s.png") as sheet:
        assert sheet.width > 1000


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--count", "0"], "--count must be from 1 to 400, got 0"),
        (["--columns", "0"], "--columns must be at least 1, got 0"),
        (["--out", "s.jpg"], "s.jpg ends in .jpg, but the format written is .png"),
    ],
)
def test_show_refuses_what_makes_no_sheet(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    reason: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["world", "show", "--out", "s.png", *arguments]) == 2
    assert reason in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_write_fills_the_folder_one_stands_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["world", "write", "--out", ".", "--count", "2", "--format", "webdataset"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["000000.tar"]
