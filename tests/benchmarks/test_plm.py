"""The benchmarks of answering run and record what was measured. The figures of such short runs are meaningless."""

import json
from dataclasses import replace
from pathlib import Path

import plm
import pytest
import random_assistant
import serve_load


def test_ratios_of_answering(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(plm, "BASE_TOWER", random_assistant.TOY_TOWER)
    monkeypatch.setattr(plm, "HALF_DECODER", replace(random_assistant.TOY_DECODER, layers=2, vocabulary=400))
    monkeypatch.setattr(plm, "BUFFER", 1 << 20)
    monkeypatch.setattr(plm, "PROMPT", 32)
    monkeypatch.setattr(plm, "ROWS", 2)
    plm.main(turns=1, new_tokens=2, json_file=tmp_path / "plm.json")
    rows = json.loads((tmp_path / "plm.json").read_text())["results"]
    assert [row["case"] for row in rows] == [
        "batch", "batch, images", "decoding", "decoding, processor time", "prefill", "prefill, processor time", "second",
    ]  # fmt: skip
    assert all(row["median"] > 0 for row in rows)
    assert "transformers is left out" in capsys.readouterr().err


def test_the_server_under_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve_load, "toy", lambda: random_assistant.toy(layers=2, vocabulary=400))
    serve_load.main(clients=3, requests=2, tokens=2, json_file=tmp_path / "load.json")
    one, three = json.loads((tmp_path / "load.json").read_text())["results"]
    assert (one["requests"], three["requests"], one["failures"], three["failures"]) == (2, 6, 0, 0)
    assert 0 < three["p50 s"] <= three["p99 s"]
