"""The comparison of the prompt family: its claims name arms that exist, and a small table is run, resumed, judged and written."""

import json
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from percept.methods.adaptation.bench import Arm, adaptation_class, paired, verdict
from percept.methods.adaptation.few import see
from tests.benchmarks.small import noise, tiny_encoder


@pytest.fixture(scope="module")
def family() -> ModuleType:
    return import_module("family")


def test_claims_name_arms_that_exist(family: ModuleType) -> None:
    claims: Any = sys.modules["claims"]
    names = [arm.name for arm in claims.ARMS]
    assert len(set(names)) == len(names)
    for arm in claims.ARMS:
        kind: Any = adaptation_class(arm.method)
        assert arm.config is None or isinstance(arm.config, kind.Config)
    for setting in ("base-new", "few-shot", "transfer"):
        assert {"zero-shot", "coop"} <= {arm.name for arm in claims.arms_of(claims.CLAIMS, setting)}
    lines = [(c.arm, c.than, c.score, c.setting, c.sign, c.margin, c.words) for c in claims.CLAIMS]
    assert len(set(lines)) == len(lines)
    assert {claim.row for claim in claims.CLAIMS} >= {"family", "S16", "S19", "S47", "S50"}


def test_sources_and_targets_are_test_beds(family: ModuleType) -> None:
    for source, targets in family.SOURCES.items():
        assert source in family.BEDS
        assert set(targets) <= set(family.BEDS) - {source}


@pytest.fixture
def small(family: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Three sets of noise on random towers: one source, the same classes again, and other classes; a few arms and claims."""
    encoder, claims = tiny_encoder(), sys.modules["claims"]
    words, others = ("cup", "old book", "red cup", "photo"), ("book", "red book", "old cup", "a cup")
    sets = {"one": noise("one", words, 0), "again": noise("again", words[::-1], 1), "other": noise("other", others, 2)}
    monkeypatch.setattr(family, "BEDS", {name: lambda data=data: data for name, data in sets.items()})
    monkeypatch.setattr(family, "SOURCES", {"one": ("again", "other")})
    monkeypatch.setattr(family, "passed", lambda encoder, name: see(encoder, sets[name]))
    monkeypatch.setattr(family.percept, "load", lambda name, dtype: encoder)
    arms = [Arm(method=name, training={"epochs": 1}) for name in ("coop", "maple")]
    monkeypatch.setattr(claims, "ARMS", (Arm(method="zero-shot"), *arms))
    monkeypatch.setattr(family, "ARMS", claims.ARMS)
    monkeypatch.setattr(
        claims,
        "CLAIMS",
        (
            claims.Claim(row="a", words="more", arm="maple", than="coop", score="base"),
            claims.Claim(row="a", words="time", arm="maple", than="coop", score="seconds", ratio=True, margin=1e9, sign=-1),
            claims.Claim(row="a", words="shift", arm="maple", than="coop", score="shift", setting="transfer"),
            claims.Claim(row="b", words="few", arm="coop", than="zero-shot", score="all", setting="few-shot"),
        ),
    )  # fmt: skip
    return family


def command(family: ModuleType, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["family.py", *map(str, arguments)])
    family.main()


def test_a_small_table_is_run_resumed_and_judged(
    small: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, result = tmp_path / "runs.jsonl", tmp_path / "family.json"
    arguments = ("--models", "tiny", "--sets", "one", "--seeds", 1, "--shots", "2", "--runs", file)
    command(small, monkeypatch, *arguments, "--cost")
    assert "hours on this machine" in capsys.readouterr().out
    assert not file.exists()
    command(small, monkeypatch, *arguments, "--json-file", result)
    lines = file.read_text().splitlines()
    assert len(lines) == 3 + 2 + 3  # base-new, few-shot, transfer
    found = json.loads(result.read_text())
    verdicts = {row["claim"]: row for row in found["claims"]}
    assert verdicts["time"]["verdict"] == "too few cells"
    assert verdicts["time"]["difference"] > 0
    assert verdicts["more"]["cells"] == 1
    assert verdicts["shift"]["cells"] == 1
    assert verdicts["few"]["cells"] == 2  # the run of the transfer has few shots of all classes too
    assert "2 shots" in " ".join(found["means"])
    records = [json.loads(line) for line in lines]
    moved = next(r for r in records if r["label"] == "maple" and r["split"] == "all")
    assert {"all", "cross", "shift"} <= set(moved["scores"])
    deep = next(r for r in records if r["label"] == "maple" and r["split"] == "base")
    assert {"alignment", "gap", "text shift", "image shift"} <= set(deep["scores"])
    still = next(r for r in records if r["label"] == "zero-shot" and r["split"] == "base")
    assert "gap" not in still["scores"]
    assert -1 <= still["scores"]["alignment"][0] <= 1
    command(small, monkeypatch, *arguments)
    assert file.read_text().splitlines() == lines
    command(small, monkeypatch, *arguments, "--report", "--rows", "b", "--json-file", result)
    assert [row["claim"] for row in json.loads(result.read_text())["claims"]] == ["few"]


def test_a_limit_of_epochs_holds_for_every_arm(family: ModuleType) -> None:
    claims: Any = sys.modules["claims"]
    plan = family.Plan(
        claims=claims.CLAIMS, models=["x"], sets=["y"], seeds=1, shots=[16], settings=["base-new"], epochs=7
    )
    arms = {arm.name: arm.training["epochs"] for arm in plan.arms("base-new")}
    assert arms["coop"] == arms["pre"] == 7
    assert arms["maple"] == 5
    assert arms["zero-shot"] == 0


def test_ratios_and_margins_are_judged() -> None:
    cell = {"data": "x", "foundation": "y", "split": "base", "shots": 2, "shots hash": "z", "scores": {}}
    records = [cell | {"label": name, "seed": seed, "seconds": value} for seed in range(4) for name, value in (("a", 3.0), ("b", 2.0))]  # fmt: skip
    found = paired(records, "a", "b", "seconds", ratio=True)
    assert found is not None
    assert found.value == pytest.approx(1.5)
    assert verdict(found, sign=-1, margin=1.6) == "holds"
    assert verdict(found, sign=-1, margin=1.4) == "does not hold"
    assert verdict(paired(records, "a", "b", "seconds"), margin=1.0) == "within noise"
    assert paired(records, "a", "c", "seconds") is None


def test_the_rank_correlation_is_that_of_spearman(family: ModuleType) -> None:
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    gaps, news = rng.normal(size=12).round(1), rng.normal(size=12).round(1)
    zero = {"label": "zero-shot", "split": "base", "foundation": "y", "seed": 1, "scores": {"new": [0.5, 0, 0]}}
    records = [zero | {"data": row} for row in range(12)]
    records += [
        zero | {"label": "maple", "data": row, "scores": {"new": [new, 0, 0], "gap": [gap, 0, 0]}}
        for row, (gap, new) in enumerate(zip(gaps, news, strict=True))
    ]
    found = family.spearman(records, "gap")
    assert found["spearman"] == pytest.approx(spearmanr(gaps, news)[0], abs=1e-3)
    assert found["interval"][0] < found["spearman"] < found["interval"][1]


def test_a_claim_needs_several_cells(family: ModuleType) -> None:
    claims: Any = sys.modules["claims"]
    claim = claims.Claim(row="a", words="b", arm="one", than="two", score="base")
    cell = {"data": "x", "foundation": "y", "split": "base", "shots": 16, "shots hash": "z"}
    records = [
        cell | {"label": name, "seed": seed, "scores": {"base": [value, 0, 1]}}
        for seed in range(6)
        for name, value in (("one", 0.8), ("two", 0.5))
    ]
    assert family.judged(records, [claim])[0]["verdict"] == "holds"
    assert family.judged(records[:4], [claim])[0]["verdict"] == "too few cells"
    assert family.judged([], [claim])[0]["verdict"] == "not measured"
