import json

import pytest

from percept.cli import main
from percept.eval.card import TARGETS, Card, Target
from percept.eval.statistics import Score, proportion
from percept.eval.zeroshot import Confusion
from tests.infer import tiny


def card(**changes) -> Card:
    score = Score(name="category top-1", value=0.91, n=3000, low=0.899, high=0.92)
    whole = {
        "model": {"name": "nano", "fingerprint": "ab12", "dim": 256}, "command": "percept eval zeroshot", "seed": 0,
        "seconds": {"zeroshot": 12.3}, "scores": {"zeroshot": [score]},
        "confusions": [Confusion(truth="cup", guess="mug", count=3, of=40)], "facts": {"device": "cpu, bfloat16"},
    }  # fmt: skip
    return Card(**{**whole, **changes})


def test_targets_are_met_or_missed():
    score = Score(name="s", value=0.5, n=10, low=0.2, high=0.8)
    assert Target(value=0.5).met(score)
    assert not Target(value=0.51).met(score)
    assert Target(value=0.5, at_most=True).met(score)
    assert not Target(value=0.49, at_most=True).met(score)


def test_a_saved_card_says_everything(tmp_path):
    files = card().save(tmp_path / "cards" / "nano.json")
    assert [file.name for file in files] == ["nano.json", "nano.md"]
    stored = json.loads(files[0].read_text())
    assert stored["scores"][0] == {
        "evaluation": "zeroshot", "name": "category top-1", "value": 0.91, "n": 3000, "low": 0.899, "high": 0.92,
        "target": "≥ 90%", "met": True,
    }  # fmt: skip
    assert (stored["seed"], stored["command"], stored["model"]["fingerprint"]) == (0, "percept eval zeroshot", "ab12")
    page = files[1].read_text()
    assert "| category top-1 | 91.0 % | 89.9 – 92.0 | 3,000 | ≥ 90% met |" in page
    assert "| cup | mug | 3 of 40 |" in page


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
    """A card made by the command itself, with an untrained model and few pictures."""
    folder = tmp_path_factory.mktemp("eval")
    model, out = tiny.folder(folder / "model"), folder / "card.json"
    assert main(["eval", "all", "--model", str(model), "--count", "30", "--out", str(out)]) == 0
    return json.loads(out.read_text())


def test_the_command_measures_everything_there_is_a_target_for(measured):
    found = {row["name"]: row for row in measured["scores"]}
    assert set(TARGETS) <= set(found)
    assert all(row["low"] <= row["value"] <= row["high"] for row in found.values())
    assert found["category top-1"]["n"] == 30
    assert found["handwritten digits top-1"]["n"] == 1797
    assert set(measured["seconds"]) == {"zeroshot", "retrieval", "robustness", "binding", "digits"}


def test_the_card_names_the_model(measured):
    assert measured["model"]["name"] == "tiny"
    assert len(measured["model"]["fingerprint"]) == 32
    assert measured["command"].startswith("percept eval all --model ")
    assert "--count 30 --out " in measured["command"]
    assert "--seed" not in measured["command"]


def test_mistakes_of_eval(capsys, tmp_path):
    assert main(["eval", "zeroshot", "--model", "nanno"]) == 2
    assert "'nano'" in capsys.readouterr().err
    model = tiny.folder(tmp_path / "model")
    assert main(["eval", "zeroshot", "--model", str(model), "--count", "0"]) == 2
    assert "at least one picture" in capsys.readouterr().err
