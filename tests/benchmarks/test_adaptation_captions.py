"""The comparison of adapted captions: a small one is run, resumed and judged; images are interval units, and the policy is as before."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rlcf_captions
import rlcf_report
import torch
from modx_streams import STREAMS

from percept.core.errors import PerceptError
from percept.eval import statistics
from percept.eval.vlm.captions import cider
from percept.world import shows_colour
from tests.benchmarks.small import tiny_encoder
from tests.infer.speaking import assistant

ARMS = ("un-adapted", "best of samples", *rlcf_captions.OBJECTIVES)


@pytest.fixture
def options(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> rlcf_captions.Options:
    """A random assistant and a random encoder, two beds that pass the gate, one that does not, and a few images."""
    policy, reward = assistant(), tiny_encoder()
    monkeypatch.setattr(statistics, "RESAMPLES", 20)
    monkeypatch.setattr(rlcf_captions.percept, "assistant", lambda name, dtype: policy)
    monkeypatch.setattr(rlcf_captions.percept, "load", lambda name, dtype: reward)
    monkeypatch.setattr(rlcf_captions, "passes_gate", lambda bed, *_, **__: bed != "fog")
    for name, value in {"GATED": 1, "TOKENS": 4, "REFERENCES": 2}.items():
        monkeypatch.setattr(rlcf_captions, name, value)
    return rlcf_captions.Options(
        policies=("speaking",), reward="tiny", beds=("comic", "fog", "chalk"), seeds=(1, 2), count=2, steps=1, samples=2, rates=(1e-3, 1e-2),
        runs=(tmp_path / "runs.jsonl",), json_file=tmp_path / "captions.json",
    )  # fmt: skip


@pytest.mark.slow
def test_a_small_comparison_is_run_resumed_and_judged(options: rlcf_captions.Options, tmp_path: Path) -> None:
    policy = rlcf_captions.percept.assistant("speaking", dtype="float32")
    before, file = rlcf_captions.weights(policy), options.runs[0]
    assert options.json_file is not None
    rlcf_captions.main(replace(options, seeds=(1,)))
    rlcf_captions.main(options)
    assert rlcf_captions.weights(policy) == before
    lines = file.read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [(r["bed"], r["seed"]) for r in records] == [("comic", 1), ("chalk", 1), ("comic", 2), ("chalk", 2)]
    assert tuple(records[0]["arms"]) == ARMS
    assert [len(texts) for texts in records[0]["references"]] == [2, 2]
    assert set(records[0]["rates"]) == set(rlcf_captions.OBJECTIVES)
    result = json.loads(options.json_file.read_text())
    assert set(result["means"]) == set(ARMS)
    assert result["images"] == 8
    claims = {row["claim"]: row for row in result["claims"]}
    assert claims["right: RLCF - un-adapted"]["cells"] == 4
    assert claims["right: random reward - un-adapted"]["claimed"] == "below 0.01"
    assert {row["verdict"] for row in claims.values()} == {"too few cells"}
    assert {name for _, arm, than, _ in rlcf_report.CAPTION_CLAIMS for name in (arm, than)} == set(ARMS)
    rlcf_captions.main(replace(options, report=True, policies=()))
    assert file.read_text().splitlines() == lines
    assert json.loads(options.json_file.read_text())["claims"] == result["claims"]
    with pytest.raises(PerceptError, match="no run to judge"):
        rlcf_captions.main(replace(options, report=True, steps=2))
    second = tmp_path / "second.jsonl"
    second.write_text(json.dumps(records[0] | {"seed": 9, "weights": "others"}) + "\n")
    with pytest.raises(PerceptError, match="different weights"):
        rlcf_captions.main(replace(options, report=True, runs=(file, second)))


def test_images_are_of_one_thing_and_captions_are_graded_by_its_kind_and_colour() -> None:
    assert set(rlcf_captions.SHIFTS) == {part.name for part in STREAMS["styles"].parts}
    (one,), (again,), (other,) = (rlcf_captions.drawn("comic", 1, seed) for seed in (3, 3, 4))
    assert one.image.tobytes() == again.image.tobytes()
    assert one.image.tobytes() != other.image.tobytes()
    kind, colour = one.truth["kind"], one.truth["colour"]
    assert one.right(f"a drawing of a {colour} {kind} on a table") == 1
    assert one.right(f"a {kind}") == one.right("a photo") == 0
    assert all(kind in text for text in one.references)
    (chalk,) = rlcf_captions.drawn("chalk", 1, 3)
    assert chalk.truth["colour"] == ""
    assert chalk.right(f"a {chalk.truth['kind']}") == 1
    scene = next(STREAMS["styles"].parts[0].scenes(3))
    assert shows_colour(scene)
    with pytest.raises(PerceptError, match="bed"):
        rlcf_captions.Options(beds=("comics",))


def test_the_best_of_samples_is_the_one_that_the_reward_model_likes(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, options = assistant(), rlcf_captions.Options(steps=2, samples=2)
    work = rlcf_captions.Captioning(policy, tiny_encoder(), options)
    (one,) = rlcf_captions.drawn("comic", 1, 3)
    asks: list[list[str]] = []
    monkeypatch.setattr(
        rlcf_captions.Captioning, "cosines", lambda self, image, texts: (asks.append(list(texts)), torch.arange(len(texts)))[1]
    )  # fmt: skip
    monkeypatch.setattr(rlcf_captions, "TOKENS", 4)
    assert work.best(one, "a cup") == asks[0][-1]
    assert len(asks[0]) == 1 + 2 * 2
    assert asks[0][0] == "a cup"


def cell(bed: str, seed: int, right: list[float], policy: str = "p") -> dict[str, Any]:
    """A record in which RLCF is right about some images, and no other arm about any."""
    texts = ["a red cup", "a blue dog"]
    arms = {arm: {"captions": texts, "right": [0.0, 0.0], "reward": [0.2, 0.3]} for arm in ARMS}
    arms["RLCF"] = {"captions": ["a red cup", "a dog"], "right": right, "reward": [0.2, 0.5]}
    return {"policy": policy, "bed": bed, "seed": seed, "references": [["a red cup"], ["a blue dog", "a dog"]], "arms": arms, "rates": {}}  # fmt: skip


def test_scores_are_of_images_and_policies_share_them() -> None:
    records = [cell("comic", seed, [1.0, 0.0]) for seed in range(3)]
    scores = rlcf_report.caption_scores(records)[0]
    assert scores["RLCF"]["changed"].tolist() == [0.0, 1.0]
    assert scores["un-adapted"]["changed"].tolist() == [0.0, 0.0]
    texts = [text for each in records for text in each["arms"]["RLCF"]["captions"]]
    wanted = cider(texts, [texts for each in records for texts in each["references"]])
    assert scores["RLCF"]["CIDEr"].tolist() == wanted[:2]
    twice = [*records, *(each | {"policy": "q"} for each in records)]
    values = [np.array([1.0, 0.0])] * 3
    assert rlcf_report.by_images(twice, values * 2) == rlcf_report.by_images(records, values)
    result = rlcf_report.captions_report([cell("comic", seed, [1.0, 1.0]) for seed in range(6)])
    claims = {row["claim"]: row for row in result["claims"]}
    assert claims["right: RLCF - un-adapted"]["verdict"] == claims["right: RLCF - un-adapted"]["verdict over images"] == "holds"  # fmt: skip
    assert claims["right: random reward - un-adapted"]["verdict"] == "holds"
