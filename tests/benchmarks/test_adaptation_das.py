"""The comparison of skipped layers: a small one is run, resumed and judged; files name the encoder; verdicts follow from cells."""

import json
import sys
from pathlib import Path
from typing import Any

import das
import das_data
import das_report
import das_tower
import pytest

from percept.methods.adaptation.bench import adaptation_class, build
from percept.methods.adaptation.few import see
from tests.benchmarks.small import noise, tiny_encoder


@pytest.fixture
def arguments(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Two encoders, a dozen scenes and a few steps."""
    monkeypatch.setenv("PERCEPT_CACHE", str(tmp_path / "cache"))
    for split, count in {"train": 24, "valid": 6, "test": 8}.items():
        monkeypatch.setitem(das_data.COUNTS, split, count)
    for name, value in {"STEPS": 4, "PRETRAINING": 2, "LARGE": 4, "BATCH": 4, "JUDGED": 4, "EVERY": 1}.items():
        monkeypatch.setattr(das, name, value)
    monkeypatch.setattr(das, "latency", lambda cell, chosen: {"times as fast": {"batch of 1": 1.5}, "seconds": 0.0})
    monkeypatch.setattr(das.percept, "load", lambda name, dtype, device: tiny_encoder(int(name[-1])))
    return [
        "das.py", "--models", "tiny0,tiny1", "--kinds", "single-stream", "--tasks", "entailment", "--sets", "5",
        "--folder", str(tmp_path / "das"), "--json-file", str(tmp_path / "das.json"),
    ]  # fmt: skip


@pytest.mark.slow
def test_a_small_comparison_is_run_resumed_and_judged(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", arguments)
    das.main()
    result, runs = json.loads((tmp_path / "das.json").read_text()), tmp_path / "das" / "runs.jsonl"
    lines = runs.read_text().splitlines()
    assert [row["foundation"] for row in result["results"]["cells"]] == ["tiny 0", "tiny 1"]
    stored = [file.name for file in (tmp_path / "das" / "data").glob("images-*")]
    assert len(stored) == 2 * 3  # three splits of each encoder
    assert len(list((tmp_path / "das").glob("single-stream-*"))) == 2
    row = result["results"]["cells"][0]
    assert row["ranks"]["sets"] == 5
    assert row["FLOPs saved"] > 0
    words = {each["claim"]: each for each in result["results"]["claims"]}
    assert words["share of the layers' FLOPs saved, at least 30%"]["cells"] == 2
    assert words["times as fast as adapters in every layer (ratio), batch of 1"]["value"] == 1.5
    assert words["accuracy, das - adapters"]["claimed"] == "above -0.01"
    monkeypatch.setattr(sys, "argv", [*arguments, "--runs", str(tmp_path / "more.jsonl"), str(runs)])
    das.main()
    assert not (tmp_path / "more.jsonl").exists()
    monkeypatch.setattr(sys, "argv", [*arguments, "--report"])
    das.main()
    assert runs.read_text().splitlines() == lines
    assert json.loads((tmp_path / "das.json").read_text())["results"] == result["results"]
    monkeypatch.setattr(das, "RATE", 1e-3)
    das.main()
    assert json.loads((tmp_path / "das.json").read_text())["records"] == []


def cell(seed: int, chosen: list[int], accuracies: dict[str, float]) -> list[dict[str, Any]]:
    """Records of a cell in which DAS saves a quarter of the FLOPs."""
    key = {"foundation": "tiny", "weights": "w", "model": "single-stream", "task": "questions", "seed": seed}
    runs = {name: {"accuracy": value, "layer FLOPs": 75, "trainable": 9, "n": 100} for name, value in accuracies.items()}  # fmt: skip
    runs |= {"adapters": {"accuracy": 0.8, "layer FLOPs": 100, "trainable": 9, "n": 100}}
    runs |= {"search standardised": {"chosen": chosen, "gates": [0.1 * place for place in range(6)]}}
    return [key | {"arm": arm} | run for arm, run in runs.items()]


@pytest.mark.parametrize(("chosen", "verdict"), [([4, 5], "holds"), ([0, 1], "does not hold")])
def test_verdicts_follow_from_cells(chosen: list[int], verdict: str) -> None:
    sets = {"skip 0,1": 0.5, "skip 0,2": 0.6, "skip 1,2": 0.6, "skip 2,3": 0.7, "skip 4,5": 0.795}
    records = [record for seed in range(6) for record in cell(seed, chosen, sets)]
    claims = {row["claim"]: row for row in das_report.judged(records)["claims"]}
    assert claims["share of the trained sets better than the choice, below 20%"]["verdict"] == verdict
    assert claims["accuracy, das - adapters"]["verdict"] == verdict  # half a point is lost, or 30
    assert claims["share of the layers' FLOPs saved, at least 12%"]["verdict"] == "holds"
    assert claims["share of the layers' FLOPs saved, at least 30%"]["verdict"] == "does not hold"
    assert claims["accuracy, das - lora"]["verdict"] == "not measured"
    few = das_report.judged(records[: len(records) // 2])["claims"]
    assert {row["verdict"] for row in few} == {"too few cells", "not measured"}


def test_random_sets_are_others_than_those_that_a_search_chose() -> None:
    (own,) = das_report.cells_of(cell(1, [4, 5], {"skip 0,1": 0.5, "skip 0,2": 0.7, "skip 4,5": 0.9})).values()
    found = das_report.named(own)
    assert (found["das"], found["random"]) == (0.9, pytest.approx(0.6))
    (alone,) = das_report.cells_of(cell(1, [4, 5], {"skip 4,5": 0.9})).values()
    assert "random" not in das_report.named(alone)


def test_equal_accuracies_share_their_rank() -> None:
    cells = das_report.cells_of(cell(1, [4, 5], {"skip 0,1": 0.5, "skip 0,2": 0.5, "skip 1,2": 0.5, "skip 2,3": 0.7, "skip 4,5": 0.8}))  # fmt: skip
    (row,) = cells.values()
    assert das_report.ranks(row)["spearman"] == pytest.approx(0.894, abs=1e-3)
    (level,) = das_report.cells_of(cell(1, [4, 5], {name: 0.5 for name in row if name.startswith("skip")})).values()
    assert das_report.ranks(level)["spearman"] is None


def test_the_arms_of_a_tower_train_about_as_many_values() -> None:
    encoder = tiny_encoder()
    arms = {arm.name: arm for arm in das_tower.arms_of(encoder)}
    assert {name for claim in das_tower.CLAIMS for name in (claim.arm, claim.than)} <= set(das_tower.NAMES)
    assert set(arms) <= set(das_tower.NAMES)
    seen = see(encoder, noise("one", ("cup", "old book", "red cup", "photo"), 0))
    shots = seen.shots(seen.data.drawn(1, 1), "base", crops=0)
    counts = {name: sum(build(arms[name], encoder, shots, 1).trainable().values()) for name in ("skip last", "adapters")}  # fmt: skip
    assert counts["adapters"] == pytest.approx(counts["skip last"], rel=0.25)
    for arm in arms.values():
        kind: Any = adaptation_class(arm.method)
        assert arm.config is None or isinstance(arm.config, kind.Config)
