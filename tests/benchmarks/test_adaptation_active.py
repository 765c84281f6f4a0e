"""The comparison of active learning: a small one is run, resumed and judged; other settings are run anew, and evenness is judged in every round."""

import json
import sys
from pathlib import Path

import active
import pytest

from percept.core.errors import PerceptError
from percept.methods.adaptation.few import see
from tests.benchmarks.small import noise, tiny_encoder

CLASSES = ("cup", "old book", "red cup", "photo")
ARMS = ("random", "entropy", "entropy + PCB", "entropy + true balance")


@pytest.fixture
def arguments(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Two sets of noise, of which one passes the gate, a random encoder and some arms."""
    monkeypatch.setenv("PERCEPT_CACHE", str(tmp_path / "cache"))
    encoder = tiny_encoder()
    monkeypatch.setattr(active, "passed", lambda encoder, name: name == "one" or None)
    monkeypatch.setattr(active, "drawn", lambda name, pool: noise(f"{name}-{pool}", CLASSES, 0, pool=pool, test=2))
    monkeypatch.setattr(active, "seen_by", see)
    monkeypatch.setattr(active.percept, "load", lambda name, dtype: encoder)
    return [
        "active.py", "--models", "tiny", "--sets", "one,two", "--arms", ",".join(ARMS), "--seeds", "2", "--rounds", "3", "--epochs", "1",
        "--pool", "10", "--powers", "1", "--runs", str(tmp_path / "runs.jsonl"), "--json-file", str(tmp_path / "active.json"),
    ]  # fmt: skip


def called(monkeypatch: pytest.MonkeyPatch, arguments: list[str], tmp_path: Path) -> tuple[dict, list[str]]:
    monkeypatch.setattr(sys, "argv", arguments)
    active.main()
    return json.loads((tmp_path / "active.json").read_text()), (tmp_path / "runs.jsonl").read_text().splitlines()


def test_a_small_comparison_is_run_resumed_and_judged(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    result, lines = called(monkeypatch, arguments, tmp_path)
    assert len(lines) == len(ARMS) * 2
    assert {json.loads(line)["data"] for line in lines} == {"one"}
    claims = {row["claim"]: row for row in result["class frequencies as rank^-1"]["claims"]}
    assert claims["PCB raises the curve of entropy"]["cells"] == 2
    assert claims["PCB raises the curve of entropy"]["verdict"] == "too few cells"
    assert claims["PCB raises the curve of badge"]["verdict"] == "not measured"
    assert len(result["class frequencies as rank^-1"]["means"]["random"]["by round"]["label entropy"]) == 3
    again, same = called(monkeypatch, arguments, tmp_path)
    assert (again["runs"], same) == (result["runs"], lines)
    more = [*arguments, "--epochs", "2", "--arms", "random"]
    assert len(called(monkeypatch, more, tmp_path)[1]) == len(lines) + 2
    reported, _ = called(monkeypatch, [*arguments, "--report", "--models", "absent"], tmp_path)
    assert reported["runs"] == len(lines)
    second = tmp_path / "second.jsonl"
    second.write_text(json.dumps(json.loads(lines[0]) | {"settings": "another"}) + "\n")
    with pytest.raises(PerceptError, match="two different settings"):
        called(monkeypatch, [*arguments, "--report", "--runs", str(tmp_path / "runs.jsonl"), str(second)], tmp_path)


def test_evenness_in_every_round_is_as_good_as_the_worst_round() -> None:
    def record(label: str, seed: int, entropies: list[float]) -> dict:
        return {"data": "one", "foundation": "tiny", "weights": "w", "seed": seed, "power": 1.0, "label": label, "labels": [4, 8, 12], "label entropy": entropies}  # fmt: skip

    for last, verdict in ((0.9, "holds"), (0.2, "does not hold")):
        records = [record("badge", seed, [0.5, 0.5, 0.5]) for seed in range(6)]
        records += [record("badge + PCB", seed, [0.5, 0.8, last]) for seed in range(6)]
        row = active.in_every_round("badge", records)
        assert (row["verdict"], len(row["rounds"])) == (verdict, 2)


def test_arms_with_descriptions_are_asked_for(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    monkeypatch.setattr(sys, "argv", arguments[:5])
    options = active.options_of()
    assert options.epochs == 100
    assert len(active.plans(options)) == 10
    options.descriptions = True
    assert len(active.plans(options)) == 12


def test_every_acquisition_runs_plain_and_balanced(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["active.py"])
    names = [name for name, *_ in active.plans(active.options_of())]
    assert len(names) == len(set(names))
    assert {"random", "badge", "badge + PCB", "badge + true balance"} <= set(names)
    assert "digits" not in active.SETS
    assert len(active.SETS) >= 7
