"""The packaged perception language model: what ships with it, and that it answers as its report says, on a small sample."""

import json

import pytest

import percept
from percept.cli import main
from percept.eval.vlm import tasks, world
from percept.eval.vlm.graders import Grading
from percept.eval.vlm.judge import RulesJudge
from percept.eval.vlm.run import measure
from percept.infer.assistant import Assistant
from percept.infer.load import PACKAGED
from percept.weights.fingerprint import hash_tensors, joined_hash

FOLDER = PACKAGED / "plm-nano"
CLOSE = 0.24
"""Largest difference from the report: three standard errors of 40 answers at the worst rate."""


@pytest.fixture(scope="module")
def assistant() -> Assistant:
    return percept.assistant("plm-nano")


def report() -> dict:
    return json.loads((FOLDER / "metrics.json").read_text())


def test_it_is_small_and_says_how_it_was_made() -> None:
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) <= 25 * 2**20
    provenance = json.loads((FOLDER / "config.json").read_text())["provenance"]
    assert provenance["command"].startswith("percept train plm/nano")
    assert {"seconds", "config", "steps"} <= provenance.keys()
    assert report()["command"].startswith("percept eval plm")


def test_the_stored_report_is_that_of_the_stored_weights(assistant: Assistant) -> None:
    assert report()["facts"]["weights"] == joined_hash(hash_tensors(assistant.model.state_dict()))


def test_every_goal_is_measured_beside_chance_and_a_blind_model() -> None:
    first = {row["task"]: row for row in reversed(report()["scores"])}
    for task in tasks.WORLD.values():
        if task.target is not None:
            row = first[task.name]
            assert row["n"] >= 300
            assert row["low"] <= row["value"] <= row["high"]
            assert row["blind"] is not None
            assert task.name == "region_caption" or row["chance"] is not None


@pytest.mark.parametrize("name", ["category", "colour", "existence", "side"])
def test_a_fresh_sample_agrees_with_the_report(assistant: Assistant, name: str) -> None:
    card = {row["task"]: row["value"] for row in reversed(report()["scores"])}
    items = world.items([name], world.Plan(count=40, seed=1))[name]
    found = measure(assistant, tasks.WORLD[name], items, Grading(judge=RulesJudge())).scores[0]
    assert abs(found.value - card[name]) < CLOSE


def test_a_batch_gives_the_answers_of_single_calls(assistant: Assistant) -> None:
    drawn = world.items(["colour", "which_image", "long_caption", "action"], world.Plan(count=3, seed=2))
    prompts = [item.prompt for items in drawn.values() for item in items]
    alone = [assistant.batch([prompt], max_new_tokens=40)[0] for prompt in prompts]
    assert assistant.batch(prompts, max_new_tokens=40) == alone


def test_it_names_the_thing_of_a_picture(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", "examples/pictures/red-duck-23.jpg", "What is it?"]) == 0
    assert "duck" in capsys.readouterr().out
