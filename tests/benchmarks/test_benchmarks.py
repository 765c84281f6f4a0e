"""Benchmarks run and record what was measured and how. The figures of such short runs are meaningless."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from percept.core.errors import PerceptError

FOLDER = Path(__file__).parents[2] / "benchmarks"


def benchmark(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_world_speed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    benchmark("world_speed").main(images=4, repeats=2, size=48, json_file=tmp_path / "speed.json")
    written = json.loads((tmp_path / "speed.json").read_text())
    assert {"command", "seeds", "seconds", "load", "results"} <= written.keys()
    assert [(row["style"], row["truth"], row["images"]) for row in written["results"]] == [
        (style, truth, 8) for style in ("plain", "mixed") for truth in (False, True)
    ]
    assert all(row["lowest"] <= row["per core second"] <= row["highest"] for row in written["results"])
    assert "target 300" in capsys.readouterr().out


def test_train_speed(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    module = benchmark("train_speed")
    module.main(batch=2, repeats=1, steps=1, sizes=(16,), device="cpu", json_file=tmp_path / "speed.json")
    rows = json.loads((tmp_path / "speed.json").read_text())["results"]
    assert [(row["pixels"], row["way"]) for row in rows] == [(16, "percept"), (16, "float32"), (16, "fused")]
    assert all(row["samples/s"] > 0 and row["share of peak"] > 0 for row in rows)
    assert rows[0]["percept is faster by"] == 1
    assert "share of peak" in capsys.readouterr().out


def test_train_pe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = benchmark("train_pe")
    module.main(sizes=("pico",), batch=2, steps=2, device="cpu", json_file=tmp_path / "speed.json")
    (row,) = json.loads((tmp_path / "speed.json").read_text())["results"]
    assert (row["size"], row["pixels"], row["batch"], row["steps left out"]) == ("pico", 64, 2, 0)
    assert row["samples/s"] > 0
    assert row["memory GiB"] > 0
    assert "share of peak" in capsys.readouterr().out
    with pytest.raises(PerceptError, match="unknown sizes: M"):
        module.main(sizes=("M",))
    with pytest.raises(PerceptError, match="at least 2"):
        module.main(steps=1)


def test_attention(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    module = benchmark("attention")
    monkeypatch.setattr(module, "SHAPES", ((1, 2, 5), (2, 1, 16)))
    monkeypatch.setattr(module, "BURST", 0)
    module.main(turns=2, json_file=tmp_path / "attention.json")
    rows = json.loads((tmp_path / "attention.json").read_text())["results"]
    assert [(row["images"], row["heads"], row["tokens"]) for row in rows] == [(1, 2, 5), (2, 1, 16)]
    assert all(row["fused ms"] > 0 and row["products ms"] > 0 for row in rows)
    assert "of 2 shapes" in capsys.readouterr().out
    with pytest.raises(PerceptError, match="at least 1"):
        module.main(turns=0)


def test_shapes(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERCEPT_CACHE", str(tmp_path / "cache"))
    module = benchmark("shapes")
    monkeypatch.setattr(module, "WAYS", (("adamw", 1e-3), ("muon", 1e-3)))
    file = tmp_path / "shapes.json"
    module.main(steps=2, batch=8, seeds=2, pairs=8, windows=20, json_file=file)
    written = json.loads(file.read_text())
    assert [(row["optimiser"], len(set(row["losses"]))) for row in written["results"]] == [("adamw", 2), ("muon", 2)]
    assert all(3 < row["loss"] < 12 and 0 <= row["right"] <= 1 for row in written["results"])
    assert "cross-entropy of words" in capsys.readouterr().out


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_load_memory(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    module = benchmark("load_memory")
    monkeypatch.setattr(module, "FORMS", {"timm": ("timm", "timm")})
    file = tmp_path / "memory.json"
    module.main(model="PE-Spatial-T16-512", dtypes=("bfloat16",), folder=tmp_path, json_file=file)
    (row,) = json.loads(file.read_text())["results"]
    assert row["weights"] == 2 * 5_683_200
    assert row["peak"] > 0.5 * row["weights"]  # so small a model says nothing about the goal, but it was measured
    assert "goal: at most 1.1" in capsys.readouterr().out
