"""The comparison of continual methods: its claims name arms, a small one is run, resumed and judged, and rates are chosen on training images."""

import json
from dataclasses import replace
from pathlib import Path

import continual
import numpy as np
import pytest

from percept.methods.adaptation.few import see
from percept.methods.continual.codyra import CoDyRA
from tests.benchmarks.small import noise, tiny_encoder

WORDS = ("cup", "book", "photo", "red cup", "old book", "red book", "old cup", "old photo", "red photo", "a cup")
CHOSEN = ("fine-tuning", "ZSCL", "ZSCL, noise reference", "CoDyRA", "LoRA 4")


@pytest.fixture
def options(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> continual.Options:
    """Three beds of noise, one of ten classes, a random encoder, and some arms with two rates each."""
    monkeypatch.setenv("PERCEPT_CACHE", str(tmp_path / "cache"))
    encoder = tiny_encoder()
    sets = {
        name: noise(name, WORDS[start : start + 3], start, pool=4, test=2)
        for start, name in enumerate(("one", "two", "three"))
    }
    sets["ten"] = noise("ten", WORDS, 9, pool=4, test=2)
    monkeypatch.setattr(
        continual, "BEDS", {name: lambda data=data: data for name, data in sets.items()} | {"absent": lambda: None}
    )
    monkeypatch.setattr(continual, "ARMS", tuple(replace(arm, rates=arm.rates[:2]) for arm in continual.ARMS))
    monkeypatch.setattr(continual, "REFERENCES", 4)
    monkeypatch.setattr(continual.percept, "load", lambda name, dtype: encoder)
    return continual.Options(
        models=("tiny",), sets=("one", "absent", "two", "three"), seeds=(1,), shots=2, steps=2, batch=4, class_incremental="ten", arms=CHOSEN,
        runs=tmp_path / "runs.jsonl", json_file=tmp_path / "continual.json",
    )  # fmt: skip


def test_claims_and_sets_name_what_exists() -> None:
    names = [arm.name for arm in continual.ARMS]
    assert len(set(names)) == len(names)
    assert {name for _, *pair, _, _ in continual.CLAIMS for name in pair} <= set(names)
    assert {score for *_, score, _ in continual.CLAIMS} <= set(continual.SUMMARY)
    assert set(continual.ORDER) <= set(continual.BEDS)
    assert sorted(continual.SECOND) == list(range(len(continual.ORDER)))


def test_a_small_comparison_is_run_resumed_and_judged(
    options: continual.Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds, reference = [], continual.reference
    monkeypatch.setattr(continual, "reference", lambda kind, encoder: kinds.append(kind) or reference(kind, encoder))
    assert options.runs is not None
    assert options.json_file is not None
    continual.main(options)
    assert sorted(kinds) == ["", "noise", "world"]  # once each
    lines = options.runs.read_text().splitlines()
    assert len(lines) == len(CHOSEN) * (2 + 3)  # two rates; two orders and the classes in parts
    records = [json.loads(line) for line in lines]
    first = next(r for r in records if r["sequence"] == "order 1")
    assert (first["tasks"], list(first["never learned"])) == (["one", "two"], ["three"])
    second = next(r for r in records if r["sequence"] == "order 2")
    assert second["tasks"] == ["three", "one"]
    parts = next(r for r in records if r["sequence"] == "class-incremental")
    assert (parts["protocol"], len(parts["tasks"])) == ("union", 5)
    result = json.loads(options.json_file.read_text())
    assert set(result["results"]["sequences"]["means"]) == set(CHOSEN)
    claims = {row["claim"]: row for row in result["results"]["sequences"]["claims"]}
    assert claims["ZSCL forgets less than fine-tuning"]["cells"] == 2
    assert {row["verdict"] for row in claims.values()} == {"too few cells"}
    assert {"CoDyRA", "LoRA 4"} == set(result["mean active rank"])
    assert set(result["rates"]) == set(CHOSEN)
    assert result["runs"] == len(CHOSEN) * 3
    continual.main(options)
    assert options.runs.read_text().splitlines() == lines


def test_rates_are_chosen_without_a_test_image(options: continual.Options) -> None:
    read: list[int] = []
    data, encoder = noise("one", WORDS[:3], 0, pool=8, test=2, read=read), tiny_encoder()
    held = continual.held_back(see(encoder, data)).data
    assert sorted([*held.pool.tolist(), *held.test.tolist()]) == data.pool.tolist()
    assert np.bincount(held.labels[held.test]).tolist() == [2, 2, 2]
    seen = [see(encoder, each) for each in (data, noise("two", WORDS[3:6], 1))]
    read.clear()
    arm = next(each for each in continual.ARMS if each.name == "fine-tuning")
    assert options.runs is not None
    cells = continual.Cells("tiny", encoder, arm, None, options, options.runs, {})
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
    config = continual.config_of(arm, 60)
    sums = [
        sum(CoDyRA.threshold_of(step, steps, 0.5, threshold) for step in range(steps))
        for steps, threshold in ((500, arm.config.threshold), (60, config.threshold))
    ]
    assert sums[1] == pytest.approx(sums[0], rel=0.05)
