"""The benchmark of loaders runs, and refuses a way that loses images."""

import json
from pathlib import Path

import pytest
import torch

from tests.benchmarks.test_benchmarks import benchmark


def test_loader(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    module = benchmark("loader")
    monkeypatch.delitem(module.WAYS, "webdataset, shards")  # leaves its files open
    monkeypatch.setitem(module.WAYS, "webdataset, shards", module.pillow)
    module.main(images=6, turns=1, json_file=tmp_path / "loader.json")
    rows = json.loads((tmp_path / "loader.json").read_text())["results"]
    assert {row["way"] for row in rows} == set(module.WAYS)
    assert all(row["images/s"] > 0 for row in rows)
    assert "times as fast" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="gave 2 of 6 images"):
        module.exhausted(lambda folder: iter([torch.zeros(2)]), tmp_path, 6)
