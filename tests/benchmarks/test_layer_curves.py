"""The benchmark of layer curves stores every curve at once, and does not measure it again."""

import json
from pathlib import Path

import layer_curves
import pytest


def test_a_curve_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(layer_curves, "SAMPLES", {"points": 6})
    file = tmp_path / "curves.json"
    first = layer_curves.measure({"nano": "nano"}, ["points"], 0, file)
    stored = file.read_text()
    assert json.loads(stored)["curves"][0]["best"] in range(6)
    assert (tmp_path / "curves_nano_points.svg").is_file()
    monkeypatch.setattr(layer_curves, "layers", None)
    assert layer_curves.measure({"nano": "nano"}, ["points"], 0, file) == json.loads(json.dumps(first))
    assert file.read_text() == stored


def test_stored_results_are_complete():
    stored = json.loads(layer_curves.RESULTS.read_text())["curves"]
    for curve in stored:
        assert all(row["low"] <= row["value"] <= row["high"] and row["n"] > 0 for row in curve["layers"])
        assert curve["samples"]["test"] > 0
