import json
import os
import sys

import pytest

from percept.cli import main
from percept.core.errors import PerceptError
from percept.eval.card import Card
from percept.eval.statistics import Score, proportion
from percept.eval.table import EVALUATIONS, Confusion, Evaluation, Result, find
from tests.infer import tiny

NEEDS = {name: find(name).needs for name in EVALUATIONS}


def card(**changes) -> Card:
    score = Score(name="category top-1", value=0.91, n=3000, low=0.899, high=0.92)
    whole = {
        "model": {"name": "nano", "image": "ab12", "text": "cd34", "dim": 256}, "command": "percept eval zeroshot", "seed": 0,
        "seconds": {"zeroshot": 12.3}, "scores": {"zeroshot": [score]},
        "targets": {"category top-1": 0.9}, "confusions": [Confusion(truth="cup", guess="mug", count=3, of=40)], "facts": {"device": "cpu, bfloat16"},
    }  # fmt: skip
    return Card(**{**whole, **changes})


def test_targets_are_met_or_missed():
    share = Score(name="s", value=0.5, n=10, low=0.2, high=0.8)
    error = Score(name="s", value=0.5, unit="m", better="less", n=10, low=0.2, high=0.8)
    assert [share.reaches(target) for target in (0.49, 0.5, 0.51)] == [True, True, False]
    assert [error.reaches(target) for target in (0.49, 0.5, 0.51)] == [False, True, True]
    drop = Score(name="s", value=0.5, unit="points", better="less", n=10, low=0.2, high=0.8)
    assert [each.target(0.25) for each in (share, error, drop)] == ["≥ 25 %", "≤ 0.250 m", "≤ 25 points"]


def test_a_saved_card_says_everything(tmp_path):
    files = card().save(tmp_path / "cards" / "nano.json")
    assert [file.name for file in files] == ["nano.json", "nano.md"]
    stored = json.loads(files[0].read_text())
    assert stored["scores"][0] == {
        "evaluation": "zeroshot", "name": "category top-1", "value": 0.91, "unit": "share", "better": "more", "n": 3000, "low": 0.899, "high": 0.92,
        "target": "≥ 90 %", "met": True,
    }  # fmt: skip
    assert (stored["seed"], stored["command"], stored["model"]["image"]) == (0, "percept eval zeroshot", "ab12")
    page = files[1].read_text()
    assert "| category top-1 | 91.0 % | 89.9 – 92.0 | 3,000 | ≥ 90 % met |" in page
    assert "| cup | mug | 3 of 40 |" in page
    of_set = card(confusions=[Confusion(truth="cup", guess="mug", count=3, of=40, data="sketch")])
    assert "| sketch: cup | mug | 3 of 40 |" in of_set.to_markdown()


def test_a_missed_target_is_said_plainly(capsys):
    card(scores={"zeroshot": [proportion("category top-1", [True, False])]}).show()
    assert "missed" in capsys.readouterr().out


def test_targets_are_for_the_evaluation_split(capsys):
    other = card(split="validation")
    other.show()
    printed = capsys.readouterr().out
    assert "met" not in printed
    assert "validation split" in printed
    assert "target" not in other.to_dict()["scores"][0]


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> dict:
    """A card made by the command itself, with an untrained model and few images."""
    folder = tmp_path_factory.mktemp("eval")
    model, out = tiny.folder(folder / "model"), folder / "card.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PERCEPT_CACHE", str(folder / "cache"))  # without the drawings of `artists`
        assert main(["eval", "all", "--model", str(model), "--count", "30", "--out", str(out)]) == 0
    return json.loads(out.read_text())


def test_the_command_measures_everything_there_is_a_target_for(measured):
    found = {row["name"]: row for row in measured["scores"]}
    targets = {score: target for name in EVALUATIONS for score, target in find(name).targets.items()}
    assert set(targets) <= set(found)
    assert {name for name, row in found.items() if "target" in row} == set(targets)
    assert all(row["low"] <= row["value"] <= row["high"] for row in found.values())
    assert found["category top-1"]["n"] == 30
    assert found["handwritten digits top-1"]["n"] == 1797
    assert list(measured["seconds"]) == [name for name in EVALUATIONS if name != "artists"]
    assert "corpora.py fetch" in measured["facts"]["artists left out"]


def test_the_card_names_the_model(measured):
    assert measured["model"]["name"] == "tiny"
    assert len(measured["model"]["image"]) == 32
    assert measured["command"].startswith("percept eval all --model ")
    assert "--count 30 --out " in measured["command"]
    assert "--seed" not in measured["command"]


@pytest.fixture
def table(monkeypatch):
    """Evaluations that return at once; a function to replace one of them."""

    def place(name: str, run, needs=lambda _: None) -> None:
        evaluation = Evaluation(name=name, summary="Fake.", run=run, needs=needs)
        monkeypatch.setattr(EVALUATIONS[name].replace(":", "."), evaluation)

    for name in EVALUATIONS:
        place(name, lambda model, plan: Result(scores=[proportion("category top-1", [True, False])]))
    return place


def fails(error: Exception):
    def run(model, plan):
        raise error

    return run


def test_one_that_fails_costs_the_others_nothing(table, tmp_path, capsys):
    table("binding", fails(PerceptError("no pairs there")))
    model, out = tiny.folder(tmp_path / "model"), tmp_path / "card.json"
    assert main(["eval", "all", "--model", str(model), "--out", str(out)]) == 2
    printed = capsys.readouterr()
    assert "binding failed: no pairs there" in printed.err
    stored = json.loads(out.read_text())
    assert [row["evaluation"] for row in stored["scores"]] == [name for name in EVALUATIONS if name != "binding"]
    assert stored["facts"]["binding failed"] == "no pairs there"
    assert "zeroshot: tiny" in printed.out


def test_one_that_fails_alone_is_told_once(table, tmp_path, capsys):
    table("zeroshot", fails(PerceptError("no pictures there")))
    assert main(["eval", "zeroshot", "--model", str(tiny.folder(tmp_path / "model"))]) == 2
    assert capsys.readouterr().err.count("no pictures there") == 1


def test_a_bug_in_one_is_not_hidden_and_costs_the_others_nothing(table, tmp_path):
    table("binding", fails(ZeroDivisionError("by zero")))
    model, out = tiny.folder(tmp_path / "model"), tmp_path / "card.json"
    with pytest.raises(ZeroDivisionError):
        main(["eval", "all", "--model", str(model), "--out", str(out)])
    assert len(json.loads(out.read_text())["scores"]) == len(EVALUATIONS) - 1


def test_all_leaves_out_what_the_model_is_not_suited_for(table, tmp_path, capsys):
    for name in ("zeroshot", "retrieval", "binding", "digits"):
        table(name, fails(AssertionError("measured in vain")), needs=NEEDS[name])
    silent, out = tiny.folder(tmp_path / "silent", text=False), tmp_path / "card.json"
    assert main(["eval", "all", "--model", str(silent), "--out", str(out)]) == 0
    assert "retrieval is left out: tiny has no text tower" in " ".join(capsys.readouterr().err.split())
    card = json.loads(out.read_text())
    assert {row["evaluation"] for row in card["scores"]} == set(EVALUATIONS) - {
        "zeroshot",
        "retrieval",
        "binding",
        "digits",
    }
    assert "has no text tower" in card["facts"]["binding left out"]
    assert main(["eval", "robustness", "binding", "--model", str(silent)]) == 2
    assert "has no text tower" in capsys.readouterr().err


def test_what_is_missing_is_found_out_first(table, tmp_path, capsys, monkeypatch):
    for name in EVALUATIONS:
        table(
            name, fails(AssertionError("measured in vain")), needs=NEEDS["digits" if name == "digits" else "retrieval"]
        )
    model = tiny.folder(tmp_path / "model")
    silent = tiny.folder(tmp_path / "silent", text=False)
    assert main(["eval", "all", "--model", str(silent)]) == 2
    assert "has no text tower" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert main(["eval", "all", "--model", str(model)]) == 2
    assert "pip install 'percept-models[eval]'" in capsys.readouterr().err


def test_a_card_cannot_be_written_over_itself(table, tmp_path, capsys):
    model = tiny.folder(tmp_path / "model")
    (tmp_path / "taken.md").mkdir()
    for name, reason in (
        ("card.md", "ends in .md, but the format written is .csv or .json"),
        ("taken.json", "is a folder"),
    ):
        assert main(["eval", "zeroshot", "--model", str(model), "--out", str(tmp_path / name)]) == 2
        assert reason in capsys.readouterr().err
    assert not (tmp_path / "card.md").exists()


def test_a_card_may_lie_where_a_name_is_no_text(table, tmp_path):
    model = tiny.folder(tmp_path / "model")
    out = tmp_path / os.fsdecode(b"c\xff.json")
    assert main(["eval", "zeroshot", "--model", str(model), "--out", str(out)]) == 0
    assert json.loads(out.read_text())["command"].endswith("c�.json'")


def test_mistakes_of_eval(capsys, tmp_path):
    assert main(["eval", "zeroshot", "--model", "nanno"]) == 2
    assert "'nano'" in capsys.readouterr().err
    model = tiny.folder(tmp_path / "model")
    assert main(["eval", "zeroshot", "--model", str(model), "--count", "0"]) == 2
    assert "count must be at least 1" in capsys.readouterr().err
