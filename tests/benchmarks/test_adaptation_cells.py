"""Runs that are kept in a small json: nothing that a report reads is lost, a benchmark goes on with them, foundations are not mixed."""

import json
from pathlib import Path
from typing import Any

import cells
import pytest
import recorded

from percept.core.errors import PerceptError

KEY = ("model", "arm", "seed")


def run_of(arm: str, seed: int, **more: Any) -> dict[str, Any]:
    return {"model": "small-0", "arm": arm, "seed": seed, "vectors": "x", "pair": ["a", "b"], "peak MB": 7, **more}


def written(file: Path, records: list[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return file


def test_runs_come_back_without_what_no_report_reads(tmp_path: Path) -> None:
    scores = {"base": [0.5, 0.4, 0.6], "bits": [0.3, 0.2, 0.4], "last": 0.7}
    records = [run_of("a", 1, scores=scores), run_of("é", 2, scores=scores), run_of("c", 1, draws=[0.25, None])]
    place, file = tmp_path / "cells" / "small-0.json", written(tmp_path / "runs.jsonl", records)
    assert cells.pack(place, [file, file]) == 3
    found = cells.runs_in(place)
    kept = {"base": [0.5], "bits": [0.3, 0.2, 0.4], "last": 0.7}
    expected = [{key: value for key, value in record.items() if key != "peak MB"} for record in records]
    assert found == [expected[0] | {"scores": kept}, expected[1] | {"scores": kept}, expected[2]]
    assert [list(record) for record in found] == [list(record) for record in expected]
    assert json.loads(place.read_text(encoding="utf-8"))[0]["same"]["model"] == "small-0"
    assert cells.runs_in(tmp_path / "none.json") == []


def test_a_later_session_goes_on_and_adds_its_runs(tmp_path: Path) -> None:
    place, again = tmp_path / "small-0.json", tmp_path / "again" / "runs.jsonl"
    cells.pack(place, [written(tmp_path / "runs.jsonl", [run_of("a", 1)])])
    assert cells.unpack(place, again) == 1
    runs = recorded.Runs([again], KEY)
    runs.once(("small-0", "a", 1), lambda: pytest.fail("run again"))
    runs.once(("small-0", "a", 2), lambda: {"vectors": "x"})
    assert cells.pack(place, [again]) == 2
    assert [record["seed"] for record in recorded.read_files([place], KEY)] == [1, 2]
    with pytest.raises(PerceptError, match="exists"):
        cells.unpack(place, again)
    with pytest.raises(PerceptError, match="only read"):
        recorded.Runs([place], KEY).once(("small-0", "a", 3), dict)


def test_foundations_and_weights_are_not_mixed(tmp_path: Path) -> None:
    place = tmp_path / "small-0.json"
    cells.pack(place, [written(tmp_path / "one.jsonl", [run_of("a", 1)])])
    for changed in ({"model": "small-1"}, {"vectors": "y"}):
        other = written(tmp_path / "other.jsonl", [run_of("a", 2) | changed])
        with pytest.raises(PerceptError, match="one foundation with the same weights"):
            cells.pack(place, [other])
    assert cells.pack(tmp_path / "second.json", [other], "small-0b") == 1
    assert cells.runs_in(tmp_path / "second.json")[0]["model"] == "small-0b"
    with pytest.raises(PerceptError, match="there is no file"):
        cells.pack(place, [tmp_path / "absent.jsonl"])
