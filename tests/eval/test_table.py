"""The table of evaluations: a new one is a file and a line, classifiers are measured too, dense features stream."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor

import percept
from percept.cli import main
from percept.core.errors import PerceptError
from percept.eval import world, zeroshot
from percept.eval.statistics import Score, mean
from percept.eval.table import EVALUATIONS, WITH_DATA, Plan, find, summary
from percept.infer.contracts import Classifies, Embeds
from percept.world.objects import CATEGORIES
from tests.eval.fakes import bag_of_words, chance
from tests.infer import tiny


def test_summaries_are_read_without_an_import():
    code = "from percept.eval.table import *; [summary(name) for name in EVALUATIONS]; import sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    loaded = set(done.stdout.split())
    assert "percept.eval.table" in loaded
    assert not loaded & {"torch", "numpy", "percept.eval.zeroshot", "percept.eval.digits"}


@pytest.mark.parametrize("name", EVALUATIONS)
def test_an_evaluation_is_what_the_table_says(name):
    evaluation = find(name)
    assert evaluation.name == name
    assert evaluation.summary == summary(name) != ""
    headlines = {evaluation.headline(on_sets=on_sets) for on_sets in (False, True)}
    assert not any("--data" in headline for headline in headlines)
    assert len(headlines) == 1 + (WITH_DATA in summary(name))


def test_an_unknown_evaluation_suggests_the_nearest(capsys):
    assert main(["eval", "zeroshut"]) == 2
    assert "did you mean 'zeroshot'" in capsys.readouterr().err
    assert main(["eval"]) == 2
    assert "Give one or more of zeroshot" in " ".join(capsys.readouterr().err.split())


@pytest.fixture
def model(tmp_path) -> str:
    return str(tiny.folder(tmp_path / "model"))


def test_a_new_evaluation_is_one_file_and_one_line(model, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setitem(EVALUATIONS, "depth", "tests.eval.depth:EVALUATION")
    out = tmp_path / "card.json"
    assert main(["eval", "depth", "--count", "5", "--model", model, "--out", str(out)]) == 0
    printed = capsys.readouterr()
    assert "depth: Depth of a wall, from patch tokens; a whole evaluation in one file, for the tests." in printed.err
    (row,) = json.loads(out.read_text())["scores"]
    assert (row["unit"], row["better"], row["n"], row["target"], row["met"]) == ("m", "less", 5, "≤ 1000.000 m", True)
    assert f"│ {row['value']:.3f} m │ {row['low']:.3f} – {row['high']:.3f}" in re.sub(" +", " ", printed.out)
    assert f"| depth error | {row['value']:.3f} m | " in out.with_suffix(".md").read_text()


def test_several_evaluations_run_in_the_order_given(model, monkeypatch, tmp_path):
    monkeypatch.setitem(EVALUATIONS, "depth", "tests.eval.depth:EVALUATION")
    out = tmp_path / "card.json"
    assert main(["eval", "binding", "depth", "--count", "6", "--model", model, "--out", str(out)]) == 0
    stored = json.loads(out.read_text())
    assert list(stored["seconds"]) == ["binding", "depth"]
    assert stored["command"] == f"percept eval binding depth --model {model} --count 6 --out {out}"


def test_scores_print_their_unit():
    values = {"share": "91.4 %", "px": "0.9 px", "m": "0.914 m", "": "0.914"}
    for unit, expected in values.items():
        score = Score(name="s", value=0.914, unit=unit, n=9, low=0.5, high=1.0)  # type: ignore[arg-type]
        assert score.shown == expected
        assert expected in str(score)
    assert mean("m", [1.0, 3.0], unit="px").shown == "2.0 px"


class Classifier:
    """A `Classifies` that reads the truth; it embeds nothing."""

    def __init__(self, classes: int) -> None:
        self.classes = classes

    def class_logits(self, images) -> Tensor:
        names = list(CATEGORIES)
        numbers = [names.index(image.item().things[0].category) for image in images]
        return torch.nn.functional.one_hot(torch.tensor(numbers), self.classes).float()


@pytest.fixture
def scenes(monkeypatch):
    """Evaluation sets that hold scenes in place of images."""
    monkeypatch.setattr(world, "draw", lambda chosen: [np.array(scene, dtype=object) for scene in chosen])


def test_a_classifier_is_measured_by_its_logits(scenes):
    classifier = Classifier(len(CATEGORIES))
    assert isinstance(classifier, Classifies)
    assert not isinstance(classifier, Embeds)
    scores = {score.name: score.value for score in zeroshot.run(classifier, Plan(count=40)).scores}
    assert scores == {"category top-1": 1, "category top-5": 1, "category mean per class": 1}
    robust = {score.name: score.value for score in find("robustness").run(classifier, Plan(count=30)).scores}
    assert robust["mean of the styles"] == 1
    zeroshot.needs_classes(classifier)
    with pytest.raises(PerceptError, match="embeds no texts"):
        find("retrieval").needs(classifier)


def test_a_classifier_of_other_classes_is_refused(scenes):
    with pytest.raises(PerceptError, match=f"the model has 200 classes, but this evaluation has {len(CATEGORIES)}"):
        zeroshot.run(Classifier(200), Plan(count=10))


def test_a_fake_and_an_encoder_are_embeds(model):
    assert isinstance(chance(), Embeds)
    assert isinstance(bag_of_words(), Embeds)
    assert isinstance(percept.load(model), Embeds)
