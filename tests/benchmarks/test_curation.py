"""The benchmarks of curation: their data has the noise they name, and the interval is that of Student."""

import argparse
from pathlib import Path

import curation
import numpy as np
import pytest
from small_clip import NAMES, Noise, noisy_rows, paired


def test_the_rows_have_the_noise_that_is_named() -> None:
    rows = noisy_rows(400, Noise(mismatched=0.3, boilerplate=0.1, copied=0.2, skew=1.2), seed=1)
    assert len({row["key"] for row in rows}) == 400
    assert 0.2 < np.mean([row["mismatch"] for row in rows]) < 0.55
    numbers = np.bincount([NAMES.index(row["category"]) for row in rows], minlength=len(NAMES))
    assert numbers.argmax() == 0
    assert numbers[0] > 5 * numbers[20]
    clean = noisy_rows(50, Noise(mismatched=0, boilerplate=0, copied=0), seed=1)
    assert not any(row["mismatch"] for row in clean)
    assert len({row["image"] for row in clean}) == 50


def test_the_interval_is_that_of_paired_runs() -> None:
    found = paired([0.5, 0.6, 0.7], [0.4, 0.4, 0.4])
    assert found["mean"] == pytest.approx(0.2)
    assert found["high"] - found["mean"] == pytest.approx(4.303 * 0.1 / np.sqrt(3), abs=1e-3)
    assert found["seeds"] == 3


@pytest.mark.slow
def test_the_command_is_measured_with_its_memory(tmp_path: Path) -> None:
    curation.many_rows(tmp_path / "rows.jsonl", 10_000)
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) > 10_500
    result = curation.scale(argparse.Namespace(rows=10_000, workers=1))
    assert result["rows"] > 10_500
    assert 20 < result["largest memory MB"] < 2000
    assert list(result["rows after"].values()) == sorted(result["rows after"].values(), reverse=True)
