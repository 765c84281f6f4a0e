"""Ablations: every point with every seed, resumed after any interruption, with intervals and paired differences."""

import json
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from percept.cli import main
from percept.core.errors import PerceptError
from percept.core.io import load_tensors, same_tensors
from percept.eval.ablation import mean_interval, rows_of, summarise, t_quantile, write
from percept.eval.ablation_plot import draw
from percept.recipes import ABLATIONS
from percept.train.ablation import Ablation, Run, run_ablation
from tests.train import toy


def test_every_point_is_trained_and_measured_with_every_seed(tmp_path: Path) -> None:
    seen: list[int] = []
    outcome = run_ablation(toy.ablation(), tmp_path, seeds=2, after=lambda runs: seen.append(len(runs)))
    assert [(run.point, run.seed) for run in outcome.runs] == [("fast", 0), ("slow", 0), ("fast", 1), ("slow", 1)]
    assert outcome.finished
    assert seen == [1, 2, 3, 4]
    for run in outcome.runs:
        folder = tmp_path / "runs" / run.point / f"seed-{run.seed}"
        assert run.scores["error"]["value"] == toy.error_of(folder)["error"].value
        assert json.loads((folder / "run.json").read_text())["settings"]["seed"] == run.seed
        assert run.cost["steps"] == 24
        assert run.cost["operations"] == 24 * 8 * 2 * (2 * 4)  # no gradient of the inputs
        assert run.cost["seconds"] > 0


def test_a_stopped_ablation_resumes_and_more_seeds_are_added(tmp_path: Path) -> None:
    whole = run_ablation(toy.ablation(), tmp_path / "whole", seeds=2)
    calls: list[int] = []

    def press(call: int) -> None:
        calls.append(call)
        if len(calls) == 30:
            signal.raise_signal(signal.SIGINT)

    part = run_ablation(toy.ablation(task=press), tmp_path / "parts", seeds=1)
    assert (len(part.runs), part.planned, part.signal, part.finished) == (1, 2, signal.SIGINT, False)
    assert not (tmp_path / "parts/runs/slow/seed-0/scores.json").exists()
    again = run_ablation(toy.ablation(task=calls.append), tmp_path / "parts", seeds=1)
    assert again.finished
    assert len(calls) == 48  # no step was taken twice
    more = run_ablation(toy.ablation(task=calls.append), tmp_path / "parts", seeds=2)
    assert len(calls) == 96
    assert [run.scores for run in more.runs] == [run.scores for run in whole.runs]
    for run in whole.runs:
        place = f"runs/{run.point}/seed-{run.seed}/model.safetensors"
        assert same_tensors(load_tensors(tmp_path / "parts" / place), load_tensors(tmp_path / "whole" / place))


def test_a_run_that_was_killed_between_training_and_measuring_is_measured(tmp_path: Path) -> None:
    ablation = toy.ablation()

    def fail(folder: Path) -> dict:
        raise MemoryError("killed")

    with pytest.raises(MemoryError):
        run_ablation(replace(ablation, evaluate=fail), tmp_path, seeds=1)
    calls: list[int] = []
    assert run_ablation(toy.ablation(task=calls.append), tmp_path, seeds=1).finished
    assert len(calls) == 24  # the second point only


def test_mistakes(tmp_path: Path) -> None:
    ablation = toy.ablation()
    with pytest.raises(PerceptError, match="seeds must be at least 1, got 0"):
        run_ablation(ablation, tmp_path / "new", seeds=0)
    run_ablation(ablation, tmp_path / "toy", seeds=1)
    with pytest.raises(PerceptError, match="holds the ablation 'toy', not 'other'"):
        run_ablation(replace(ablation, name="other"), tmp_path / "toy", seeds=1)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "photo.jpg").write_bytes(b"precious")
    for folder in (tmp_path / "full", tmp_path / "full" / "photo.jpg"):
        with pytest.raises(PerceptError, match="new or empty"):
            run_ablation(ablation, folder, seeds=1)
    with pytest.raises(PerceptError, match="no points"):
        replace(ablation, points={})
    with pytest.raises(PerceptError, match=r"'\.\./up' cannot be the name"):
        replace(ablation, points={"../up": ablation.points["fast"]})
    with pytest.raises(PerceptError, match="ignores the seed 1"):
        run_ablation(replace(ablation, points={"one": lambda seed: toy.recipe()}), tmp_path / "one", seeds=2)


def test_a_finished_run_of_another_configuration_is_refused(tmp_path: Path) -> None:
    run_ablation(toy.ablation(), tmp_path, seeds=1)
    changed = toy.ablation()
    points = {"fast": changed.points["slow"], "slow": changed.points["slow"]}
    with pytest.raises(PerceptError, match="fast/seed-0 holds a finished run with different values of settings"):
        run_ablation(Ablation(name="toy", points=points, evaluate=changed.evaluate), tmp_path, seeds=1)


@pytest.mark.parametrize(
    ("freedom", "quantile"),
    [(1, 12.7062), (2, 4.3027), (3, 3.1824), (4, 2.7764), (5, 2.5706), (10, 2.2281), (30, 2.0423)],
)
def test_quantiles_of_student_are_those_of_the_tables(freedom: int, quantile: float) -> None:
    assert t_quantile(freedom) == pytest.approx(quantile, abs=1e-4)


def runs_of(values: dict[str, list[float]]) -> list[Run]:
    cost = {"steps": 2, "samples": 4, "operations": 1e9, "seconds": 1.5, "evaluation_seconds": 0.5}
    return [
        Run(point=point, seed=seed, scores={"top-1": {"value": value, "unit": "share", "better": "more"}}, cost=cost)
        for point, each in values.items()
        for seed, value in enumerate(each)
    ]


def test_differences_are_paired_by_seed() -> None:
    """The seeds differ by 20 points, the points of a seed by 2 to 3: only pairs show it."""
    runs = runs_of({"a": [0.2, 0.4, 0.6], "b": [0.22, 0.43, 0.62], "c": [0.22, 0.43]})
    results = summarise("x", runs, planned=9, command="percept ablate x")
    b = results["points"]["b"]["scores"]["top-1"]
    assert b["mean"] == pytest.approx(1.27 / 3)
    assert b["to_first"]["mean"] == pytest.approx(0.07 / 3)
    spread = 0.0057735 / 3**0.5 * 4.302653
    assert b["to_first"]["low"] == pytest.approx(0.07 / 3 - spread, abs=1e-6)
    assert b["to_first"]["low"] > 0 > mean_interval([0.22 - 0.4, 0.43 - 0.6, 0.62 - 0.2])["low"]  # type: ignore[operator]
    c = results["points"]["c"]["scores"]["top-1"]
    assert (c["n"], c["to_first"]["n"], c["to_previous"]["n"]) == (2, 2, 2)
    assert c["to_previous"]["mean"] == 0
    assert "to_first" not in results["points"]["a"]["scores"]["top-1"]
    assert (results["runs"], results["planned"]) == (8, 9)
    assert rows_of(results, "top-1")[1][0:2] == ("b", "42.3 %")


def test_one_seed_has_no_interval_and_files_are_written(tmp_path: Path) -> None:
    results = summarise("x <y>", runs_of({"a": [0.5], "b": [0.6]}), planned=2, command="c")
    assert results["points"]["b"]["scores"]["top-1"]["low"] is None
    write(tmp_path, results)
    assert json.loads((tmp_path / "results.json").read_text()) == results
    assert "| b | 60.0 % | – | +10.0 [–] | +10.0 [–] | 1 |" in (tmp_path / "results.md").read_text()
    assert (tmp_path / "plot.svg").read_text().startswith("<svg")


def test_the_plot_has_a_dot_per_seed_and_a_line_per_interval() -> None:
    from xml.etree import ElementTree

    results = summarise(
        "x <y>", runs_of({"a": [0.5, 0.6, 0.7], "b": [0.6, 0.6, 0.6], "c": [0.1]}), planned=7, command="c"
    )
    root = ElementTree.fromstring(draw(results))
    found = [each.get("class") for each in root.iter()]
    assert (found.count("seed"), found.count("interval"), found.count("mean"), found.count("first")) == (7, 2, 3, 1)
    places = [float(each.get("cx", "nan")) for each in root.iter() if each.get("class") == "seed"]
    assert places == sorted(places[:3]) + [places[3]] * 3 + [min(places)]


def test_the_command_lists_runs_and_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setitem(ABLATIONS, "toy", "tests.train.toy:ablation")
    assert main(["ablate"]) == 0
    assert "tests.train.toy:ablation" in capsys.readouterr().out
    assert main(["ablate", "tyo"]) == 2
    assert "did you mean 'toy'" in capsys.readouterr().err
    for option, value in (("--seeds", "0"), ("--minutes", "0")):
        assert main(["ablate", "toy", option, value, "--out", str(tmp_path / "run")]) == 2
        assert f"{option} must be" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert main(["ablate", "toy", "--seeds", "2", "--out", str(tmp_path / "run")]) == 0
    printed = capsys.readouterr()
    assert "to the first" in printed.out
    assert "4 of 4 runs, finished" in printed.err
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["command"] == "percept ablate toy --seeds 2"
    assert list(results["points"]) == ["fast", "slow"]
    assert main(["ablate", "toy", "--seeds", "2", "--out", str(tmp_path / "run"), "--minutes", "1"]) == 0
