"""The benchmark of packing runs, and refuses to report seconds of ways that give different vectors."""

import json
from pathlib import Path

import pytest
import torch

from percept import PerceptError
from tests.benchmarks.test_benchmarks import benchmark
from tests.infer import tiny


def run(module, folder: Path) -> None:
    model = str(tiny.folder(folder / "model"))
    module.main(model=model, tokens=(9, 20), dtypes=("float32",), batch=4, repeats=2, json_file=folder / "packing.json")


def test_packing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(benchmark("packing"), tmp_path)
    written = json.loads((tmp_path / "packing.json").read_text())
    assert {"command", "torch", "machine", "device", "threads", "load", "seed", "repeats", "seconds"} <= written.keys()
    rows = written["results"]
    ways = ("packed", "one by one", "padded")
    assert [(row["tokens"], row["way"]) for row in rows] == [(budget, way) for budget in (9, 20) for way in ways]
    assert all(row["times packed"] == 1 for row in rows if row["way"] == "packed")
    assert "4 images of many shapes" in capsys.readouterr().out


def test_pictures_of_many_shapes_within_the_budget() -> None:
    made = benchmark("packing").photos(50, 144, 8, 0)
    counts = [one.shape[-1] * one.shape[-2] // 64 for one in made]
    assert max(counts) <= 144
    assert min(counts) < 60
    assert len({one.shape for one in made}) > 30


def test_different_vectors_are_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = benchmark("packing")
    monkeypatch.setitem(module.WAYS, "padded", lambda tower, pictures: [torch.randn(1, tiny.DIM) for _ in pictures])
    with pytest.raises(PerceptError, match="padded returns different vectors"):
        run(module, tmp_path)
    assert not (tmp_path / "packing.json").exists()
