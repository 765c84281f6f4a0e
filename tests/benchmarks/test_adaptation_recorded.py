"""What the benchmarks of adaptation share: runs are stored once and read from several files, old files are refused, claims need both arms."""

import json
from pathlib import Path
from typing import Any

import pytest
import recorded
import torch

from percept.core.errors import PerceptError

KEY = ("arm", "pair", "seed")


def test_a_run_takes_place_once_and_is_read_from_any_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files, made = [tmp_path / "one.jsonl", tmp_path / "other.jsonl"], []
    place: tuple[Any, ...] = ("a", ("x", "y"), 1)

    def measured() -> recorded.Record:
        made.append(1)
        return {"value": 0.5}

    first = recorded.Runs(files[1:], KEY).once(place, measured, lambda each: f"value {each['value']}")
    assert "value 0.5" in capsys.readouterr().out
    runs = recorded.Runs(files, KEY)  # a pair is a list once it is read
    again = runs.once(place, measured)
    assert (again["value"], again["pair"], made) == (0.5, ["x", "y"], [1])
    assert set(first) == {*KEY, "value", "seconds"}
    assert runs.once(("a", ("x", "y"), 2), lambda: {"seconds": 7})["seconds"] == 7
    assert [json.loads(line)["seed"] for line in files[0].read_text().splitlines()] == [2]
    assert len(files[1].read_text().splitlines()) == 1


def test_a_file_of_an_earlier_version_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "old.jsonl"
    file.write_text(json.dumps({"arm": "a", "seed": 1}) + "\n")
    with pytest.raises(PerceptError, match=r"old\.jsonl.*without pair"):
        recorded.Runs([tmp_path / "new.jsonl", file], KEY)


def test_the_smallest_of_equal_candidates_is_chosen_and_a_single_one_is_not_tried() -> None:
    assert recorded.best_of((3e-2, 1e-3, 7e-3), lambda rate: 0.5) == 1e-3
    assert recorded.best_of([(1.0, 2.0), (1.0, 0.5), (2.0, 0.1)], lambda pair: -pair[0]) == (1.0, 0.5)
    assert recorded.best_of((2.0,), lambda rate: pytest.fail("tried")) == 2.0


def test_batches_use_all_rows_before_they_repeat() -> None:
    rows = list(recorded.batches(6, 3, 4, torch.Generator().manual_seed(0)))
    assert [sorted(rows[at] + rows[at + 1]) for at in (0, 2)] == [list(range(6))] * 2
    assert rows[:2] != rows[2:]


def test_a_claim_counts_cells_that_have_both_arms() -> None:
    records = [{"arm": arm, "seed": seed, "scores": {"last": value}} for seed in range(6) for arm, value in (("a", 0.7), ("b", 0.5))]  # fmt: skip
    made = recorded.Claim(words="a is above b", arm="a", than="b", score="last", row="S1")
    row = recorded.judged(records[:-1], made, ("seed",), lambda record: record["scores"])
    assert (row["claim"], row["cells"], row["value"], row["verdict"]) == ("S1: a is above b", 5, 0.2, "too few cells")
    alone = recorded.Claim(words="a is above 0.6", arm="a", score="last", margin=0.6)
    assert recorded.judged(records, alone, ("seed",), lambda record: record["scores"])["verdict"] == "holds"
    other = recorded.Claim(words="a is above c", arm="a", than="c", score="last")
    assert recorded.judged(records, other, ("seed",), lambda record: record["scores"])["verdict"] == "not measured"


def test_the_gate_says_what_it_leaves_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert recorded.passes_gate("chalk", 0.5, 0.1, "nano")
    for share in (0.1, 0.95):
        assert not recorded.passes_gate("chalk", share, 0.1, "nano", what="R@1")
    assert recorded.passes_gate("chalk", 0.95, 0.1, "nano", highest=1.0)
    assert "chalk is left out: R@1 95.0%" in "".join(capsys.readouterr())
