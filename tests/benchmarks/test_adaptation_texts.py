"""The comparisons of methods with several texts: information of a router, planted sentences, and curves of labelling rounds."""

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from percept.methods.adaptation.bench import build
from percept.methods.adaptation.biomedcoop import BiomedCoOp
from percept.methods.adaptation.contract import tiny_shots
from percept.methods.adaptation.few import see
from percept.methods.adaptation.sentences import PATTERNS
from tests.benchmarks.small import noise, tiny_encoder


@pytest.fixture(scope="module")
def bench() -> SimpleNamespace:
    """The modules of the comparisons."""
    names = ("active", "beds", "claims", "mixture", "planted")
    return SimpleNamespace(**{name: import_module(name) for name in names})


def test_the_information_of_a_router_is_in_bits(bench: SimpleNamespace) -> None:
    style = np.array([0, 0, 1, 1])
    assert bench.mixture.information(np.eye(2)[style], style) == pytest.approx(1)
    assert bench.mixture.information(np.full((4, 3), 1 / 3), style) == pytest.approx(0)
    weights = np.array([[0.8, 0.2], [0.8, 0.2], [0.2, 0.8], [0.2, 0.8]])
    expected = 1 + 0.8 * np.log2(0.8) + 0.2 * np.log2(0.2)
    assert bench.mixture.information(weights, style) == pytest.approx(expected)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5])
def test_planted_sentences_are_wrong_where_they_are_marked(share: float, bench: SimpleNamespace) -> None:
    names = ("cat", "bus", "house")
    for pattern in ("places", "classes"):
        sentences, wrong = bench.planted.planted(names, share, pattern, seed=1)
        assert wrong.mean() == pytest.approx(share)
        right = [[text.format(name) for text in PATTERNS] for name in names]
        for own, true, flags in zip(sentences, right, wrong, strict=True):
            assert [one != other for one, other in zip(own, true, strict=True)] == flags.tolist()
        if share:
            assert (wrong == wrong[0]).all() == (pattern == "places")
    assert (
        bench.planted.planted(names, share, "classes", seed=1)[0]
        != bench.planted.planted(names, 0.5, "classes", seed=2)[0]
    )


def test_rejections_are_compared_with_what_was_planted(bench: SimpleNamespace) -> None:
    wrong = np.array([[True, False, False, False], [True, True, False, False]])
    found = bench.planted.rejection(np.array([0.0, 0.5, 1.0, 1.0]), wrong)
    assert found["precision"] == pytest.approx((2 + 0.5) / 3)
    assert found["recall"] == pytest.approx(2.5 / 3)
    assert found["wrong"] == pytest.approx(3 / 8)
    assert found["rejected"] == pytest.approx(1.5 / 4)


def test_all_arms_with_planted_sentences_take_the_same_steps(bench: SimpleNamespace) -> None:
    arms, shots = (
        bench.planted.arms(7),
        tiny_shots(torch.randn(6, 12), torch.arange(3).repeat(2), torch.randn(6, 3, 16, 16)),
    )
    methods = {name: build(arm, tiny_encoder(), shots, 1) for name, arm in arms.items()}
    trainings = [replace(methods[name].recipe(1), **dict(arm.training)) for name, arm in arms.items()]
    assert trainings == [replace(BiomedCoOp.recipe(1), epochs=7)] * len(arms)
    assert len({sum(method.declared().values()) for method in methods.values()}) == 1
    seen, other = (see(tiny_encoder(), noise("one", ("cup", name, "photo"), 0)) for name in ("book", "pen"))
    settings = {bench.planted.settings_of(arm, seen) for arm in arms.values()}
    assert len(settings) == len(arms) - 1  # the oracle has other sentences
    assert settings.isdisjoint({bench.planted.settings_of(arm, other) for arm in arms.values()})


@pytest.mark.slow
def test_planted_sentences_are_run_once_for_each_model(
    bench: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = noise("one", ("cup", "book", "photo", "red cup"), 0, pool=4, test=6)
    encoders = {name: tiny_encoder(seed) for seed, name in enumerate(("a", "b"))}
    monkeypatch.setattr(bench.planted, "passed", lambda encoder, name: see(encoder, data) if name == "one" else None)
    monkeypatch.setattr(bench.planted.percept, "load", lambda name, dtype: encoders[name])
    options = SimpleNamespace(models="a", sets="one,two", shots="1,2", shares="0.25", seeds=1, epochs=2)
    first = bench.planted.run_all(options, [tmp_path / "runs.jsonl"])
    assert {(r["model"], r["data"]) for r in first} == {("tiny 0", "one")}
    assert len({r["steps"] for r in first if r["shots"] == 2}) == 1
    options.models = "a,b"
    both = bench.planted.run_all(options, [tmp_path / "runs.jsonl"])
    assert both[: len(first)] == first
    assert len(both) == len((tmp_path / "runs.jsonl").read_text().splitlines()) == 2 * len(first)
    assert bench.planted.recorded(options, [tmp_path / "runs.jsonl"]) == both
    row = bench.planted.report(both)["rows"][0]
    assert (row["cells"], row["verdict"]) == (2, "too few cells")  # two models, whose shots are averaged


def test_a_run_that_rejects_nothing_has_no_precision(bench: SimpleNamespace) -> None:
    common = {
        "share": 0.5,
        "pattern": "places",
        "label": "selection",
        "data": "one",
        "model": "m",
        "all": 0.5,
        "wrong": 0.5,
    }
    runs = [common | {"seed": seed, "recall": 0.5, "rejected": 0.2, "precision": 0.9} for seed in range(6)]
    idle = [each | {"shots": 4, "recall": 0.0, "rejected": 0.0, "precision": 0.0} for each in runs]
    (row,) = bench.planted.report([*runs, *idle])["rows"]
    assert (row["precision"], row["recall"], row["verdict"]) == (pytest.approx(0.9), 0.25, "holds")
    (row,) = bench.planted.report(idle)["rows"]
    assert ("precision" in row, row["verdict"]) == (False, "not measured")


def test_bits_have_an_interval_over_images_and_one_over_cells(bench: SimpleNamespace) -> None:
    rng = np.random.default_rng(0)
    style = rng.integers(0, 2, 80)
    weights = np.where(rng.random(80) < 0.8, style, 1 - style)[:, None] == np.arange(2)
    found = bench.mixture.bits_of(weights.astype(float), style)
    assert 0 < found.low < found.value < found.high < 1
    runs = [
        {"label": "mocoop", "data": "near-far", "foundation": "m", "seed": seed, "split": "base", "shots": 16, "scores": {"bits": [0.3 + seed / 100, 0.1, 0.5]}}
        for seed in range(6)
    ]  # fmt: skip
    row = bench.mixture.report(runs)["claims"][-1]
    assert (row["verdict"], row["cells"]) == ("holds", 6)
    assert 0.3 <= row["interval"][0] < row["interval"][1] <= 0.35
