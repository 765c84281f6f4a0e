"""The comparison of RLCF: a small one is run, resumed and written; the rate is chosen on training images; arms start from the plain model."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rlcf
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
    """Two beds of noise, a policy and a reward model with random towers, and a few images."""
    encoders = {"policy": tiny_encoder(0), "reward": tiny_encoder(1)}
    sets = {"one": noise("one", CLASSES, 0, pool=2, read=read), "two": noise("two", CLASSES[::-1], 1)}
    monkeypatch.setattr(
        rlcf, "BEDS", {name: lambda data=data: data for name, data in sets.items()} | {"absent": lambda: None}
    )
    monkeypatch.setattr(rlcf.percept, "load", lambda name, dtype: encoders[name])
    return rlcf.Options(
        policies=("policy",), reward="reward", beds=("one", "two"), count=5, gallery=4, views=4, rates=(1e-3, 1e-2), query_rates=(1e-5, 1e-3),
        runs=tmp_path / "runs.jsonl", json_file=tmp_path / "rlcf.json",
    )  # fmt: skip


def test_a_small_comparison_is_run_resumed_and_written(options: rlcf.Options) -> None:
    assert options.runs is not None
    assert options.json_file is not None
    rlcf.main(options)
    lines = options.runs.read_text().splitlines()
    assert [json.loads(line)["bed"] for line in lines] == ["one", "two"]
    result = json.loads(options.json_file.read_text())
    arms = {"un-adapted", "mean of views", "mean of kept views", "reward model alone", "both models", *rlcf.OBJECTIVES, "judged by itself"}  # fmt: skip
    assert arms <= set(result["classification"]["cells"][0])
    assert {row["n"] for row in result["classification"]["claims"]} == {10}
    assert {row["arms"] for row in result["classification"]["claims"]} >= {
        "RLCF - un-adapted",
        "random reward - un-adapted",
    }
    assert set(result["retrieval"]["R@1"]) == {"un-adapted", "reward model alone", "RLCF", "random reward", "distilled"}
    assert set(result["retrieval"]["rates"]) == {"policy"}
    assert [cell["bed"] for cell in rlcf.cells(options, options.runs)] == ["one", "two"]
    assert options.runs.read_text().splitlines() == lines
    assert [len(cell["truth"]) for cell in rlcf.cells(replace(options, count=3), options.runs)] == [3, 3]
    assert len(options.runs.read_text().splitlines()) == 4


def test_the_rate_is_chosen_on_training_images(options: rlcf.Options, read: list[int]) -> None:
    policy, reward = rlcf.percept.load("policy", dtype="float32"), rlcf.percept.load("reward", dtype="float32")
    data = rlcf.bed_of("one")
    assert rlcf.chosen_rate(policy, reward, replace(options, count=100)) in options.rates
    assert set(read) == set(data.pool.tolist())
    assert rlcf.best_rate((3e-2, 1e-3, 7e-3), lambda rate: 0.5) == 1e-3


def test_the_prompt_starts_as_the_un_adapted_model() -> None:
    encoder: Encoder = tiny_encoder()
    data = noise("one", CLASSES, 0)
    judge = rlcf.Judge.of(encoder, data)
    vector, cosine = judge.see(data, 3, 4)
    assert vector.shape == (4, 12)
    with torch.no_grad():
        logits = rlcf.policy_of(judge, data)(vector)
    torch.testing.assert_close(logits, judge.scale * cosine, atol=1e-4, rtol=1e-4)


def test_a_bed_that_is_unknown_or_absent_is_named(options: rlcf.Options) -> None:
    for name in ("absent", "onne"):
        with pytest.raises(PerceptError, match=name):
            rlcf.bed_of(name)


def test_confident_mistakes_are_those_above_the_median() -> None:
    record: dict[str, Any] = {
        "truth": [0, 0, 0, 0], "answers": {"un-adapted": [1, 1, 0, 1], "sure": [90, 20, 80, 70], "RLCF": [0, 0, 0, 1]},
    }  # fmt: skip
    found = rlcf.corrected([record], "RLCF")
    assert found is not None
    assert (found["corrected"], found["n"]) == (1.0, 1)  # only the first: it is wrong and its confidence is above 75
    right = record | {"answers": record["answers"] | {"un-adapted": [0, 0, 0, 0]}}
    assert rlcf.corrected([right], "RLCF") is None
    assert rlcf.compared([record], "RLCF", "un-adapted")["difference"] == pytest.approx(np.mean([1, 1, 0, 0]))
