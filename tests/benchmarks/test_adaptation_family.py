"""The comparison of the prompt family: its claims name arms that exist, and a small table is run, resumed, judged and written."""

import json
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from percept.core.errors import PerceptError
from percept.methods.adaptation.bench import Arm, Case, adaptation_class, config_of, paired, run, verdict
from percept.methods.adaptation.coop import CoOp
from percept.methods.adaptation.few import see
from percept.methods.adaptation.mmrl import MMRL
from percept.methods.adaptation.prompts import PromptConfig
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
    assert {claim.row for claim in claims.CLAIMS} >= {"family", "S16", "S19", "S43", "S47", "S50"}
    assert {arm.name for arm in claims.ARMS} == {name for each in claims.CLAIMS for name in (each.arm, each.than)}


def test_sources_and_targets_are_test_beds(family: ModuleType) -> None:
    beds: Any = sys.modules["beds"]
    kinds = {name: set(classes) for name, (classes, _) in beds.DRAWN.items()}
    for source, targets in family.SOURCES.items():
        assert source not in targets
        for target in targets:  # the same classes in a different style, or none of them
            assert kinds[target] == kinds[source] or not kinds[target] & kinds[source]


def test_arms_are_run_where_a_claim_needs_them(family: ModuleType) -> None:
    claims: Any = sys.modules["claims"]
    growth = claims.Claim(row="a", words="b", arm="coop", than="coop", setting="few-shot", shots=(16,), than_shots=1)
    names = [[arm.name for arm in claims.arms_of([growth], "few-shot", shots)] for shots in (1, 2, 16)]
    assert names == [["zero-shot", "coop"], ["zero-shot"], ["zero-shot", "coop"]]


def test_arms_are_adjusted_to_the_setting_and_the_set(family: ModuleType) -> None:
    claims: Any = sys.modules["claims"]
    data, arms = noise("one", ("cup", "old book", "red cup", "photo"), 0), {arm.name: arm for arm in claims.ARMS}
    base, few = (claims.adjusted(arms["biomedcoop"], setting, data) for setting in ("base-new", "few-shot"))
    assert (base.config.consistency, base.config.distillation, base.config.threshold) == (0.5, 0.5, 1.25)
    assert base.training == {"epochs": 50}
    assert (config_of(few).distillation, config_of(few).threshold, few.training) == (0.25, 1.5, {})
    assert claims.adjusted(arms["biomedcoop:no distillation"], "base-new", data).config.distillation == 0
    assert claims.adjusted(arms["mocoop:new names"], "base-new", data).config.more_names == ("red cup", "photo")
    assert claims.adjusted(arms["coop"], "base-new", data) is arms["coop"]


def test_targets_of_a_transfer_are_new_to_mmrl(small: Any) -> None:
    plan = small.Plan(claims=[], models=["tiny"], sets=["one"], seeds=1, shots=[], settings=[])
    seen = plan.bed("tiny", "one")
    config = MMRL.Config(tokens=2, width=8)
    result = run(Arm(method="mmrl", config=config, training={"epochs": 0}), seen, Case(split="all", shots=2))
    method: Any = result.method
    used: list[bool] = []
    judged = method.logits
    method.logits = lambda batch: (used.append(method.fused), judged(batch))[1]
    assert {score.name for score in small.transfer_scores(plan, "tiny", result, seen)} == {"cross", "shift"}
    assert not any(used)
    assert len(used) >= 2
    assert method.fused
    assert method.config.trained == seen.data.classes


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
    own = Arm(method="coop", label="own", config=CoOp.Config(prompt=PromptConfig(context=2, per_class=True)))
    monkeypatch.setattr(claims, "ARMS", (Arm(method="zero-shot"), Arm(method="coop"), Arm(method="maple"), own))
    monkeypatch.setattr(
        claims,
        "CLAIMS",
        (
            claims.Claim(row="a", words="more", arm="maple", than="coop", score="base"),
            claims.Claim(row="a", words="time", arm="maple", than="coop", score="processor", ratio=True, margin=1e9, sign=-1),
            claims.Claim(row="a", words="shift", arm="maple", than="coop", score="shift", setting="transfer"),
            claims.Claim(row="b", words="few", arm="coop", than="zero-shot", score="all", setting="few-shot"),
            claims.Claim(row="c", words="own", arm="own", than="coop", score="all", setting="few-shot", shots=(16,)),
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
    arguments = ("--models", "tiny", "--sets", "one", "--seeds", 1, "--shots", "2,16", "--steps", 2, "--runs", file)
    command(small, monkeypatch, *arguments, "--cost")
    assert "hours on this machine" in capsys.readouterr().out
    assert not file.exists()
    command(small, monkeypatch, *arguments, "--json-file", result)
    lines = file.read_text().splitlines()
    assert (
        len(lines) == 3 + 2 + 3 + 1
    )  # base-new; few-shot with 2 and 16; transfer, of which two runs are those of few-shot
    found = json.loads(result.read_text())
    verdicts = {row["claim"]: row for row in found["claims"]}
    assert verdicts["time"]["verdict"] == "too few cells"
    assert verdicts["time"]["difference"] > 0
    assert verdicts["more"]["cells"] == 1
    assert verdicts["shift"]["cells"] == 1
    assert verdicts["few"]["cells"] == 2  # the run of the transfer has few shots of all classes too
    assert verdicts["few"]["sets"] == 1
    assert verdicts["own"]["cells"] == 1
    assert "2 shots" in " ".join(found["means"])
    records = [json.loads(line) for line in lines]
    assert {r["steps"] for r in records if r["label"] == "coop" and r["split"] == "base"} == {2}
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
    halves = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    for half, kept in zip(halves, (lines[:6], lines[4:]), strict=True):  # two runs are in both
        half.write_text("\n".join(kept) + "\n")
    command(small, monkeypatch, "--report", "--runs", *halves, "--json-file", result)
    assert json.loads(result.read_text())["claims"] == found["claims"]
    import_module("cells").pack(cells := tmp_path / "cells" / "family_tiny.json", halves)
    command(small, monkeypatch, "--report", "--runs", cells, "--json-file", result)
    assert json.loads(result.read_text())["claims"] == found["claims"]
    with pytest.raises(PerceptError, match="different settings"):
        command(small, monkeypatch, *arguments, "--steps", 9)
    for wrong in ((*arguments, tmp_path / "more"), ("--report", "--runs", tmp_path / "none.jsonl")):
        with pytest.raises(SystemExit):
            command(small, monkeypatch, *wrong)


def test_threads_are_set_only_if_asked_for(small: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[int] = []
    monkeypatch.setattr(small.torch, "set_num_threads", asked.append)
    monkeypatch.setattr(small, "run_plan", lambda *_, **__: None)
    for more in ((), ("--threads", 1)):
        command(small, monkeypatch, "--models", "tiny", "--cost", "--runs", tmp_path / "runs.jsonl", *more)
    assert asked == [1]


def test_every_number_of_steps_has_a_file_of_its_own(
    family: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(family, "home", lambda: tmp_path)
    names = []
    for more in ((), ("--steps", "40"), ("--steps", "0")):
        monkeypatch.setattr(sys, "argv", ["family.py", *more])
        names.append([file.name for file in family.options_of().runs])
    assert names == [["family-200.jsonl"], ["family-40.jsonl"], ["family-own.jsonl"]]


def test_not_above_means_less_than_a_point(family: ModuleType) -> None:
    claims: Any = sys.modules["claims"]
    rows = [claim for claim in claims.CLAIMS if "not above" in claim.words]
    assert {(claim.sign, claim.margin) for claim in rows} == {(-1, 0.01)}
    rng = np.random.default_rng(0)
    for mean, expected in ((0.0, "holds"), (0.05, "does not hold")):
        values = mean + rng.normal(0, 0.005, 30)
        cell = {"data": "x", "foundation": "y", "split": "base", "shots": 16, "shots hash": "z"}
        records = [
            cell | {"label": name, "seed": seed, "scores": {"harmonic": [value, 0, 1]}}
            for seed, own in enumerate(values)
            for name, value in (("maple", 0.5 + own), ("maple:text", 0.5))
        ]
        assert sys.modules["family_report"].judged(records, rows[:1])[0]["verdict"] == expected


def test_claims_about_few_shots_are_judged_over_sets(family: ModuleType) -> None:
    claims, judged = sys.modules["claims"], sys.modules["family_report"].judged
    claim = claims.few("a", "one", "two")  # type: ignore[attr-defined]
    records = [
        {
            "label": name, "data": data, "foundation": "y", "seed": seed, "split": "all", "shots": shots, "shots hash": "z",
            "scores": {"all": [0.5 + (name == "one") * (0.2 if data == "x" else -0.01), 0, 1]},
        }
        for data in "xabcdef" for seed in range(3) for shots in (1, 2, 16) for name in ("one", "two")
    ]  # fmt: skip
    (row,) = judged(records, [claim])
    assert (row["cells"], row["sets"], row["verdict"]) == (63, 7, "within noise")
    assert row["interval over sets"][0] < 0 < row["interval over sets"][1]
    assert judged([r for r in records if r["data"] in "xa"], [claim])[0]["verdict"] == "too few cells"


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
    found = sys.modules["family_report"].spearman(records, "gap")
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
    judged: Any = sys.modules["family_report"].judged
    assert judged(records, [claim])[0]["verdict"] == "holds"
    assert judged(records[:4], [claim])[0]["verdict"] == "too few cells"
    assert judged([], [claim])[0]["verdict"] == "not measured"
