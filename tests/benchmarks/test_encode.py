"""The benchmarks of encoding and of precision run; the figures of so short runs mean nothing."""

import json
import subprocess
from pathlib import Path

import pytest
import torch

from percept.core.errors import PerceptError
from percept.models.config import VisionConfig
from percept.nn.linear import only_inferring
from tests.benchmarks.test_benchmarks import benchmark

TINY = VisionConfig(image_size=32, patch_size=8, width=32, layers=2, heads=2, pool_heads=2, output_dim=16)
ORACLE = """#!/bin/sh
if [ "$2" = open_clip ]; then echo '{"library": "open_clip", "error": "ValueError: no such model"}'; exit; fi
echo "a word of a library"
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


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch):
    found = benchmark("encode")
    monkeypatch.setattr(found, "vision", lambda name: TINY)
    monkeypatch.setattr(found, "peak_side", lambda device: 64)
    monkeypatch.setattr(found, "BURST", 0)
    monkeypatch.setattr(found, "fast_dtype", lambda device: (torch.bfloat16, "it is a test"))
    return found


def run(module, folder: Path, **options) -> dict:
    file = folder / "encode.json"
    chosen = {"models": ("a",), "batches": (2,), "repeats": 1, "span": 0, "files": 0, "device": "cpu"} | options
    module.main(**chosen, oracles=folder / "oracles", json_file=file)
    return json.loads(file.read_text())


def test_all_ways_are_measured_and_what_is_missing_is_said(module, tmp_path, capsys) -> None:
    written = run(module, tmp_path)
    ways = ["plain", "ours float32", "autocast", "ours unpacked", "ours bfloat16"]
    assert [row["way"] for row in written["results"]] == ways
    for row in written["results"]:
        assert row["share by the clock"] > 0
        assert row["share of the processor"] > 0
        assert row["lowest s"] <= row["clock s"] <= row["highest s"]
    assert written["results"][0]["times plain"] == 1
    assert set(written["peak GFLOP/s by the clock"]) == {"torch.float32", "torch.bfloat16"}
    captured = capsys.readouterr()
    assert "oracles.sh" in captured.err
    assert "a, batch 2" in captured.out


def test_other_libraries_take_their_turns_in_their_environment(module, tmp_path, capsys) -> None:
    oracle(tmp_path, ORACLE)
    rows = run(module, tmp_path, repeats=2)["results"]
    theirs = [(row["type"], row["clock s"], row["processor s"]) for row in rows if row["way"] == "timm 9.9"]
    assert theirs == [("float32", 0.5, 0.25), ("bfloat16", 0.25, 0.125)]
    assert {row["turns"] for row in rows} == {2}
    captured = capsys.readouterr()
    assert "open_clip has no a that runs here: ValueError" in captured.err
    assert captured.out.count("timm 9.9") == 2


def test_other_libraries_that_do_not_start_or_stop(module, tmp_path, capsys) -> None:
    oracle(tmp_path / "mute", MUTE)
    assert len(run(module, tmp_path / "mute")["results"]) == 5
    assert "timm has no a that runs here: ImportError: no timm" in capsys.readouterr().err
    oracle(tmp_path / "dying", DYING)
    with pytest.raises(PerceptError, match="timm stopped: its process ended"):
        run(module, tmp_path / "dying")


def test_each_way_is_held_against_the_peak_of_its_products(module, tmp_path, monkeypatch) -> None:
    asked = []
    measure = module.Peaks.measure
    monkeypatch.setattr(module.Peaks, "measure", lambda peaks, dtype: asked.append(dtype) or measure(peaks, dtype))
    run(module, tmp_path)
    assert asked == [torch.float32, torch.float32, torch.bfloat16, torch.bfloat16, torch.bfloat16]


def test_shares_are_of_the_peak_beside_and_of_the_best(module) -> None:
    """A turn at half the speed, while the machine also multiplies at half the speed, has the same share."""
    rates = [module.Rate(100.0, 50.0), module.Rate(50.0, 25.0), module.Rate(100.0, 50.0)]
    plain = module.Times([0.4, 0.8, 0.4], [0.8, 1.6, 0.8], rates)
    times = module.Times([0.2, 0.4, 0.25], [0.4, 0.8, 0.5], rates)
    row = module.row_of("a", 2, "ours float32", "torch.float32", times)
    module.add_shares(row, times, plain, 10.0)
    assert row["share by the clock"] == pytest.approx(0.5)
    assert row["share of the processor"] == pytest.approx(0.5)
    assert row["times plain"] == 2
    peaks = module.Peaks(torch.device("cpu"))
    for rate in rates:
        peaks.take(torch.float32, rate)
    module.finish([row], peaks)
    assert row["share of the best"] == pytest.approx(2 * module.operations(TINY) / 0.25 / 100, rel=1e-3)


def test_without_fast_bfloat16_there_is_float32(module, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(module, "fast_dtype", lambda device: (torch.float32, "it is old"))
    assert [row["way"] for row in run(module, tmp_path)["results"]] == ["plain", "ours float32"]
    assert "bfloat16 is left out" in capsys.readouterr().err


def test_goals_are_judged(module, tmp_path, monkeypatch, capsys) -> None:
    goals = {("cpu", "a", 2, "ours float32"): 0.0, ("cpu", "a", 2, "ours bfloat16"): 1e9}
    monkeypatch.setattr(module, "GOALS", goals)
    run(module, tmp_path)
    printed = capsys.readouterr().out
    assert ": met" in printed
    assert ": MISSED" in printed


def test_reading_is_measured_alone_and_with_the_model(module, tmp_path, capsys) -> None:
    read = run(module, tmp_path, files=2)["preprocessing"]
    for job in ("reading", "model", "together"):
        assert read[f"{job}/s"] > 0
    assert "times as fast" in capsys.readouterr().out


def test_operations_are_those_of_the_matrix_products(module) -> None:
    n, w, hidden = 17, 32, 128
    block = 2 * n * (4 * w * w + 2 * w * hidden) + 4 * n * n * w
    patches = 2 * 16 * w * 3 * 8 * 8
    pool = 2 * n * 2 * w * w + 2 * w * w + 4 * n * w + 2 * w * w + 4 * w * hidden + 2 * w * 16
    assert module.operations(TINY) == 2 * block + patches + pool


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # importing the compiler gives some
def test_ways_of_a_gpu_share_a_tower(module) -> None:
    ways = module.ways_of(TINY, torch.device("meta"), tuned=True)
    assert list(ways) == ["plain", "plain compiled", "ours eager", "ours compiled", "compiled, tuned"]
    assert len({id(way.model) for way in ways.values()}) == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_a_gpu_would_do(module, tmp_path, monkeypatch) -> None:
    """Run on a CPU, with what is compiled run as it is."""
    monkeypatch.setattr(module, "compiled_step", lambda **options: module.call_block)
    monkeypatch.setattr(torch, "compile", lambda step: step)
    monkeypatch.setattr(module, "ways_of", module.ways_of_gpu)
    monkeypatch.setattr(module.Times, "burst", lambda times: 3)
    rows = run(module, tmp_path)["results"]
    assert [row["way"] for row in rows] == ["plain", "plain compiled", "ours eager", "ours compiled"]
    assert all(row["passes a turn"] == 3 and row["share by the clock"] > 0 for row in rows)
    assert all(row["times plain"] is not None for row in rows)


def test_steps_and_plain_layers_end_with_their_way(module) -> None:
    model = module.tower(TINY, torch.device("cpu"), torch.float32)
    before, x = model.step, torch.zeros(1)
    with torch.no_grad(), module.called(model, lambda *rest: (rest[1], None), True):
        assert model.step is not before
        assert not only_inferring(x)
    with torch.no_grad():
        assert only_inferring(x)
    assert model.step is before


def test_a_part_of_the_cases_replaces_no_published_figures(module, monkeypatch, capsys) -> None:
    monkeypatch.setattr(module, "measured", lambda *args, **keywords: [])
    monkeypatch.setattr(module, "write_json", lambda *args: pytest.fail("written"))
    module.main(models=("PE-Core-T16-384",), batches=(1,), files=0, device="cpu", oracles=Path("nowhere"))
    assert "nothing written" in capsys.readouterr().out


def test_bursts_are_as_long_as_asked(module, monkeypatch) -> None:
    monkeypatch.setattr(module, "BURST", 0.4)
    assert (module.Times(clock=[0.02]).burst(), module.Times(clock=[10.0]).burst()) == (20, 1)


def test_short_cases_take_more_turns(module, monkeypatch) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(clock))
    assert len(list(module.Turns(2, 0))) == 2
    assert len(list(module.Turns(2, 5))) == 6
    assert len(list(module.Turns(7, 1))) == 7
    assert len(list(module.Turns(2, 500))) == module.TURNS


def test_turns_are_counted(module, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(module, "TURNS", 3)
    assert {row["turns"] for row in run(module, tmp_path, span=1e6)["results"]} == {3}


def test_what_is_no_released_model(module) -> None:
    with pytest.raises(PerceptError, match="give released models"):
        benchmark("encode").vision("nano")


def test_precision(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    module = benchmark("precision")
    monkeypatch.setattr(module, "CATEGORIES", list(module.CATEGORIES)[:3])
    monkeypatch.setattr(module, "CLASS_TEMPLATES", module.CLASS_TEMPLATES[:1])
    module.main(pictures=4, device="cpu", json_file=tmp_path / "precision.json")
    written = json.loads((tmp_path / "precision.json").read_text())
    assert [(row["question"], row["n"]) for row in written["results"]] == [("category", 4), ("colour", 4)]
    assert all(0 <= row["agreement"] <= 1 for row in written["results"])
    assert 0.99 < written["cosine"]["least"] <= written["cosine"]["mean"] <= 1.001
    assert "goal for vectors" in capsys.readouterr().out
    with pytest.raises(PerceptError, match="at least one"):
        module.main(pictures=0)


def test_several_models_run_in_processes_of_their_own(module, tmp_path, monkeypatch, capsys) -> None:
    """What a process wrote is taken over, and its better peak counts for all."""
    asked = []

    def fake(command, **_):
        told = dict(zip(command[2::2], command[3::2], strict=True))
        asked.append((told["--models"], told["--batches"]))
        times = module.Times([0.5], [1.0], [module.Rate(10.0, 10.0)])
        row = module.row_of(told["--models"], int(told["--batches"]), "plain", "torch.float32", times)
        module.add_shares(row, times, times, 1.0)
        peaks = {"torch.float32": 10.0 * len(asked)}
        written = {"results": [row], "peak GFLOP/s by the clock": peaks, "peak GFLOP/s of the processor": peaks}
        Path(told["--json-file"]).write_text(json.dumps(written))
        return subprocess.CompletedProcess(command, 0, "", "note: timm has no a that runs here: no\nnoise")

    monkeypatch.setattr(module.subprocess, "run", fake)
    written = run(module, tmp_path, models=("a", "b"), batches=(1, 2))
    assert asked == [("a", "1"), ("a", "2"), ("b", "1"), ("b", "2")]
    assert written["peak GFLOP/s by the clock"] == {"torch.float32": 40.0}
    shares = [row["share of the best"] for row in written["results"]]
    assert shares[1] == pytest.approx(2 * shares[0], abs=2e-4)
    told = capsys.readouterr().err
    assert told.count("timm has no a that runs here: no") == 4
    assert "noise" not in told


def test_a_process_that_fails_says_why(module, tmp_path) -> None:
    with pytest.raises(PerceptError, match=r"no-such, batch 1: .*unknown model"):
        run(module, tmp_path, models=("no-such", "nor-such"), batches=(1,))
