"""The benchmarks of encoding, reading, start-up and precision run; the figures of so short runs mean nothing."""

import json
import subprocess
from pathlib import Path

import encode
import harness
import pytest
import torch

from percept.core.errors import PerceptError
from percept.models.config import VisionConfig
from tests.benchmarks.test_benchmarks import benchmark

TINY = VisionConfig(image_size=32, patch_size=8, width=32, layers=2, heads=2, pool_heads=2, output_dim=16)
ORACLE = """#!/bin/sh
if [ "$2" = open_clip ]; then echo '{"library": "open_clip", "error": "ValueError: no such model"}'; exit; fi
echo "a line that a library prints"
echo '{"library": "timm", "version": "9.9"}'
while read -r library type passes; do
    if [ "$type" = float32 ]; then echo '{"clock": 0.5, "processor": 0.25}'; else echo '{"clock": 0.25, "processor": 0.125}'; fi
done
"""
DYING = """#!/bin/sh
echo '{"library": "timm", "version": "9.9"}'
read -r line
echo '{"clock": 0.5, "processor": 0.25}'
"""
MUTE = """#!/bin/sh
echo "ImportError: no $2" >&2
"""


def oracle(folder: Path, script: str) -> None:
    python = folder / "oracles" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(script)
    python.chmod(0o755)


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode, "vision", lambda name: TINY)
    monkeypatch.setattr(harness, "peak_side", lambda device: 64)
    monkeypatch.setattr(harness, "BURST_SECONDS", 0)
    monkeypatch.setattr(encode, "fast_dtype", lambda device: (torch.bfloat16, "it is a test"))


def run(folder: Path, **options) -> dict:
    file = folder / "encode.json"
    chosen = {"models": ("a",), "batches": (2,), "repeats": 1, "span": 0, "device": "cpu"} | options
    encode.main(**chosen, oracles=folder / "oracles", json_file=file)
    return json.loads(file.read_text())


def test_every_case_is_measured_and_missing_libraries_are_reported(tmp_path, capsys) -> None:
    written = run(tmp_path)
    cases = ["plain", "ours float32", "autocast", "ours unpacked", "ours bfloat16"]
    assert [row["case"] for row in written["results"]] == cases
    assert all(row["share of peak"] > 0 and row["share of best"] > 0 for row in written["results"])
    assert written["results"][0]["times plain"] == 1
    assert set(written["peak GFLOP/s"]) == {"float32", "bfloat16"}
    captured = capsys.readouterr()
    assert "oracles.sh" in captured.err
    assert "a, batch 2" in captured.out


def test_other_libraries_take_their_turns_in_their_environment(tmp_path, capsys) -> None:
    oracle(tmp_path, ORACLE)
    rows = run(tmp_path, repeats=2)["results"]
    theirs = [(row["type"], row["clock s"], row["processor s"]) for row in rows if row["case"] == "timm 9.9"]
    assert theirs == [("float32", 0.5, 0.25), ("bfloat16", 0.25, 0.125)]
    assert {row["turns"] for row in rows} == {2}
    assert "open_clip has no a that runs here: ValueError" in capsys.readouterr().err


def test_other_libraries_that_do_not_start_or_stop(tmp_path, capsys) -> None:
    oracle(tmp_path / "mute", MUTE)
    assert len(run(tmp_path / "mute")["results"]) == 5
    assert "timm has no a that runs here: ImportError: no timm" in capsys.readouterr().err
    oracle(tmp_path / "dying", DYING)
    with pytest.raises(PerceptError, match="timm stopped: its process ended"):
        run(tmp_path / "dying")


def test_each_case_is_compared_with_the_peak_of_its_products(tmp_path, monkeypatch) -> None:
    measured, measure = [], harness.Peaks.measure
    monkeypatch.setattr(encode.Peaks, "measure", lambda peaks, dtype: measured.append(dtype) or measure(peaks, dtype))
    run(tmp_path)
    assert measured == [torch.float32, torch.float32, torch.bfloat16, torch.bfloat16, torch.bfloat16]


def test_without_fast_bfloat16_there_is_float32(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(encode, "fast_dtype", lambda device: (torch.float32, "it is old"))
    assert [row["case"] for row in run(tmp_path)["results"]] == ["plain", "ours float32"]


def test_goals_are_judged(tmp_path, monkeypatch, capsys) -> None:
    goals = {("cpu", "a", 2, "ours float32"): 0.0, ("cpu", "a", 2, "ours bfloat16"): 1e9}
    monkeypatch.setattr(encode, "GOALS", goals)
    run(tmp_path)
    printed = capsys.readouterr().out
    assert ": met" in printed
    assert ": MISSED" in printed


def test_operations_are_those_of_the_matrix_products() -> None:
    n, w, hidden = 17, 32, 128
    block = 2 * n * (4 * w * w + 2 * w * hidden) + 4 * n * n * w
    patches = 2 * 16 * w * 3 * 8 * 8
    pool = (
        2 * (n + 1) * 3 * w * w + 4 * n * w + 2 * w * w + 4 * w * hidden + 2 * w * 16
    )  # probe and tokens in one product
    assert encode.operations(TINY) == 2 * block + patches + pool


def test_the_cases_of_a_gpu_on_a_cpu(tmp_path, monkeypatch) -> None:
    """Blocks are called as they are in place of being compiled."""
    cases_of = encode.cases_of
    monkeypatch.setattr(encode, "compiled", lambda model: model)
    monkeypatch.setattr(encode, "cases_of", lambda config, device: cases_of(config, torch.device("meta")))
    cases = encode.cases_of(TINY, torch.device("cpu"))
    assert list(cases) == ["plain", "plain compiled", "ours eager", "ours compiled"]


def test_a_part_of_the_cases_replaces_no_published_figures(monkeypatch, capsys) -> None:
    monkeypatch.setattr(encode, "measured", lambda *_: {"results": [], "peak GFLOP/s": {}})
    monkeypatch.setattr(harness, "write_json", lambda *_: pytest.fail("written"))
    encode.main(models=("PE-Core-T16-384",), batches=(1,), device="cpu", oracles=Path("nowhere"))
    assert "nothing written" in capsys.readouterr().out


def test_several_models_run_in_processes_of_their_own(tmp_path, monkeypatch) -> None:
    started = []

    def fake(command, **_):
        options = dict(zip(command[2::2], command[3::2], strict=True))
        started.append((options["--models"], options["--batches"]))
        content = {"results": [], "peak GFLOP/s": {"float32": 10.0 * len(started)}}
        Path(options["--json-file"]).write_text(json.dumps(content))
        return subprocess.CompletedProcess(command, 0, "", "note: timm has no a that runs here: no\nnoise")

    monkeypatch.setattr(encode.subprocess, "run", fake)
    written = run(tmp_path, models=("a", "b"), batches=(1, 2))
    assert started == [("a", "1"), ("a", "2"), ("b", "1"), ("b", "2")]
    assert written["peak GFLOP/s"] == {"float32": 40.0}


def test_reading(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    benchmark("reading").main(files=2, repeats=1, json_file=tmp_path / "reading.json")
    written = json.loads((tmp_path / "reading.json").read_text())
    assert [row["job"] for row in written["results"]] == ["reading", "model", "together"]
    assert all(row["images/s"] > 0 for row in written["results"])
    assert "times as fast" in capsys.readouterr().out


def test_startup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    benchmark("startup").main(repeats=1, json_file=tmp_path / "startup.json")
    written = json.loads((tmp_path / "startup.json").read_text())
    assert written["results"][0]["ratio"] == 1
    assert all(row["seconds"] > 0 for row in written["results"])


def test_precision(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    module = benchmark("precision")
    monkeypatch.setattr(module, "CATEGORIES", list(module.CATEGORIES)[:3])
    monkeypatch.setattr(module, "CLASS_TEMPLATES", module.CLASS_TEMPLATES[:1])
    module.main(images=4, device="cpu", json_file=tmp_path / "precision.json")
    written = json.loads((tmp_path / "precision.json").read_text())
    assert [(row["question"], row["n"]) for row in written["results"]] == [("category", 4), ("colour", 4)]
    assert 0.99 < written["cosine"]["least"] <= written["cosine"]["mean"] <= 1.001
