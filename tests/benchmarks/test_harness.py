"""Turns, shares and ratios of the benchmark harness are computed as they are documented."""

import json
from pathlib import Path

import harness
import pytest
import torch
from harness import Peaks, Rate, Times, Turns, burst, take_turns

CPU = torch.device("cpu")


def test_a_burst_lasts_as_long_as_documented() -> None:
    assert (burst(0.02), burst(10.0), burst(1e-9)) == (20, 1, harness.MAX_PASSES)


def test_shares_and_ratios_are_medians_over_the_turns() -> None:
    """A turn at half the speed, while the machine also multiplies at half the speed, has the same share."""
    peaks = [Rate(100.0, 50.0), Rate(50.0, 25.0), Rate(100.0, 50.0)]
    plain = Times([Rate(0.4, 0.8), Rate(0.8, 1.6), Rate(0.4, 0.8)], peaks)
    fast = Times([Rate(0.2, 0.4), Rate(0.4, 0.8), Rate(0.25, 0.5)], peaks)
    assert fast.share_of_peak(10.0) == pytest.approx(0.5)
    assert fast.speedup_over(plain) == 2
    assert fast.summary() == {"clock s": 0.25, "lowest s": 0.2, "highest s": 0.4, "processor s": 0.5, "turns": 3}


def test_short_cases_take_more_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr(harness.time, "perf_counter", lambda: next(clock))
    assert [len(list(Turns(*one))) for one in ((2, 0), (2, 5), (7, 1), (2, 500))] == [2, 6, 7, harness.MAX_TURNS]


def test_every_job_is_timed_once_per_turn_after_two_passes() -> None:
    calls: list[tuple[str, int]] = []

    def job(name: str):
        def run(passes: int) -> Rate:
            calls.append((name, passes))
            return Rate(0.1, 0.1)

        return run

    times = take_turns({"a": job("a"), "b": job("b")}, Turns(2), lambda name: Rate(1.0, 1.0))
    assert calls == [("a", 1), ("a", 1), ("b", 1), ("b", 1), *[("a", 4), ("b", 4)] * 2]
    assert [len(one.passes) for one in times.values()] == [2, 2] == [len(one.peaks) for one in times.values()]


def test_the_peak_counts_the_faster_of_two_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "peak_side", lambda device: 64)
    built: list[torch.nn.Linear] = []
    peaks = Peaks(CPU, lambda layer: built.append(layer) or layer)
    first = peaks.measure(torch.float32)
    assert peaks.best[torch.float32] >= first.clock > 0
    assert [tuple(layer.weight.shape) for layer in built] == [(64, 64)]


def test_a_result_file_names_its_command_without_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness.sys, "argv", [str(tmp_path / "encode.py"), "--oracles", str(tmp_path / "env")])
    harness.save(tmp_path / "a.json", harness.facts(CPU, 0.0))
    written = json.loads((tmp_path / "a.json").read_text())
    assert written["command"] == "python benchmarks/encode.py --oracles env"
    assert {"torch", "machine", "device", "threads", "load", "seed", "seconds"} <= written.keys()
