"""The benchmark of jumps runs, and refuses to report figures of ways that read different frames."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks.test_benchmarks import benchmark


def run(module, file: Path) -> None:
    module.main(minutes=4 / 60, counts=(2, 10), gops=(20,), repeats=1, json_file=file)


def test_video_seek(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(benchmark("video_seek"), tmp_path / "seek.json")
    written = json.loads((tmp_path / "seek.json").read_text())
    assert written["frames in the clip"] == 100
    ways = ("percept", "decode everything", "seek each")
    assert [(row["frames"], row["way"]) for row in written["results"]] == [(n, way) for n in (2, 10) for way in ways]
    assert all(row["times everything"] == 1 for row in written["results"] if row["way"] == "decode everything")
    assert "all ways gave the same pixels" in capsys.readouterr().out


def test_different_frames_are_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = benchmark("video_seek")
    other = np.zeros((module.HEIGHT, module.WIDTH, 3), np.uint8)
    monkeypatch.setitem(module.WAYS, "seek each", lambda path, numbers: ((number, other) for number in numbers))
    with pytest.raises(SystemExit, match="different frames"):
        run(module, tmp_path / "seek.json")
    assert not (tmp_path / "seek.json").exists()
