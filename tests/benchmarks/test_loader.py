"""The benchmark of loaders runs, and refuses a way that loses images."""

import json
from pathlib import Path

import pytest
import torch

from tests.benchmarks.test_benchmarks import benchmark


def test_loader(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    module = benchmark("loader")
    for way, other in (
        ("webdataset, shards", "Pillow loop, files"),
        ("webdataset, shards, augmented", "percept, shards"),
    ):
        monkeypatch.setitem(module.WAYS, way, module.WAYS[other])  # webdataset leaves its files open
    monkeypatch.setattr(module, "LENGTH", 60)
    module.main(images=6, clips=1, samples=200, turns=1, json_file=tmp_path / "loader.json")
    results = json.loads((tmp_path / "loader.json").read_text())
    rows = results["results"]
    assert {row["way"] for row in rows} == {*module.WAYS, *module.VIDEO_WAYS}
    assert results["memory"]["samples"] == 200
    assert all(row["images/s"] > 0 for row in rows)
    assert "times as fast" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="gave 2 of 6 images"):
        module.exhausted(lambda folder: iter([torch.zeros(2)]), tmp_path, 6)
