import json
import shlex
import signal
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import pytest

import percept
from percept.cli import main
from percept.cli.train import config_type, parse, tiny_of
from percept.core.config import from_dict, to_dict
from percept.recipes import ABLATIONS, RECIPES, pe_nano
from tests.train import toy


def test_help_lists_recipes(capsys):
    assert main(["train"]) == main(["train", "--help"]) == 0
    assert "pe/nano" in capsys.readouterr().out


def test_an_unknown_recipe_suggests_the_nearest(capsys):
    assert main(["train", "pe/nanno"]) == 2
    assert "'pe/nano'" in capsys.readouterr().err


def test_options_reach_the_configuration():
    assert config_type(pe_nano.recipe) is pe_nano.Config
    rest = ["--settings.steps", "7", "--vision.layers", "3", "--out", "here", "--tiny"]
    options = parse("pe/nano", pe_nano.recipe, rest, tiny=pe_nano.tiny)
    assert (options.config.settings.steps, options.config.vision.layers, str(options.out)) == (7, 3, "here")
    assert options.config.vocabulary == pe_nano.tiny().vocabulary
    assert parse("pe/nano", pe_nano.recipe, [], tiny=None).config == pe_nano.Config()


def test_a_recipe_without_a_tiny_form_says_so():
    with pytest.raises(percept.PerceptError, match="--tiny"):
        parse("pe/nano", pe_nano.recipe, ["--tiny"], tiny=None)


def test_a_tiny_run_becomes_a_model_that_opens(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PERCEPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "500")
    out = tmp_path / "my run"
    command = ["train", "pe/nano", "--tiny", "--settings.steps", "4", "--out", str(out)]
    assert main(command) == 0
    printed = capsys.readouterr()
    assert "finished" in printed.out
    (use,) = [line for line in printed.err.splitlines() if line.startswith("use it: ")]
    assert shlex.split(use)[-2:] == ["--model", str(out)]
    assert percept.load(out).image([]).shape == (0, 64)
    assert json.loads((out / "config.json").read_text())["provenance"]["command"].startswith(
        "percept train pe/nano --tiny"
    )
    assert main([*command[:-3], "5", *command[-2:]]) == 2
    assert "different values of settings" in " ".join(capsys.readouterr().err.split())


def test_every_option_of_a_recipe_says_what_it_is(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["train", "pe/nano", "--help"]) == 0
    lines = [line.strip("│ ") for line in capsys.readouterr().out.splitlines()]
    options = {line: below for line, below in pairwise(lines) if line.startswith("--")}
    assert len(options) > 40
    assert [option for option, below in options.items() if below.startswith("(default")] == []


def test_a_style_that_does_not_exist_is_refused_before_any_folder_is_made(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PERCEPT_CACHE", str(tmp_path / "cache"))
    assert main(["train", "pe/nano", "--tiny", "--data.style", "sketsh", "--out", str(tmp_path / "run")]) == 2
    assert "did you mean 'sketch'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("minutes", ["0", "-1", "nan"])
def test_minutes_that_are_none_are_refused_before_anything_is_drawn(minutes, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PERCEPT_CACHE", str(tmp_path / "cache"))
    assert main(["train", "pe/nano", "--tiny", "--minutes", minutes, "--out", str(tmp_path / "run")]) == 2
    assert "above 0" in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()


def test_a_stopped_run_in_the_folder_of_a_finished_one_is_not_called_finished(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PERCEPT_CACHE", str(tmp_path / "cache"))
    command = ["train", "pe/nano", "--tiny", "--settings.steps", "2", "--settings.batch", "8"]
    command += ["--out", str(tmp_path / "run")]
    assert main(command) == 0
    (tmp_path / "run" / "checkpoint.safetensors").unlink()
    assert main([*command, "--minutes", "1e-9"]) == 0
    assert "stopped; the same command resumes" in capsys.readouterr().out


@pytest.fixture
def toy_recipes(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("recipe", "stopped", "chained"):
        monkeypatch.setitem(RECIPES, name, f"tests.train.toy:{name}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_so_with_its_exit_code_and_resumes(number, toy_recipes, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(toy, "PRESS", [number])
    command = ["train", "stopped", "--out", str(tmp_path / "run")]
    assert main(command) == 128 + number
    printed = capsys.readouterr()
    assert "stopped; the same command resumes" in printed.out
    assert "stopping after this step with a checkpoint" in printed.err
    assert (tmp_path / "run" / "checkpoint.safetensors").is_file()
    assert main(command) == 0
    assert "finished" in capsys.readouterr().out


def test_a_check_reports_and_saves_nothing(toy_recipes, tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["train", "recipe", "--check", "--out", str(out)]) == 0
    printed = capsys.readouterr()
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed.out.splitlines() if "│" in line]
    found = {row[0]: row[1] for row in cells if len(row) == 2}
    assert found["learning rate"] == found["data loading"] == "nothing found"
    assert found["duplicate captions"] == found["forgetting"] == "not checked"
    assert found["learning rate reached"] == "100 % of the full one"
    assert "time of 24 steps" in found
    assert list(tmp_path.iterdir()) == []
    assert main(["train", "recipe", "--check", "--settings.learning-rate", "30", "--settings.clip", "1e9"]) == 1
    assert "Lower the learning rate" in capsys.readouterr().out


def test_a_check_of_a_chain_is_of_its_first_part(toy_recipes, capsys):
    assert main(["train", "chained", "--check"]) == 0
    assert "checking the first part, a;" in capsys.readouterr().err


def test_a_batch_of_0_is_refused_before_a_recipe_is_run(toy_recipes, tmp_path, capsys):
    assert main(["train", "recipe", "--settings.batch", "0", "--out", str(tmp_path / "run")]) == 2
    assert "batch=0; it must be at least 1" in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_can_be_started_from_the_command_line(name):
    module, function = RECIPES[name].split(":")
    options = parse(name, getattr(import_module(module), function), ["--out", "here"], tiny=None)
    assert options.out == Path("here")


@pytest.mark.parametrize("name", ["pe/cooldown", "pe/video", "pe/distill", "pe/core", "pe/finetune", "pe/figure2"])
def test_every_stage_of_pe_has_a_tiny_form_of_its_own(name):
    place = (RECIPES | ABLATIONS)[name]
    module, function = place.split(":")
    build = tiny_of(place)
    assert build is not None
    small = build()
    if name in RECIPES:
        assert isinstance(small, config_type(getattr(import_module(module), function)))
        assert from_dict(type(small), to_dict(small)) == small


def test_a_check_with_a_step_that_is_left_out_has_found_something(toy_recipes, monkeypatch, capsys):
    forward = toy.Regression.forward

    def spoilt(self, batch):
        values = forward(self, batch)
        return values | {"loss": values["loss"] * float("nan" if self.calls == 15 else 1)}

    monkeypatch.setattr(toy.Regression, "forward", spoilt)
    assert main(["train", "recipe", "--check"]) == 1
    rows = [line.split("│") for line in capsys.readouterr().out.splitlines() if "steps left out" in line]
    assert [row[2].strip() for row in rows] == ["1"]
