"""`percept conformal` on files of logits."""

import json

import numpy as np
import pytest

from percept.cli import main


def written(path, labels=None):
    rng = np.random.default_rng(0)
    true = rng.integers(0, 4, 300)
    logits = rng.normal(size=(300, 4)) + 2 * np.eye(4)[true]
    np.savez(path, logits=logits, labels=true if labels is None else labels)
    return logits, true


def test_scores_of_every_method_are_printed_and_written(tmp_path, capsys):
    written(tmp_path / "a.npz")
    assert main(["conformal", str(tmp_path / "a.npz"), "--out", str(tmp_path / "a.json")]) == 0
    found = json.loads((tmp_path / "a.json").read_text())
    assert {row["method"] for row in found["rows"]} >= {"top-1", "LAC", "APS", "policy, learned"}
    assert all(row["low"] is None or row["low"] <= row["value"] <= row["high"] for row in found["rows"])
    costs = [row for row in found["rows"] if row["name"] == "cost"]
    assert len(costs) == len({row["method"] for row in found["rows"]})
    assert all(row["low"] < row["value"] < row["high"] and row["n"] == 120 for row in costs)
    about = found["about"]
    assert (about["model"], about["preprocessing"]) == (None, None)  # the file does not say
    assert about["seconds"] >= 0
    shown, coverage = capsys.readouterr().out, next(row for row in found["rows"] if row["name"].startswith("coverage"))
    assert "LAC" in shown
    assert f"{100 * coverage['low']:.1f} – {100 * coverage['high']:.1f}" in shown


def test_the_model_that_a_file_names_is_reported(tmp_path):
    parquet, arrow = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    logits, labels = written(tmp_path / "a.npz")
    facts = json.dumps({"model": {"name": "nano"}, "preprocessing": "squash to 96 × 96, hash c53c"})
    np.savez(tmp_path / "a.npz", logits=logits, labels=labels, facts=np.array(facts))
    rows = arrow.table({"logits": logits.tolist(), "label": labels}).replace_schema_metadata({"percept": facts})
    parquet.write_table(rows, tmp_path / "a.parquet")
    for name in ("a.npz", "a.parquet"):
        assert main(["conformal", str(tmp_path / name), "--out", str(tmp_path / "b.json")]) == 0
        about = json.loads((tmp_path / "b.json").read_text())["about"]
        assert about["model"] == {"name": "nano"}
        assert about["preprocessing"].endswith("hash c53c")


def test_parquet_gives_the_same_numbers(tmp_path):
    parquet, arrow = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    logits, labels = written(tmp_path / "a.npz")
    parquet.write_table(arrow.table({"logits": logits.tolist(), "label": labels}), tmp_path / "a.parquet")
    results = []
    for name in ("a.npz", "a.parquet"):
        assert main(["conformal", str(tmp_path / name), "--out", str(tmp_path / "b.json")]) == 0
        results.append(json.loads((tmp_path / "b.json").read_text())["rows"])
    assert results[0] == results[1]


@pytest.mark.parametrize("case", ["missing", "ending", "no labels", "labels", "few", "broken", "alpha"])
def test_bad_input(tmp_path, capsys, case):
    path = tmp_path / ("a.txt" if case == "ending" else "a.npz")
    if case == "no labels":
        np.savez(path, logits=np.zeros((30, 2)))
    elif case == "few":
        np.savez(path, logits=np.zeros((3, 2)), labels=np.zeros(3, int))
    elif case in {"broken", "ending"}:
        path.write_bytes(b"x")
    elif case != "missing":
        written(path, np.arange(300) if case == "labels" else None)
    assert main(["conformal", str(path), *(["--alpha", "2"] if case == "alpha" else [])]) == 2
    assert capsys.readouterr().err.startswith("percept conformal: ")
