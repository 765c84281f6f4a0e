"""The comparisons of methods with several texts: information of a router, planted sentences, and curves of labelling rounds."""

from importlib import import_module
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from percept.methods.adaptation.sentences import PATTERNS


@pytest.fixture(scope="module")
def bench() -> SimpleNamespace:
    """The modules of the comparisons."""
    names = ("active", "beds", "claims", "mixture", "planted")
    return SimpleNamespace(**{name: import_module(name) for name in names})


def test_the_information_of_a_router_is_in_bits(bench: SimpleNamespace) -> None:
    style = np.array([0, 0, 1, 1])
    assert bench.mixture.information(np.eye(2)[style], style) == pytest.approx(1)
    assert bench.mixture.information(np.full((4, 3), 1 / 3), style) == pytest.approx(0)
    weights = np.array([[0.8, 0.2], [0.8, 0.2], [0.2, 0.8], [0.2, 0.8]])
    expected = 1 + 0.8 * np.log2(0.8) + 0.2 * np.log2(0.2)
    assert bench.mixture.information(weights, style) == pytest.approx(expected)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5])
def test_planted_sentences_are_wrong_where_they_are_marked(share: float, bench: SimpleNamespace) -> None:
    names = ("cat", "bus", "house")
    for pattern in ("places", "classes"):
        sentences, wrong = bench.planted.planted(names, share, pattern, seed=1)
        assert wrong.mean() == pytest.approx(share)
        right = [[text.format(name) for text in PATTERNS] for name in names]
        for own, true, flags in zip(sentences, right, wrong, strict=True):
            assert [one != other for one, other in zip(own, true, strict=True)] == flags.tolist()
        if share:
            assert (wrong == wrong[0]).all() == (pattern == "places")
    assert (
        bench.planted.planted(names, share, "classes", seed=1)[0]
        != bench.planted.planted(names, 0.5, "classes", seed=2)[0]
    )


def test_rejections_are_compared_with_what_was_planted(bench: SimpleNamespace) -> None:
    wrong = np.array([[True, False, False, False], [True, True, False, False]])
    found = bench.planted.rejection(np.array([0.0, 0.5, 1.0, 1.0]), wrong)
    assert found["precision"] == pytest.approx((2 + 0.5) / 3)
    assert found["recall"] == pytest.approx(2.5 / 3)
    assert found["wrong"] == pytest.approx(3 / 8)
    assert found["rejected"] == pytest.approx(1.5 / 4)


def record(label: str, seed: int, area: float, spread: float) -> dict[str, Any]:
    return {
        "label": label, "data": "x", "foundation": "nano", "seed": seed, "power": 1.0, "area": area, "accuracy": [area] * 2, "label entropy": [0.5, spread],
        "predicted right": [None, 0.5],
    }  # fmt: skip


def test_curves_are_paired_by_set_and_seed(bench: SimpleNamespace) -> None:
    records = [record("random", seed, 0.5 + seed / 10, 0.9) for seed in range(6)]
    records += [record("entropy", seed, 0.4 + seed / 10, 0.7) for seed in range(6)]
    records += [record("entropy + PCB", seed, 0.55 + seed / 10, 0.95) for seed in range(2)]
    rows = {row["claim"]: row for row in bench.active.claims(records)}
    assert rows["labels of plain entropy are less even than random ones"]["verdict"] == "holds"
    assert rows["PCB raises the curve of entropy"]["cells"] == 2
    assert rows["PCB raises the curve of entropy"]["verdict"] == "too few cells"
    assert rows["PCB raises the curve of entropy"]["difference"] == pytest.approx(0.15)
    assert rows["PCB makes the labels of badge more even"]["verdict"] == "not measured"
    assert bench.active.report(records)["class frequencies as rank^-1"]["means"]["random"][
        "label entropy"
    ] == pytest.approx(0.9)


def test_every_acquisition_runs_plain_balanced_and_with_the_bound(bench: SimpleNamespace) -> None:
    names = [name for name, *_ in bench.active.plans(8)]
    assert len(names) == len(set(names)) == 1 + 3 * 3 + 2
    assert {"random", "badge", "badge + PCB", "badge + true balance", "badge + PCB, scores"} <= set(names)
    assert {name for name in bench.active.SETS if name != "digits"} <= set(bench.beds.DRAWN)
    assert len(bench.active.SETS) >= 7


@pytest.mark.parametrize("row", ["S41", "S42", "S53", "S59"])
def test_the_claims_of_a_row_cover_three_settings_and_its_ablations(row: str, bench: SimpleNamespace) -> None:
    own = [claim for claim in bench.claims.CLAIMS if claim.row == row]
    assert {claim.setting for claim in own} == {"base-new", "few-shot", "transfer"}
    assert len([arm for arm in bench.claims.arms_of(own, "base-new") if ":" in arm.name]) >= 3
    assert set(bench.mixture.NAMES) <= {arm.name for arm in bench.claims.arms_of(bench.claims.CLAIMS, "base-new")}
    assert len(bench.beds.FAMILY) >= 11
