"""The comparison of continual methods: its claims name arms, a small one is run, resumed and judged, and rates are chosen on training images."""

import json
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import continual
import continual_arms
import continual_report
import harness
import numpy as np
import pytest

from percept.core.errors import PerceptError
from percept.methods.adaptation.few import see
from percept.methods.continual.codyra import CoDyRA
from tests.benchmarks.small import noise, tiny_encoder

WORDS = ("cup", "book", "photo", "red cup", "old book", "red book", "old cup", "old photo", "red photo", "a cup")
CHOSEN = ("fine-tuning", "ZSCL", "ZSCL, noise reference", "CoDyRA", "LoRA 4")


@pytest.fixture
def options(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> continual.Options:
    """Three beds of noise, one of ten classes, one that does not pass the gate, a random encoder, and some arms with two rates each."""
    monkeypatch.setenv("PERCEPT_CACHE", str(tmp_path / "cache"))
    encoder = tiny_encoder()
    sets = {
        name: noise(name, WORDS[start : start + 3], start, pool=4, test=2)
        for start, name in enumerate(("one", "two", "three"))
    }
    sets["ten"] = noise("ten", WORDS, 9, pool=4, test=2)
    monkeypatch.setattr(continual, "passed", lambda encoder, name: see(encoder, sets[name]) if name in sets else None)
    monkeypatch.setattr(continual, "ARMS", tuple(replace(arm, rates=arm.rates[:2]) for arm in continual.ARMS))
    monkeypatch.setattr(continual, "REFERENCES", 4)
    monkeypatch.setattr(continual, "TIMED", {"images": 1, "texts": 1, "turns": 1, "span": 0.0})
    monkeypatch.setattr(harness, "BURST_SECONDS", 0.0)
    monkeypatch.setattr(continual.percept, "load", lambda name, dtype: encoder)
    return continual.Options(
        models=("tiny",), sets=("one", "absent", "two", "three"), seeds=(1,), shots=2, steps=2, batch=4, class_incremental="ten", arms=CHOSEN,
        runs=(tmp_path / "runs.jsonl",), json_file=tmp_path / "continual.json",
    )  # fmt: skip


def lines_of(options: continual.Options) -> list[str]:
    return options.runs[0].read_text().splitlines()


def test_claims_and_sets_name_what_exists() -> None:
    names = [arm.name for arm in continual.ARMS]
    assert len(set(names)) == len(names)
    assert set(names) < set(continual_arms.NAMES)
    assert len(set(continual_arms.NAMES)) == len(continual_arms.NAMES)
    claims = [*continual_report.CLAIMS, continual_report.GAP]
    assert {name for each in claims for name in (each.arm, each.than)} <= set(continual_arms.NAMES)
    assert {each.score for each in claims} <= {score for scores in continual_report.SCORES.values() for score in scores}
    assert len({(each.words, each.score) for each in claims}) == len(claims)
    assert set(continual.ORDER) <= set(import_module("beds").BEDS)
    assert sorted(continual.SECOND) == list(range(len(continual.ORDER)))
    assert {arm.name for arm in continual.Options().chosen} == {arm.name for arm in continual_arms.HEADLINE}
    with pytest.raises(PerceptError, match="arm"):
        assert continual.Options(arms=("ZSLC",)).chosen


def test_all_arms_have_the_same_label_smoothing() -> None:
    assert {continual_arms.config_of(arm, 41).smoothing for arm in continual.ARMS} == {continual_arms.SMOOTHING}


@pytest.mark.slow
def test_a_small_comparison_is_run_resumed_and_judged(
    options: continual.Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds, reference = [], continual.reference
    monkeypatch.setattr(continual, "reference", lambda kind, encoder: kinds.append(kind) or reference(kind, encoder))
    assert options.json_file is not None
    continual.main(options)
    assert sorted(kinds) == ["", "noise", "world"]  # once each
    lines = lines_of(options)
    assert (
        len(lines) == len(CHOSEN) * (2 + 3) + 1
    )  # two rates; two orders and the classes in parts; and the latency of CoDyRA
    records = [json.loads(line) for line in lines]
    first = next(r for r in records if r["sequence"] == "order 1")
    assert (first["tasks"], list(first["never learned"])) == (["one", "two"], ["three"])
    assert first["untouched"]["transfer"] == first["untouched"]["zero-shot transfer"]
    assert first["scores"]["never"] == first["never learned"]["three"][1]
    assert list(first["blends"]) == ["0.2", "0.5", "0.8"]
    second = next(r for r in records if r["sequence"] == "order 2")
    assert second["tasks"] == ["two", "one"]
    parts = next(r for r in records if r["sequence"] == "class-incremental")
    assert (parts["protocol"], len(parts["tasks"])) == ("seen", 5)
    result = json.loads(options.json_file.read_text())
    derived = {"untouched", "WiSE-FT 0.2", "WiSE-FT 0.5", "WiSE-FT 0.8"}
    assert set(result["results"]["sequences"]["means"]) == set(CHOSEN) | derived
    assert {row["runs"] for row in result["results"]["sequences"]["means"].values()} == {2}
    claims = {row["claim"]: row for row in result["results"]["sequences"]["claims"]}
    assert claims["S54: ZSCL forgets less than fine-tuning"]["cells"] == 2
    assert claims["S54: average of ZSCL is above WiSE-FT 0.8"]["cells"] == 2
    assert {row["verdict"] for row in claims.values()} == {"too few cells", "not measured"}
    by_parts = {row["claim"]: row for row in result["results"]["class-incremental"]["claims"]}
    assert by_parts["S54: incremental of ZSCL is above untouched"]["cells"] == 1
    assert {"CoDyRA", "LoRA 4"} == set(result["mean active rank"])
    assert set(result["rates"]) == set(CHOSEN)
    assert result["kept from task to task, MB"]["fine-tuning"] == {"tiny": {}}
    assert {"initial model", "reference images"} < set(result["kept from task to task, MB"]["ZSCL"]["tiny"])
    assert result["runs"] == len(CHOSEN) * 3
    timed = result["latency of CoDyRA"]["tiny"]
    assert set(timed["times the processor time"]) == {"merged", "not merged"}
    assert timed["parameters"]["merged"] == timed["parameters"]["plain"] < timed["parameters"]["not merged"]
    matrix = result["matrices"]["tiny, order 1"]
    assert (matrix["tasks"], np.shape(matrix["after"]["ZSCL"])) == (["one", "two"], (2, 2))
    continual.main(options)
    assert lines_of(options) == lines
    continual.main(replace(options, report=True, arms=(), models=("absent",)))
    assert json.loads(options.json_file.read_text())["results"] == result["results"]


def test_other_settings_are_run_anew_and_reported_apart(options: continual.Options, tmp_path: Path) -> None:
    few = replace(options, arms=("fine-tuning",), class_incremental="", orders=(1,))
    runs = [continual.run_all(few, few.runs)]
    for other in (replace(few, protocol="union"), replace(few, shots=1), replace(few, sets=("one", "two", "three"))):
        count = len(lines_of(options))
        runs.append(continual.run_all(other, other.runs))
        assert len(lines_of(options)) == count + (1 if other.protocol == few.protocol and other.shots == 2 else 3)
        assert continual.recorded(other, other.runs) == runs[-1]
    tuned = sum(json.loads(line)["sequence"] == continual.TUNED for line in lines_of(options))
    continual.run_all(replace(few, orders=(2,)), few.runs)
    assert tuned == sum(json.loads(line)["sequence"] == continual.TUNED for line in lines_of(options))
    few_runs = [record for record in continual.recorded(few, few.runs) if record["sequence"] == "order 1"]
    assert few_runs == runs[0]
    second = tmp_path / "second.jsonl"
    second.write_text(json.dumps(runs[0][0] | {"settings": "another"}) + "\n")
    with pytest.raises(PerceptError, match="two different settings"):
        continual.recorded(few, [*few.runs, second])
    second.write_text(json.dumps(runs[0][0] | {"seed": 9}) + "\n")
    assert len(continual.recorded(few, [*few.runs, second])) == 3


def test_rates_are_chosen_without_a_test_image(options: continual.Options) -> None:
    read: list[int] = []
    data, encoder = noise("one", WORDS[:3], 0, pool=8, test=2, read=read), tiny_encoder()
    held = continual.held_back(see(encoder, data)).data
    assert sorted([*held.pool.tolist(), *held.test.tolist()]) == data.pool.tolist()
    assert np.bincount(held.labels[held.test]).tolist() == [2, 2, 2]
    seen = [see(encoder, each) for each in (data, noise("two", WORDS[3:6], 1))]
    read.clear()
    arm = next(each for each in continual.ARMS if each.name == "fine-tuning")
    cells = continual.Cells("tiny", encoder, arm, None, options, continual.Runs(options.runs, continual.KEY))
    assert cells.best_rate([continual.held_back(each) for each in seen]) in arm.rates
    assert read
    assert not set(read) & set(data.test.tolist())


def test_a_set_is_divided_into_parts_of_its_classes() -> None:
    data = noise("ten", WORDS, 0, pool=3, test=1)
    parts = continual.parts_of(data, 5)
    assert [part.classes for part in parts] == [WORDS[start : start + 2] for start in range(0, 10, 2)]
    last = parts[-1]
    assert np.bincount(last.labels[last.pool]).tolist() == [3, 3]
    row = int(last.test[1])
    assert np.array_equal(last.image(row), data.image(int(last.keys[row].split("/")[1])))
    assert data.labels[int(last.keys[row].split("/")[1])] == 9


def test_gates_shrink_as_much_in_fewer_steps() -> None:
    arm = next(each for each in continual.ARMS if each.name == "CoDyRA")
    config: Any = continual_arms.config_of(arm, 60)
    sums = [
        sum(CoDyRA.threshold_of(step, steps, 0.5, threshold) for step in range(steps))
        for steps, threshold in ((500, arm.config.threshold), (60, config.threshold))
    ]
    assert sums[1] == pytest.approx(sums[0], rel=0.05)
    value, deviation = continual_arms.ranks_by_chance(60)
    gates = np.random.default_rng(0).normal(size=(20_000, config.rank))
    active = (np.abs(gates) > sums[1]).sum(axis=1)
    assert (value, deviation) == (pytest.approx(active.mean(), abs=0.1), pytest.approx(active.std(), abs=0.1))
