"""Two runs: paired differences against hand-computed cases and scipy, refusals, and the page."""

import json
from pathlib import Path

import numpy as np
import pytest

from percept.cli import main
from percept.core.errors import PerceptError
from percept.eval import confidence, dense, record
from percept.eval.compare import Run, compare, difference, disagreeing, mcnemar
from percept.eval.compare_page import page
from percept.eval.record import Records
from percept.eval.resampling import group_numbers, median, resampled_counts, resampled_means, share
from tests.eval.sets.layouts import NAMES, class_folders
from tests.infer import tiny

TASK = ("zeroshot", "set", "top-1")


def records(values, **changes) -> Records:
    values = np.array(values, float)
    keys = [f"k{number}" for number in range(len(values))]
    whole = {"task": "top-1", "data": "set", "keys": keys, "truth": ["t"] * len(keys), "prediction": ["p"] * len(keys)}
    return Records(**{**whole, "value": values, **changes})


def test_records_are_written_and_read(tmp_path):
    first = records([1, 0], rank=[1, 7], group=["g", "g"], truth=["a", "b"], prediction=["a", "ü"])
    second = records([0.25, 1.0], task="average precision", truth=[["a"], ["a", "b"]])
    record.write(tmp_path / "r.samples.jsonl", {"zeroshot": [first], "multilabel": [second]})
    found = record.read(tmp_path / "r.samples.jsonl")
    assert list(found) == [TASK, ("multilabel", "set", "average precision")]
    again = found[TASK]
    assert (list(again.rank), list(again.group), again.value.tolist()) == ([1, 7], ["g", "g"], [1, 0])
    assert again.is_binary
    other = found["multilabel", "set", "average precision"]
    assert (other.value.tolist(), other.truth, other.is_binary) == ([0.25, 1.0], [["a"], ["a", "b"]], False)


def test_the_paired_difference_of_a_hand_made_case():
    a, b = records([1, 1, 1, 0, 0, 0, 0, 0, 1, 1]), records([1, 1, 0, 1, 1, 1, 0, 0, 1, 1])
    found = difference(TASK, a, b)
    assert (found.a, found.b, found.only_a, found.only_b) == (0.5, 0.7, 1, 3)
    assert found.difference == pytest.approx(0.2)
    assert found.low < 0.2 < found.high
    assert found.p == mcnemar(1, 3) == 0.625


@pytest.mark.parametrize(("a", "b"), [(0, 0), (3, 3), (0, 1), (0, 5), (2, 9), (100, 160), (400, 401), (3, 4)])
def test_mcnemar_agrees_with_scipy(a, b):
    from scipy.stats import binomtest

    expected = binomtest(a, a + b).pvalue if a + b else 1.0
    assert mcnemar(a, b) == mcnemar(b, a) == pytest.approx(expected, abs=1e-9)


def test_the_interval_covers_the_truth_and_is_narrower_than_an_unpaired_one():
    rng = np.random.default_rng(0)
    covered, width, unpaired = 0, 0.0, 0.0
    for _ in range(40):
        hard = rng.random(300) < 0.5
        a = hard & (rng.random(300) < 0.95)
        b = hard & (rng.random(300) < 0.99)
        found = difference(TASK, records(a), records(b))
        covered += found.low <= 0.5 * 0.04 <= found.high
        width += found.high - found.low
        unpaired += 2 * 1.96 * np.sqrt((np.var(a) + np.var(b)) / 300)
    assert covered >= 34
    assert width < 0.5 * unpaired


def test_equal_runs_have_no_difference():
    a = records([1, 0, 1])
    found = difference(TASK, a, a)
    assert (found.difference, found.p) == (0, 1)
    assert -found.low == found.high > 0.3  # three samples tell little
    assert disagreeing(TASK, a, a) == []


def test_the_interval_has_a_width_where_all_answers_changed_alike():
    found = difference(TASK, records([0] * 8), records([1] * 8))
    assert (found.difference, found.high) == (1, 1)
    assert found.low < 0.9
    grouped = difference(TASK, records([0] * 8, group=list("aaaabbbb")), records([1] * 8, group=list("aaaabbbb")))
    assert grouped.low < found.low


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 4), (1, 6), (4, 0)])
def test_a_difference_of_few_answers_is_not_clear_where_mcnemar_finds_none(only_a, only_b):
    a, b = np.ones(200), np.ones(200)
    a[:only_b], b[-only_a or 200 :] = 0, 0
    found = difference(TASK, records(a), records(b))
    assert (found.only_a, found.only_b) == (only_a, only_b)
    assert found.p is not None
    assert found.p > 0.05
    assert found.low < 0 < found.high


def test_grouped_samples_are_resampled_together():
    alone = resampled_means(np.repeat([0.0, 1.0], 50))
    together = resampled_means(np.repeat([0.0, 1.0], 50), np.repeat(np.arange(10), 10))
    assert together.std() > 2 * alone.std()
    uneven = resampled_means(np.array([1.0, 0.0, 0.0, 0.0]), np.array([0, 1, 1, 1]))
    assert set(np.round(uneven, 3)) == {0.0, 0.25, 1.0}
    found = difference(TASK, records([1, 1, 0, 0], group=list("aabb")), records([1, 1, 1, 0], group=list("aabb")))
    assert found.p is None
    one = share("s", np.array([True, True, False]), group_numbers("xyz"))
    assert (one.low, one.high) == pytest.approx((0.2077, 0.9385), abs=1e-3)  # Wilson


def test_the_median_of_ties_and_of_one():
    assert median("m", np.array([3]), np.array([0])).value == 3
    found = median("m", np.array([1, 1, 1, 9]), np.arange(4))
    assert (found.value, found.low, found.better) == (1.0, 1.0, "less")


def test_medians_of_resamples_are_those_of_numpy():
    values, groups = np.array([4.0, 1, 3, 9, 1, 6]), np.array([0, 0, 1, 2, 2, 2])
    draws = [np.median(np.repeat(values, counts[groups])) for counts in resampled_counts(3, seed=5)]
    found = median("m", values, groups, seed=5)
    assert (found.low, found.high) == tuple(np.quantile(draws, (0.025, 0.975)))
    assert found.value == np.median(values) == 3.5
    two = median("m", np.array([1, 3]), np.arange(2))
    assert (two.value, two.low, two.high) == (2, 1, 3)


def test_of_errors_less_is_better(tmp_path):
    keys = ["dense test/plain/0", "dense test/plain/1", "dense test/plain/2"]
    errors = {"a": [0.1, 0.2, 0.5], "b": [0.2, 0.1, 0.4]}
    for name, values in errors.items():
        samples = record.samples_file(run(tmp_path, name, values))
        errors_of = records(values, task="depth error", data="world", better="less", keys=keys)
        record.write(samples, {"dense": [errors_of]})
        assert record.read(samples)["dense", "world", "depth error"].better == "less"
    found = compare(tmp_path / "a.json", tmp_path / "b.json")
    (one,) = found.differences
    assert one.difference == pytest.approx(-0.1 / 3)
    assert (one.only_a, one.only_b, one.better) == (1, 2, "less")
    assert one.place == "dense: world, depth error ↓"
    assert sorted(each.gain for each in found.disagreements) == pytest.approx([-0.1, 0.1, 0.1])
    assert found.disagreements[0].remarks == (" (0.100)", " (0.200)")
    text = page(found)
    assert text.index("Better in A · a, 1") < text.index("Better in B · b, 2")
    assert text.count("data:image/jpeg") == 3


def test_ones_that_are_all_errors_stay_errors(tmp_path):
    first = records([1, 0], better="less")
    record.write(tmp_path / "r.samples.jsonl", {"calibration": [first]})
    assert '"right"' not in (tmp_path / "r.samples.jsonl").read_text()
    (again,) = record.read(tmp_path / "r.samples.jsonl").values()
    assert (again.better, again.value.tolist()) == ("less", [1, 0])


def test_evaluations_without_samples_are_listed(tmp_path, capsys):
    for name, measured in (("a", ("zeroshot", "speed")), ("b", ("zeroshot", "dense", "speed"))):
        file = run(tmp_path, name, [1, 0, 1])
        card = json.loads(file.read_text())
        file.write_text(json.dumps(card | {"scores": [{"evaluation": each} for each in measured]}))
    files = [str(tmp_path / "a.json"), str(tmp_path / "b.json")]
    assert main(["compare", *files, "--out", str(tmp_path / "d.json"), "--page", str(tmp_path / "d.html")]) == 0
    assert "without samples, so not compared: speed, dense in B" in capsys.readouterr().err
    assert json.loads((tmp_path / "d.json").read_text())["about"]["without samples"] == ["speed", "dense in B"]
    assert "Without samples, so not compared: speed, dense in B." in (tmp_path / "d.html").read_text()


def test_samples_of_an_earlier_run_do_not_stay(tmp_path):
    assert record.save(tmp_path / "r.json", {"zeroshot": [records([1])]}) == [tmp_path / "r.samples.jsonl"]
    assert record.save(tmp_path / "r.json", {"speed": []}) == []
    assert not (tmp_path / "r.samples.jsonl").exists()


def test_disagreements_begin_with_the_largest():
    a = records([1, 0, 1, 0], rank=[1, 2, 1, 9], prediction=list("abcd"))
    b = records([0, 1, 1, 1], rank=[40, 1, 1, 1], prediction=list("wxyz"))
    found = disagreeing(TASK, a, b)
    assert [(each.key, each.rank_a, each.rank_b) for each in found] == [("k0", 1, 40), ("k3", 9, 1), ("k1", 2, 1)]
    assert (found[0].a, found[0].b) == ("a", "w")


def run(folder, name: str, values, data=(), **changes) -> Path:
    card = {
        "model": {"name": name, "image": "x"},
        "scores": [],
        "command": f"percept eval {name}",
        "data": list(data),
        "seed": 0,
    }
    path = folder / f"{name}.json"
    path.write_text(json.dumps(card))
    record.write(record.samples_file(path), {"zeroshot": [records(values, **changes)]})
    return path


def test_runs_on_different_data_are_refused(tmp_path):
    a, b = run(tmp_path, "a", [1, 0, 1]), run(tmp_path, "b", [1, 0])
    with pytest.raises(PerceptError, match=r"3 in A, 2 in B, 2 are in both"):
        compare(a, b)
    b = run(tmp_path, "b", [1, 0, 1], truth=["t", "t", "u"])
    with pytest.raises(PerceptError, match=r"the truth of some differs"):
        compare(a, b)
    one = {"evaluation": "zeroshot", "name": "set", "samples": 3, "path": "p", "hash": "1"}
    a, b = run(tmp_path, "a", [1, 0, 1], data=[one]), run(tmp_path, "b", [1, 0, 1], data=[one | {"hash": "2"}])
    with pytest.raises(PerceptError, match=r"measured different data: set had 3 samples of p"):
        compare(a, b)
    other = tmp_path / "c.json"
    other.write_text((tmp_path / "b.json").read_text())
    record.write(record.samples_file(other), {"retrieval": [records([1])]})
    with pytest.raises(PerceptError, match=r"a.json has zeroshot / set / top-1, .*c.json has retrieval"):
        compare(a, other)


def test_files_that_are_not_runs(tmp_path):
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(PerceptError, match=r"is not a report card of an encoder"):
        Run.read(tmp_path / "x.json")
    a = run(tmp_path, "a", [1])
    record.samples_file(tmp_path / "a.json").unlink()
    with pytest.raises(PerceptError, match=r"there is no a.samples.jsonl next to it.*or measure again"):
        Run.read(a)
    record.samples_file(tmp_path / "a.json").write_text('{"key": 1}\n')
    with pytest.raises(PerceptError, match=r"line 1, is not a sample"):
        Run.read(a)


MEASURED = ("zeroshot", "dense", "correspondence", "calibration")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Cards of two models on one set of folders, and on the labelled world."""
    folder = tmp_path_factory.mktemp("runs")
    class_folders(folder / "set", NAMES, each=4)
    for name in "ab":
        options = ["--model", str(tiny.folder(folder / f"model {name}", seed=ord(name))), "--device", "cpu"]
        assert (
            main(["eval", "zeroshot", "--data", str(folder / "set"), *options, "--out", str(folder / f"{name}.json")])
            == 0
        )
        assert main(["eval", *MEASURED, "--count", "12", *options, "--out", str(folder / f"w{name}.json")]) == 0
    return folder


def test_two_models_are_compared_from_the_command_line(runs, capsys):
    files = [str(runs / "a.json"), str(runs / "b.json")]
    assert main(["compare", *files, "--out", str(runs / "d.json"), "--page", str(runs / "d.html")]) == 0
    printed = capsys.readouterr().out
    found = json.loads((runs / "d.json").read_text())
    (one,) = found["rows"]
    found = found["about"]
    assert one["n"] == 16
    assert one["difference"] == pytest.approx(one["b"] - one["a"])
    assert len(found["disagreements"]) == one["only_a"] + one["only_b"]
    assert "B − A" in printed
    text = (runs / "d.html").read_text()
    assert text.count("data:image/jpeg") == len(found["disagreements"]) > 0
    assert "http" not in text.replace("http-equiv", "")
    (runs / "set").rename(runs / "moved")
    assert "data:image" not in page(compare(runs / "a.json", runs / "b.json"))
    (runs / "moved").rename(runs / "set")


def test_runs_of_one_model_are_told_apart_and_a_set_is_named_once(tmp_path):
    for name, size, device in (("a", 96, "cpu, float32"), ("b", 96, "cpu, bfloat16"), ("c", 48, "cpu, bfloat16")):
        model = {"name": "nano", "image": name, "preprocessing": f"squash to {size} × {size}, hash {name}"}
        card = {"model": model, "scores": [], "facts": {"device": device}}
        (tmp_path / f"{name}.json").write_text(json.dumps(card))
        record.write(tmp_path / f"{name}.samples.jsonl", {"retrieval": [records([1, 0], task="set image→caption R@1")]})
    a, b, c = (tmp_path / f"{name}.json" for name in "abc")
    assert compare(a, b).names == ("nano (cpu, float32)", "nano (cpu, bfloat16)")
    assert compare(b, c).names == ("nano (squash to 96 × 96)", "nano (squash to 48 × 48)")
    assert compare(a, a).names == ("nano", "nano")
    assert [each.place for each in compare(a, b).differences] == ["retrieval: set, image→caption R@1"]
    assert "nano (squash to 48 × 48)" in page(compare(b, c))


def test_scenes_of_the_world_are_drawn_again(runs):
    found = compare(runs / "wa.json", runs / "wb.json")
    single = [each for each in found.disagreements if each.task == "category top-1"]
    assert page(found).count("data:image/jpeg") >= len(single)


def test_every_evaluation_of_samples_can_be_compared(runs):
    """The mean of run A in every task is the score of that name on its card."""
    found = compare(runs / "wa.json", runs / "wb.json")
    scores = {(row["evaluation"], row["name"]): row for row in found.a.card["scores"]}
    assert {each.evaluation for each in found.differences} == set(MEASURED)
    assert found.without_samples == []
    assert {(each.evaluation, each.task) for each in found.differences} == {
        ("zeroshot", "category top-1"), ("zeroshot", "colour top-1"),
        ("dense", dense.PER_IMAGE), ("dense", dense.DEPTH), ("calibration", confidence.BRIER),
        *(("correspondence", f"{name}{ending}") for name in ("PCK@0.1", "PCK@0.2", "on the thing") for ending in ("", ", a different colour")),
    }  # fmt: skip
    for each in found.differences:
        row = scores[each.evaluation, each.task]
        assert (each.a, each.n, each.better) == (pytest.approx(row["value"]), row["n"], row["better"])


def test_the_same_run_twice_and_a_wrong_option(runs, capsys):
    assert main(["compare", str(runs / "a.json"), str(runs / "a.json")]) == 0
    assert "+0.0 [-" in capsys.readouterr().out
    assert main(["compare", str(runs / "a.json"), str(runs / "a.json"), "--show", "-1"]) == 2
    assert "Give 0 or more" in capsys.readouterr().err


@pytest.mark.parametrize("answer", [True, False])
def test_an_interval_over_groups_has_a_width_where_all_answers_agree(answer):
    found = share("R@1", np.full(32, answer), np.repeat(np.arange(8), 4))
    assert (found.value, found.n) == (float(answer), 32)
    assert (found.low, found.high) == pytest.approx((0.6756, 1.0) if answer else (0.0, 0.3244), abs=1e-4)
