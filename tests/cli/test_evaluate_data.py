"""`percept eval --data`: one command for a set of one's own."""

import json

import pytest

from percept.cli import main
from tests.eval.sets.layouts import NAMES, benchmark, class_folders, karpathy, write
from tests.infer import tiny


@pytest.fixture
def model(tmp_path) -> list[str]:
    return ["--model", str(tiny.folder(tmp_path / "model"))]


def test_a_card_has_everything_needed_to_measure_again(model, tmp_path, capsys):
    class_folders(tmp_path / "set", NAMES, each=3)
    templates = write(tmp_path / "t.txt", "a photo of {c}\n{}")
    out = tmp_path / "run.json"
    arguments = [
        "zeroshot",
        "--data",
        str(tmp_path / "set"),
        "--templates",
        str(templates),
        "--limit",
        "8",
        "--seed",
        "3",
    ]
    assert main(["eval", *arguments, *model, "--out", str(out)]) == 0
    card = json.loads(out.read_text())
    assert card["seed"] == 3
    assert card["model"]["preprocessing"].startswith("squash to ")
    assert list(card["seconds"]) == ["zeroshot"]
    for row in card["scores"]:
        assert row["low"] <= row["value"] <= row["high"]
        assert row["n"] > 0
        assert "target" not in row
    (data,) = card["data"]
    assert (data["name"], data["samples"], data["unreadable"], data["classes"]) == ("set", 8, 0, 4)
    assert data["request"] == {"path": str(tmp_path / "set"), "limit": 8, "seed": 3}
    assert "--limit 8" in card["command"]
    samples = [json.loads(line) for line in (tmp_path / "run.samples.jsonl").read_text().splitlines()]
    assert len(samples) == 8
    assert set(samples[0]) == {"evaluation", "data", "task", "key", "truth", "prediction", "rank", "right"}
    assert sum(row["right"] for row in samples) == pytest.approx(8 * card["scores"][0]["value"])
    shown = capsys.readouterr()
    assert "8 of 12 samples, drawn at random" in shown.err
    assert "zeroshot: the class of each image or video of a set, zero-shot.\n" in shown.err
    assert "hash" in out.with_suffix(".md").read_text()


def test_robustness_of_sets_measures_the_labelled_world_too(model, tmp_path, capsys):
    for domain in ("photo", "sketch"):
        class_folders(tmp_path / "domains" / domain, NAMES, each=2)
    out = tmp_path / "run.json"
    arguments = ["--data", str(tmp_path / "domains"), "--limit", "3", "--seed", "2", *model, "--out", str(out)]
    assert main(["eval", "robustness", *arguments]) == 0
    found = {row["name"]: row for row in json.loads(out.read_text())["scores"]}
    assert {"photo top-1", "mean of the 2 domains", "world: style plain", "world: mean of the styles"} <= set(found)
    assert found["world: style plain"]["n"] == 3  # the limit of the sets
    assert not any("target" in row for row in found.values())
    assert "- images: `evaluation split, seed 2`" in out.with_suffix(".md").read_text()
    assert main(["compare", str(out), str(out)]) == 0
    assert "robustness: world, style plain top-1" in capsys.readouterr().out


def test_shards_and_captions(model, tmp_path):
    benchmark(tmp_path / "wds", NAMES)
    assert main(["eval", "zeroshot", "--data", str(tmp_path / "wds"), *model]) == 0
    file = karpathy(tmp_path / "coco")
    out = tmp_path / "r.json"
    assert main(["eval", "retrieval", "--data", str(file), *model, "--out", str(out)]) == 0
    names = [row["name"] for row in json.loads(out.read_text())["scores"]]
    assert "coco test caption→image R@1" in names
    assert "coco test dual softmax image→caption median rank" in names


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["zeroshot", "--classes", "x.txt"], "--classes has no effect on the labelled world. Give a set with --data"),
        (["zeroshot", "--frames", "4"], "--frames has no effect on the labelled world"),
        (["zeroshot", "--data", "SET", "--count", "5"], "With --data use --limit and --subset"),
        (["all", "--data", "SET"], "With --data name the evaluations"),
        (["binding", "--data", "SET"], "binding measures on its own data only. With --data use zeroshot, multilabel"),
        (
            ["retrieval", "--data", "SET"],
            "holds 4 samples with one class each. Use percept eval zeroshot, or give captions",
        ),
        (["zeroshot", "--data", "SET", "--classes", "NONE"], "there is no file NONE"),
        (["zeroshot", "--data", "SET", "--frames", "4"], "--frames has no effect on images"),
        (["zeroshot", "--data", "SET", "--subset", "val"], "SET has no splits, so --subset val has no effect"),
        (["retrieval", "--data", "coco", "--templates", "t.txt"], "--templates has no effect on a set without classes"),
        (["robustness", "--data", "SET/tench"], "holds 0 sets, but robustness compares several"),
    ],
)
def test_options_that_do_not_go_together(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    class_folders(tmp_path / "SET", NAMES, each=1)
    karpathy(tmp_path / "coco")
    assert main(["eval", *arguments]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
