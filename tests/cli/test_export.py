"""`percept export onnx`: one sentence for every mistake, before any work is done. What it writes: tests/export/test_export.py."""

from pathlib import Path

import pytest

from percept.cli import main

MISTAKES = {
    "a tower": (["MODEL", "--out", "out", "--tower", "words"], "unknown tower 'words'"),
    "a type": (["MODEL", "--out", "out", "--dtype", "flaot32"], "did you mean 'float32'"),
    "a size in words": (
        ["MODEL", "--out", "out", "--size", "dinamic"],
        "--size must be a positive number of pixels or dynamic, got dinamic",
    ),
    "a size of nothing": (["MODEL", "--out", "out", "--size", "0"], "or dynamic, got 0"),
    "a size between patches": (["MODEL", "--out", "out", "--size", "28"], "24 or 32"),
    "something is there": (["MODEL", "--out", "full"], "exists already"),
    "a file in the way": (["MODEL", "--out", "full/file/out"], "cannot be written"),
    "a model": (["nanno", "--out", "out"], "'nano'"),
    "weights that are not there": (["nano", "--out", "out", "--weights", "x.pt"], "no weight file x.pt"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(mistake, model, tmp_path, capsys, monkeypatch):
    arguments, words = MISTAKES[mistake]
    monkeypatch.chdir(tmp_path)
    Path("full").mkdir()
    Path("full", "file").touch()
    assert main(["export", "onnx", *[word.replace("MODEL", model) for word in arguments]]) == 2
    captured = capsys.readouterr()
    assert words in " ".join(captured.err.split())
    assert "exporting" not in captured.err
    assert captured.out == ""
    assert [file.name for file in Path().iterdir()] == ["full"]
