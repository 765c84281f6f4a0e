"""`percept world write` and `percept world show`, as typed."""

from pathlib import Path

import pytest
from PIL import Image

from percept.cli import main


def test_write_makes_files_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["world", "write", str(tmp_path / "w"), "--count", "3", "--format", "jsonl", "--split", "evaluation"]) == 0
    )
    assert len((tmp_path / "w" / "truth.jsonl").read_text().splitlines()) == 3
    assert "evaluation" in capsys.readouterr().out


def test_write_refuses_a_full_folder_without_a_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    assert main(["world", "write", str(tmp_path), "--count", "3"]) == 2
    assert "is not empty" in capsys.readouterr().err


def test_show_makes_a_sheet(tmp_path: Path) -> None:
    assert main(["world", "show", "--out", str(tmp_path / "s.png"), "--count", "4", "--style", "sketch"]) == 0
    with Image.open(tmp_path / "s.png") as sheet:
        assert sheet.width > 1000


def test_show_refuses_an_empty_sheet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["world", "show", "--out", str(tmp_path / "s.png"), "--count", "0"]) == 2
    assert "1 to 400" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
