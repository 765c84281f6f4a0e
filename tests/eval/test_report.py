"""The evaluations of the report, against loops and known answers; and the report itself."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from percept.cli import main
from percept.eval import confidence, correspondence, dense, memory, page, record, speed, video
from percept.eval.calibration import ece
from percept.eval.report import SUITE
from percept.eval.table import EVALUATIONS, Plan
from percept.models.clip import CLIP
from percept.train.meters import operations
from percept.world.render import Rendering, render
from tests.eval.sets.layouts import write
from tests.infer import tiny


def test_ridge_in_parts_finds_a_linear_map_with_offset():
    rng = torch.Generator().manual_seed(0)
    inputs, map_ = torch.randn(4000, 5, generator=rng) * 3 + 1, torch.randn(5, 2, generator=rng)
    targets = inputs.double() @ map_.double() + 7
    weights = dense.ridge(iter([(inputs[:100], targets[:100]), (inputs[100:], targets[100:])]))
    assert torch.allclose(weights[:-1], map_.double(), atol=5e-3)
    assert torch.allclose(weights[-1], torch.tensor(7.0, dtype=torch.float64), atol=2e-2)


def test_targets_are_shares_of_groups_and_mean_depth():
    scene = dense.scenes("fit", 1, seed=0, split="train")[0]
    truth = dense.truth_of(render(scene))
    targets = truth.targets((2, 2))
    quarter = truth.group[:48, :48]
    expected = [(quarter == group).double().mean() for group in range(len(dense.GROUPS))]
    assert torch.allclose(targets[0, :-1], torch.stack(expected))
    assert targets[0, -1] == pytest.approx(float(truth.depth[:48, :48].double().mean()))
    assert torch.allclose(targets[:, :-1].sum(1), torch.ones(4, dtype=torch.float64))


def test_the_thing_of_a_pair_is_the_same_thing():
    for pair in correspondence.pairs(4, seed=0, split="evaluation"):
        first, second = pair.first.scene.things[0], pair.second.scene.things[0]
        assert (first.category, first.seed, first.flip) == (second.category, second.seed, second.flip)
        assert (first.colour != second.colour) == pair.recoloured
        cut = [_cut(each) for each in (pair.first, pair.second)]
        both, either = (cut[0] & cut[1]).sum(), (cut[0] | cut[1]).sum()
        assert both / either > 0.75


def _cut(rendering: Rendering) -> torch.Tensor:
    """Return the mask of the thing in its box, as 32 × 32 pixels."""
    assert rendering.masks is not None
    left, top, right, bottom = (rendering.boxes[0] * 96).round().astype(int)
    inside = torch.from_numpy(rendering.masks[0][top:bottom, left:right]).float()
    return F.interpolate(inside[None, None], (32, 32))[0, 0] > 0.5


def _pair() -> correspondence.Pair:
    return next(correspondence.pairs(1, seed=1, split="evaluation"))


def test_points_with_true_features_are_found_and_with_constant_ones_are_not():
    pair = _pair()
    centres = correspondence.patch_centres((24, 24))
    start, end = pair.first.boxes[0], pair.second.boxes[0]

    def features(points):  # unlike any other place: cosines fall with distance
        return F.normalize(torch.cat([torch.cos(points), torch.sin(points)], dim=1), dim=1).unflatten(0, (24, 24))

    there = features(correspondence.carried(centres, start, end))
    found = correspondence.errors(there, features(centres), pair)
    assert found is not None
    assert found[0].max() < 0.1
    same = correspondence.errors(torch.ones(24, 24, 3), torch.ones(24, 24, 3), pair)
    assert same is not None
    assert same[0].max() > 0.2


def test_a_thing_smaller_than_the_patches_has_a_point_too():
    pair = _pair()
    found = correspondence.errors(torch.ones(2, 2, 3), torch.ones(2, 2, 3), pair)
    assert found is not None
    assert len(found[0]) >= 1


def test_the_iou_of_an_image_is_that_of_its_own_groups():
    truth = dense.Truth(group=torch.tensor([[0, 0], [2, 2]]), depth=torch.full((2, 2), 0.5))
    guess = torch.zeros(len(dense.GROUPS) + 1, 2, 2)
    guess[0, 0, 0] = guess[2, 1] = guess[3, 0, 1] = 1.0  # a group that is not in the image takes a pixel
    guess[-1] = 0.25
    found = dense.outcome(guess, truth)
    assert (found.iou, found.error, found.depth) == (0.75, 0.25, (0.5, 0.25))
    assert found.groups == ([dense.GROUPS[0], dense.GROUPS[2]], [dense.GROUPS[group] for group in (0, 2, 3)])


def test_reliability_bins_give_the_calibration_error():
    rng = np.random.default_rng(0)
    shares, right = rng.random(500), rng.random(500) < 0.5
    bins = confidence.reliability(shares, right)
    error = sum(each["n"] * abs(each["accuracy"] - each["confidence"]) for each in bins) / 500
    assert error == pytest.approx(ece(shares, right))
    assert sum(each["n"] for each in bins) == 500


@pytest.mark.parametrize("tower", ["vision", "text"])
def test_operations_are_those_of_the_towers(tower):
    config = tiny.config()
    model = CLIP(config).eval()
    ids = torch.ones(1, tiny.CONTEXT, dtype=torch.int64)
    ids[:, -1] = 5
    work = {
        "vision": lambda: model.encode_image(torch.zeros(1, 3, tiny.SIZE, tiny.SIZE)),
        "text": lambda: model.encode_text(ids),
    }
    with torch.no_grad(), torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        expected = operations(work[tower])
    assert speed.operations_of(tiny.encoder(), tower) == expected > 0


def test_memory_of_a_model_in_a_process_of_its_own(tmp_path):
    folder = tiny.folder(tmp_path / "model", text=False)
    scores = {score.name: score for score in memory.memory(str(folder), {"device": "cpu", "dtype": "float32"})}
    numbers = sum(parameter.numel() for parameter in tiny.model(text=False).parameters())
    assert scores["weights"].value == pytest.approx(numbers * 4 / 1e6, rel=0.05)
    assert scores["peak while a batch is embedded"].value > 50
    assert memory.memory(str(tmp_path / "nothing"), {}) == []


@pytest.fixture
def quick(monkeypatch):
    """Short speed measurements, and none of memory, which starts a process."""
    monkeypatch.setattr(speed, "TURNS", 2)
    monkeypatch.setattr(speed, "SECONDS", 0.01)
    monkeypatch.setattr(memory, "memory", lambda *_: [memory._measured_once("weights", 1.0)])


def test_two_models_side_by_side(tmp_path, quick, capsys, monkeypatch):
    monkeypatch.setenv("PERCEPT_CACHE", str(tmp_path / "cache"))
    whole, spatial = tiny.folder(tmp_path / "whole"), tiny.folder(tmp_path / "spatial", text=False)
    out = tmp_path / "cards" / "card.html"
    assert main(["report", str(whole), str(spatial), "--count", "12", "--out", str(out)]) == 0
    capsys.readouterr()
    cards = [json.loads((out.parent / f"card.{name}.json").read_text()) for name in ("whole", "spatial")]
    assert {row["evaluation"] for row in cards[0]["scores"]} == {*SUITE, "memory"} - {"artists"}
    assert {row["evaluation"] for row in cards[1]["scores"]} == {"dense", "correspondence", "speed", "memory"}
    assert cards[1]["facts"]["zeroshot"].startswith("left out: tiny has no text tower")
    assert "python benchmarks/corpora.py fetch" in cards[0]["facts"]["artists"]
    html = out.read_text()
    assert "tiny (1)" in html
    assert "tiny (2) left out: tiny has no text tower" in html
    assert "not measured" in html
    assert not re.search(r"<script|<link|\bsrc=|https?://|@import|url\(", html)
    assert (
        main(
            [
                "report",
                *(str(out.parent / f"card.{name}.json") for name in ("spatial", "whole")),
                "--out",
                str(tmp_path / "again.html"),
            ]
        )
        == 0
    )
    assert "tiny (2)" in (tmp_path / "again.html").read_text()
    assert main(["compare", *(str(out.parent / f"card.{name}.json") for name in ("whole", "spatial"))]) == 0
    printed = capsys.readouterr()
    assert "dense: world, IoU of groups per image" in printed.out
    assert "without samples, so not compared: speed, memory" in printed.err


@pytest.fixture
def drawings(tmp_path, monkeypatch):
    """Drawings by two artists of three kinds, where `benchmarks/corpora.py fetch` would put them."""
    monkeypatch.setenv("PERCEPT_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "cache" / "corpora" / "emoji"
    for number in range(3):
        write(folder / f"{number}.png", number)
    for artist in ("google", "openmoji"):
        write(folder / f"kinds_{artist}.csv", "path,label\n0.png,cup\n1.png,dog\n2.png,owl\n")


def test_the_shift_of_artists_is_in_the_report_where_there_are_drawings(tmp_path, drawings, quick, capsys):
    out = tmp_path / "card.html"
    assert main(["report", str(tiny.folder(tmp_path / "model")), "--count", "6", "--out", str(out)]) == 0
    capsys.readouterr()
    found = json.loads(out.with_suffix(".json").read_text())
    own = {row["name"]: row for row in found["scores"] if row["evaluation"] == "artists"}
    assert {"google top-1", "openmoji top-1", "mean of the 2 domains"} <= set(own)
    assert own["openmoji top-1"]["n"] == 2  # a third of the plan
    assert [(each["evaluation"], each["name"]) for each in found["data"]] == [
        ("artists", "google"),
        ("artists", "openmoji"),
    ]
    assert {row["name"] for row in found["scores"] if "target" in row}  # those of the world stay
    assert "Drawings by artists" in out.read_text()
    assert "Images: evaluation split, seed 0; google, 2 samples" in out.read_text()
    samples = record.read(out.with_suffix(".samples.jsonl"))
    assert ("artists", "google", "top-1") in samples
    lines = out.with_suffix(".md").read_text().splitlines()
    assert "- images: `evaluation split, seed 0`" in lines
    assert any(line.startswith("- data google: `2 samples") for line in lines)


def test_a_model_that_cannot_be_opened_does_not_stop_the_others(tmp_path, capsys):
    (tmp_path / "card.json").write_text(json.dumps(card()))
    out = tmp_path / "page.html"
    assert main(["report", "nano@int8", str(tmp_path / "card.json"), "--out", str(out)]) == 2
    printed = capsys.readouterr()
    assert "nano@int8 is not on the page: int8 is only for exports" in " ".join(printed.err.split())
    assert f"wrote {out}" in printed.err.replace("\n", "")
    assert out.read_text().startswith("<!doctype html")


def test_a_wrong_name_is_reported_before_anything_is_measured(tmp_path, capsys):
    out = tmp_path / "page.html"
    assert main(["report", "nano", "nanno", "--count", "6", "--out", str(out)]) == 2
    printed = capsys.readouterr()
    assert "unknown model 'nanno'" in printed.err
    assert "measuring" not in printed.err + printed.out
    assert list(tmp_path.iterdir()) == []


def test_a_card_has_the_name_that_was_given(tmp_path, quick, capsys):
    model = str(tiny.folder(tmp_path / "model"))
    out = tmp_path / "page.html"
    assert main(["report", model, f"{model}@float32", "--count", "6", "--out", str(out)]) == 0
    capsys.readouterr()
    names = {json.loads(file.read_text())["model"]["name"] for file in tmp_path.glob("page.*.json")}
    assert names == {"tiny", "tiny@float32"}


def test_a_card_has_the_schema_of_percept_eval(tmp_path, quick, capsys):
    model = str(tiny.folder(tmp_path / "model"))
    assert main(["report", model, "--count", "6", "--out", str(tmp_path / "a.html")]) == 0
    assert main(["eval", "zeroshot", "--count", "6", "--model", model, "--out", str(tmp_path / "b.json")]) == 0
    capsys.readouterr()
    one, two = (json.loads((tmp_path / name).read_text()) for name in ("a.json", "b.json"))
    assert one.keys() == two.keys()
    same = [[row for row in card["scores"] if row["evaluation"] == "zeroshot"] for card in (one, two)]
    assert same[0] == same[1]
    assert set(SUITE) <= set(EVALUATIONS)


def card(**changes):
    score = {
        "evaluation": "zeroshot",
        "name": "category top-1",
        "value": 0.5,
        "unit": "share",
        "better": "more",
        "n": 4,
        "low": 0.1,
        "high": 0.9,
    }
    whole = {
        "model": {"name": "a", "image": "ab", "text": None, "dim": 3}, "command": "percept report a", "seed": 0, "split": "evaluation",
        "seconds": {"zeroshot": 1.0}, "scores": [score], "confusions": [], "facts": {},
    }  # fmt: skip
    return {**whole, **changes}


def test_texts_of_cards_are_escaped():
    evil = "<script>alert(1)</script>"
    html = page.render(
        [card(model={"name": evil, "image": evil, "text": None, "dim": 3}, command=evil, facts={evil: evil})]
    )
    assert "<script" not in html
    assert "&lt;script&gt;" in html


def test_cards_that_cannot_be_compared_say_so():
    html = page.render([card(), card(seed=1, facts={"machine": "other"})])
    assert "measured on different images" in html
    assert "speeds cannot be compared" in html
    more = {**card()["scores"][0], "n": 9}
    assert "measured on different images" in page.render([card(), card(scores=[more])])
    assert "measured on different images" not in page.render([card(), card()])


def test_a_card_of_a_set_of_ones_own_names_the_set():
    own = {"evaluation": "zeroshot", "name": "pets", "samples": 24, "hash": "40d5e60e0d7c99"}
    html = page.render([card(), card(data=[own], scores=[{**card()["scores"][0], "name": "pets top-1"}])])
    assert (
        "Images: evaluation split, seed 0. Images: pets, 24 samples, hash 40d5e60e0d7c. The models were measured on"
        in html
    )
    assert "Classification: pets top-1" in html  # in the first table, with the score of the other card
    assert "Classification: category top-1" in html
    assert "--data" not in html


def test_a_clearly_best_value_is_bold_and_less_is_better_where_it_is():
    error = {"evaluation": "calibration", "name": "ECE", "unit": "share", "better": "less", "n": 4}
    bounds = {0.25: (0.2, 0.3), 0.125: (0.1, 0.15)}
    apart = [{**error, "value": value, "low": low, "high": high} for value, (low, high) in bounds.items()]
    html = page.render([card(scores=[score]) for score in apart])
    assert '<td class="n best">12.5 %' in html
    assert '<td class="n">25.0 %' in html
    near = [{**score, "high": 0.4} for score in apart]
    assert 'class="n best"' not in page.render([card(scores=[score]) for score in near])


def test_speeds_of_different_machines_are_not_marked():
    speed = {"evaluation": "speed", "name": "images per second", "unit": "", "better": "more", "n": 5}
    rows = [{**speed, "value": value, "low": value - 1, "high": value + 1} for value in (10.0, 20.0)]
    alike = [card(scores=[row], facts={"device": "cpu, float32"}) for row in rows]
    assert 'class="n best"' in page.render(alike)
    other = [alike[0], {**alike[1], "facts": {"device": "cpu, bfloat16"}}]
    assert 'class="n best"' not in page.render(other)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no model was given"),
        (["nano", "--out", "card.pdf"], "Give a name such as card.html"),
        (["a", "b", "--weights", "w.pt"], "belong to one model"),
        (["missing.json"], "missing.json cannot be read"),
        (["other.json"], "is not a report card: it has no command"),
        (["old.json"], "is not a report card: it has no unit"),
        (["nanoo"], "nano"),
    ],
)
def test_bad_input(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.json").write_text('{"model": {}}')
    (tmp_path / "old.json").write_text(
        json.dumps(card(scores=[{"evaluation": "zeroshot", "name": "top-1", "value": 1.0}]))
    )
    assert main(["report", *arguments]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert error.startswith("percept report: ")
    assert message in error


def test_a_plan_smaller_than_the_suite_still_runs():
    model = tiny.encoder()
    for run in (dense.run, correspondence.run, video.run, confidence.run):
        assert run(model, replace(Plan(), count=1)).scores
