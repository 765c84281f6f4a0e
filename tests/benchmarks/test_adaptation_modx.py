"""The comparison of Mod-X: its streams, a small one that is run, resumed and judged, planted rotations, and claims over cells."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import modx
import modx_report
import modx_streams
import numpy as np
import pytest
import recorded
import torch

from percept.core.errors import PerceptError
from percept.eval import statistics
from percept.eval.retrieval import same
from percept.methods.continual.modx import BATCH
from percept.models.clip import unit
from percept.world import CATEGORIES
from tests.benchmarks.small import tiny_encoder


@pytest.fixture
def options(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> modx.Options:
    """Random encoders of a few thousand parameters; the gate leaves out three parts of one stream."""
    monkeypatch.setattr(statistics, "RESAMPLES", 20)
    monkeypatch.setattr(modx.percept, "load", lambda name, dtype: tiny_encoder(int(name)))
    monkeypatch.setattr(modx, "passes", lambda name, *_: name not in ("fog", "psychedelic", "pixels"))
    return modx.Options(
        models=("0",), seeds=(1,), steps=2, batch=4, pairs=6, test=6, old=12, rates=(1e-3, 1e-2), strengths=(1.0, 2.0), runs=(tmp_path / "a.jsonl",), json_file=tmp_path / "modx.json",
    )  # fmt: skip


def test_claims_name_arms_and_streams_differ_in_size() -> None:
    assert {arm for claim in modx_report.CLAIMS for arm in (claim.arm, claim.than) if arm} == set(modx.HEADLINE)
    assert set(modx_report.TOGETHER) <= set(modx.HEADLINE)
    assert modx.method_of("Mod-X, weight 5", tiny_encoder(), 40).config == modx.ModX.Config(weight=5 * BATCH / 40)
    assert modx.method_of("EWC", tiny_encoder(), 40, 3.0).config == modx.EWC.Config(strength=3.0)
    assert [len(each.parts) for each in modx_streams.STREAMS.values()] == [5, 3]
    groups = [part.groups for part in (*modx_streams.STREAMS["contents"].parts, modx_streams.STREAMS["contents"].never)]
    assert sorted(sum(groups, ())) == sorted({each.group for each in CATEGORIES.values()})
    assert modx.method_of("Mod-X", tiny_encoder(), 40).config == modx.ModX.Config(weight=20 * BATCH / 40)
    assert modx.method_of("continued", tiny_encoder(), 40).config == modx.ModX.Config(weight=0.0)


def test_pairs_are_of_their_domain_and_differ_between_seeds() -> None:
    animals = modx_streams.STREAMS["contents"].parts[0]
    one, other = (modx_streams.pairs_of(tiny_encoder(), animals, 6, seed) for seed in (1, 2))
    assert {CATEGORIES[kind].group for kinds in one.kinds for kind in kinds} == {"animal"}
    assert not torch.equal(one.pixels, other.pixels)
    again = modx_streams.pairs_of(tiny_encoder(), animals, 6, 1)
    assert torch.equal(one.pixels, again.pixels)
    assert one.captions == again.captions
    both = modx_streams.joined([one, other])
    model = tiny_encoder().model
    with torch.no_grad():
        torch.testing.assert_close(model.embed_text(both.tokens[6:]), model.embed_text(other.tokens))
    first, second = modx_streams.views(tiny_encoder(), one, [0, 3], 5)
    assert first.shape == second.shape == (2, 3, 16, 16)
    assert not torch.equal(first, second)


@pytest.mark.slow
def test_a_small_comparison_is_run_resumed_and_judged(options: modx.Options) -> None:
    file = options.runs[0]
    modx.main(options)
    modx.main(replace(options, streams=("contents",), arms=("continued", "Mod-X"), seeds=(1, 2)))
    modx.main(replace(options, seeds=(1, 2), report=True))
    lines = file.read_text().splitlines()
    records = [json.loads(line) for line in lines]
    tuned = [each for each in records if each["stream"] == "tuning"]
    assert len(tuned) == len(modx.HEADLINE) * 2 + 2  # two rates, and EWC two strengths with each
    assert len(lines) == len(tuned) + 2 * (1 + len(modx.HEADLINE)) + 2
    assert {each["strength"] for each in records if each["arm"] == "EWC"} <= {1.0, 2.0}
    assert {each["strength"] for each in records if each["arm"] == "Mod-X"} == {0.0}
    styles = next(r for r in records if (r["stream"], r["arm"]) == ("styles", "Mod-X"))
    assert styles["parts"] == ["comic", "chalk"]
    assert [len(phase["trained"]) for phase in styles["phases"]] == [0, 1, 2]
    assert set(styles["phases"][2]["domains"]) == {"old", "comic", "chalk", "blueprint"}
    assert styles["phases"][1]["disorder"]["image_rotation"] > 0
    assert len(next(r for r in records if r["arm"] == "joint" and r["stream"] == "styles")["phases"]) == 2
    assert options.json_file is not None
    result = json.loads(options.json_file.read_text())
    assert set(result["claims"]) == {"styles", "contents", "all streams", "planted rotation"}
    assert len(result["claims"]["all streams"]) == len(modx_report.CLAIMS) + 4
    assert {row["cells"] for row in result["claims"]["all streams"]} == {
        2,
        3,
    }  # the second seed has two arms of one stream
    assert {row["verdict"] for row in result["claims"]["all streams"]} == {"too few cells"}
    assert result["runs"] == 2 * len(modx.HEADLINE) + 2


def test_runs_of_several_files_are_judged_together(options: modx.Options, tmp_path: Path) -> None:
    few = replace(options, rates=(1e-3,), streams=("contents",), arms=("continued", "Mod-X"), seeds=(1,))
    for model in ("0", "1"):
        modx.main(replace(few, models=(model,), runs=(tmp_path / f"{model}.jsonl",)))
    files = (tmp_path / "0.jsonl", tmp_path / "1.jsonl")
    before = [file.read_text() for file in files]
    modx.main(replace(few, models=("absent",), runs=files, report=True))
    assert [file.read_text() for file in files] == before
    assert few.json_file is not None
    result = json.loads(few.json_file.read_text())
    assert result["models"] == ["tiny 0", "tiny 1"]
    measured = [row for row in result["claims"]["contents"] if row["verdict"] != "not measured"]
    assert {row["cells"] for row in measured} == {2}
    assert not any("EWC" in row["claim"] for row in measured)
    with pytest.raises(PerceptError, match="no run has these options"):
        modx.main(replace(few, steps=3, runs=files, report=True))
    files[1].write_text(before[0].replace('"vectors": "', '"vectors": "x'))
    with pytest.raises(PerceptError, match="different weights"):
        modx.main(replace(few, runs=files, report=True))


def test_arms_are_trained_on_the_same_batches_and_the_pairs_are_used_evenly() -> None:
    rows = list(modx.batches(10, 4, 5, modx.order(3)))
    assert rows == list(modx.batches(10, 4, 5, modx.order(3))) != list(modx.batches(10, 4, 5, modx.order(4)))
    assert all(len(set(first + second)) == 8 for first, second in ((rows[0], rows[1]), (rows[2], rows[3])))


def test_options_that_cannot_be_run_are_refused() -> None:
    with pytest.raises(PerceptError, match="batch=48"):
        modx.Options(pairs=40)
    with pytest.raises(PerceptError, match="colours is unknown"):
        modx.Options(streams=("colours",))


def test_a_planted_turn_turns_every_vector_by_its_angle_and_its_loss_is_predicted() -> None:
    torch.manual_seed(0)
    matrix = modx_streams.turn(64, 30.0, 1)
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(64), atol=1e-5, rtol=0)
    image = unit(torch.randn(400, 64))
    text = unit(image + 0.7 * torch.randn(400, 64) / 8)
    cosines = (text * (text @ matrix.T)).sum(1)
    torch.testing.assert_close(cosines, torch.full((400,), np.cos(np.pi / 6), dtype=torch.float32), atol=1e-4, rtol=0)
    positive = torch.eye(400, dtype=torch.bool)
    for angle in (0.0, 45.0, 75.0):
        turned = text @ modx_streams.turn(64, angle, 2).T
        measured = modx_streams.recall(image, turned, positive)
        assert measured == pytest.approx(modx_streams.predicted(image, text, positive, angle), abs=0.06)
    assert measured[0] < 0.5 < modx_streams.recall(image, text, positive)[0]
    together = modx_streams.recall(image @ matrix.T, text @ matrix.T, positive)
    assert together == modx_streams.recall(image, text, positive)


def test_equal_captions_are_right_answers() -> None:
    image, captions = torch.eye(3), ["a cup", "A cup ", "a book"]
    assert modx_streams.recall(image, image[[1, 0, 2]], same(captions)) == [1.0, 1.0]
    assert modx_streams.recall(image, image[[1, 2, 0]], same(captions)) == [pytest.approx(1 / 3, abs=1e-4)] * 2


def record(arm: str, seed: int, old: Sequence[float], disorder: Sequence[float], new: float = 0.5) -> dict[str, Any]:
    def phase(number: int) -> dict[str, Any]:
        domains = {name: {"R@1": [new, new], "alike": 0.5} for name in ("one", "two", "never")}
        domains["old"] = {"R@1": [old[number]] * 2, "alike": 0.5}
        angles = dict.fromkeys(("image_rotation", "text_rotation", "deviation", "covered", "total"), disorder[number])
        return {"domains": domains, "disorder": angles, "predicted R@1": [0.5, 0.5]}

    common = {"model": "m", "stream": "s", "arm": arm, "seed": seed, "parts": ["one", "two"], "never": "never", "rate": 1e-4, "strength": 0.0, "seconds": 1.0}  # fmt: skip
    return common | {"phases": [phase(number) for number in range(3)]}


def test_verdicts_follow_the_sign_and_the_margin() -> None:
    records = []
    for seed in range(6):
        shift = seed / 100
        records.append(record("continued", seed, (0.8, 0.6 + shift, 0.4 + shift), (0, 10, 20)))
        records.append(record("Mod-X", seed, (0.8, 0.75, 0.7), (0, 2, 4), new=0.45 if seed else 0.47))
    rows = {
        each.words: recorded.judged(records, each, modx_report.CELL, modx_report.scores) for each in modx_report.CLAIMS
    }
    found = {words: row["verdict"] for words, row in rows.items()}
    assert found["Mod-X keeps the old domain above continued training"] == "holds"
    assert found["Mod-X has less disorder than continued training"] == "holds"
    assert found["continued training loses R@1 of the old domain"] == "holds"
    assert found["Mod-X is at most 2 points below continued training on a part just learned"] == "does not hold"
    assert found["the filter keeps the old domain above the alignment of all rows"] == "not measured"
    row = modx_report.correlated(records, "total")
    assert row is not None
    assert (row["value"], row["cells"], row["verdict"]) == (1.0, 6, "holds")
    assert modx_report.worth(records[0], False) == pytest.approx((0.5 + 0.5 + 0.4) / 3)
