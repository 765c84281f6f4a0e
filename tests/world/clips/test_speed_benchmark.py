"""The benchmark of clips runs and records what it measured. The figures of such a short run are meaningless."""

import json
import runpy
from pathlib import Path

import pytest


def test_clips_speed(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import harness

    monkeypatch.setattr(harness, "BURST_SECONDS", 0.0)
    script = runpy.run_path(str(Path(__file__).parents[3] / "benchmarks" / "clips_speed.py"))
    script["main"](turns=1, frames=8, size=32, json_file=tmp_path / "speed.json")
    written = json.loads((tmp_path / "speed.json").read_text())
    assert [row["case"] for row in written["results"]] == list(script["CASES"])
    assert all(row["frames per core second"] > 0 for row in written["results"])
    assert written["results"][-1]["faster than drawn anew by"] == 1
    assert "target 60" in capsys.readouterr().out
