"""The comparison of RLCF: a small one is run, resumed and written; the rate is chosen on training images; arms start from the plain model."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import recorded
import rlcf
import rlcf_report
import rlcf_search
import torch

from percept.core.errors import PerceptError
from percept.infer.encoder import Encoder
from tests.benchmarks.small import noise, tiny_encoder

CLASSES = ("cup", "old book", "red cup", "photo")


@pytest.fixture
def read() -> list[int]:
    """Rows of the first bed that were read."""
    return []


@pytest.fixture
def options(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, read: list[int]) -> rlcf.Options:
    """Three beds of noise, of which two pass the gate, a policy and a reward model with random towers, and a few images."""
    encoders = {"policy": tiny_encoder(0), "reward": tiny_encoder(1)}
    sets = {"one": noise("one", CLASSES, 0, pool=2, read=read), "two": noise("two", CLASSES[::-1], 1)}
    sets["easy"] = noise("easy", CLASSES, 2)
    monkeypatch.setattr(
        rlcf, "BEDS", {name: lambda data=data: data for name, data in sets.items()} | {"absent": lambda: None}
    )
    monkeypatch.setattr(rlcf, "passed", lambda encoder, name: None if name == "easy" else sets[name])
    monkeypatch.setattr(rlcf.percept, "load", lambda name, dtype: encoders[name])
    return rlcf.Options(
        policies=("policy",), reward="reward", beds=("one", "easy", "two"), seeds=(1,), count=5, gallery=4, queries=3, views=4, rates=(1e-3, 1e-2),
        query_rates=(1e-5, 1e-3), runs=(tmp_path / "runs.jsonl",), json_file=tmp_path / "rlcf.json",
    )  # fmt: skip


@pytest.mark.slow
def test_a_small_comparison_is_run_resumed_and_written(options: rlcf.Options, tmp_path: Path) -> None:
    file = options.runs[0]
    assert options.json_file is not None
    rlcf.main(options)
    lines = file.read_text().splitlines()
    assert [json.loads(line)["bed"] for line in lines] == ["one", "two", "text to image", "image to text"]
    result = json.loads(options.json_file.read_text())
    arms = {"un-adapted", "mean of views", "mean of kept views", "reward model alone", "both models", *rlcf.OBJECTIVES, "judged by itself"}  # fmt: skip
    assert arms <= set(result["classification"]["cells"][0])
    assert set(result["classification"]["cells"][0]["rates"]) == {*rlcf.OBJECTIVES, "judged by itself"}
    claims = {row["claim"]: row for row in result["classification"]["claims"]}
    assert claims["accuracy: RLCF - un-adapted"]["cells"] == 2
    assert claims["accuracy: random reward - un-adapted"]["claimed"] == "below 0.01"
    for direction in ("text to image", "image to text"):
        found = result["retrieval"][direction]
        assert set(found["R@1"]) == {"un-adapted", "reward model alone", "RLCF", "random reward", "distilled"}
        assert set(found["rates"]["tiny 0"]) == set(rlcf_search.SEARCHING)
        assert {row["verdict"] for row in found["claims"]} == {"too few cells"}
    rlcf.main(options)
    assert file.read_text().splitlines() == lines
    few = replace(options, count=3)
    assert [len(cell["truth"]) for cell in rlcf.run_all(few, options.runs)[:2]] == [3, 3]
    assert len(file.read_text().splitlines()) == 6
    second = tmp_path / "second.jsonl"
    second.write_text(json.dumps(json.loads(lines[0]) | {"seed": 2}) + "\n")
    assert len(rlcf.recorded(options, [file, second])) == 5
    rlcf.main(replace(options, report=True, policies=()))
    assert json.loads(options.json_file.read_text())["classification"] == result["classification"]
    with pytest.raises(PerceptError, match="policies"):
        rlcf.main(replace(options, policies=()))


def test_rates_are_chosen_on_training_images_and_views_are_computed_once(
    options: rlcf.Options, read: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, reward = rlcf.percept.load("policy", dtype="float32"), rlcf.percept.load("reward", dtype="float32")
    data, tried = rlcf.bed_of("one"), []
    answer = rlcf.Classifying.answer
    monkeypatch.setattr(
        rlcf.Classifying, "answer", lambda self, arm, rate, *rest: (tried.append((arm, rate)), answer(self, arm, rate, *rest))[1]
    )  # fmt: skip
    rates = rlcf.Classifying.of(policy, reward, data, replace(options, count=100)).chosen_rates()
    assert set(rates) == {*rlcf.OBJECTIVES, "judged by itself"}
    assert set(rates.values()) <= set(options.rates)
    assert sorted(read) == sorted([*data.pool.tolist(), *data.pool.tolist()])  # once by each of both models
    assert set(tried) == {(arm, rate) for arm in rates for rate in options.rates}


def test_retrieval_ranks_items_for_the_query() -> None:
    policy, reward = tiny_encoder(0), tiny_encoder(1)
    for direction, side in rlcf.SIDES.items():
        searching = rlcf_search.Searching(policy, reward, direction, split="evaluation", seed=0, gallery=5, queries=3)
        assert len(searching.views) == len(searching.judged) == 3
        images = [
            rlcf_search.generate(n, split="evaluation", style="mixed", things=(1, 3), truth=False).image
            for n in range(5)
        ]
        vectors = policy.text(searching.texts), policy.image(images)
        query, items = vectors if side == "text" else vectors[::-1]
        with torch.no_grad():
            logits = searching.module(searching.views)
        torch.testing.assert_close(logits, rlcf.scale_of(policy) * query[:3] @ items.T, atol=1e-3, rtol=1e-3)
        hits = searching.hits(lambda query: torch.eye(5)[query])
        assert hits == [1, 1, 1]


def test_the_prompt_starts_as_the_un_adapted_model() -> None:
    encoder: Encoder = tiny_encoder()
    data = noise("one", CLASSES, 0)
    judge = rlcf.Judge.of(encoder, data)
    vector, cosine = judge.see(data, 3, 4)
    assert vector.shape == (4, 12)
    with torch.no_grad():
        logits = rlcf.Classifying(judge, judge, data, rlcf.Options()).module(vector)
    torch.testing.assert_close(logits, judge.scale * cosine, atol=1e-4, rtol=1e-4)


def test_a_bed_that_is_unknown_or_absent_is_named(options: rlcf.Options) -> None:
    for name in ("absent", "onne"):
        with pytest.raises(PerceptError, match=name):
            rlcf.bed_of(name)


def test_confident_mistakes_are_those_above_the_median() -> None:
    record: dict[str, Any] = {
        "truth": [0, 0, 0, 0], "answers": {"un-adapted": [1, 1, 0, 1], "sure": [90, 20, 80, 70], "RLCF": [0, 0, 0, 1]},
    }  # fmt: skip
    assert rlcf_report.corrected(record, "RLCF") == 1.0  # only the first: it is wrong and its confidence is above 75
    right = record | {"answers": record["answers"] | {"un-adapted": [0, 0, 0, 0]}}
    assert rlcf_report.corrected(right, "RLCF") is None
    values = [rlcf.accuracies(record), rlcf.accuracies(right)]
    row = rlcf_report.compared("accuracy", values, "RLCF", "un-adapted")
    assert (row["value"], row["cells"]) == (pytest.approx((0.5 - 0.25) / 2), 2)  # one value of each cell


def test_a_true_null_is_not_above() -> None:
    values = [{"a": 0.5 + 0.001 * seed, "b": 0.5} for seed in (-2, -1, 0, 1, 2, 0)]
    assert rlcf_report.compared("accuracy", values, "a", "b", **recorded.NOT_ABOVE)["verdict"] == "holds"
    assert rlcf_report.compared("accuracy", values, "a", "b", **recorded.ABOVE)["verdict"] == "within noise"
    better = [{"a": 0.6, "b": 0.5}] * 6
    assert rlcf_report.compared("accuracy", better, "a", "b", **recorded.NOT_ABOVE)["verdict"] == "does not hold"


def test_runs_of_two_editions_of_an_encoder_are_refused() -> None:
    record = {"kind": "a", "policy": "p", "weights": "1", "reward": "nano", "reward weights": "1", "settings": "s"}
    place, models = ("kind", "policy", "weights"), {"policy": "weights", "reward": "reward weights"}
    assert recorded.of_one_setting([record, record], place, models) == [record]
    for other in ({"weights": "2"}, {"reward weights": "2", "kind": "b"}):
        with pytest.raises(PerceptError, match="different weights"):
            recorded.of_one_setting([record, record | other], place, models)
    with pytest.raises(PerceptError, match="two different settings"):
        recorded.of_one_setting([record, record | {"settings": "t"}], place, models)
