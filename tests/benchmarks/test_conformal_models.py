"""The summary of benchmarks/conformal_models.py: coverage belongs to the claim, and data sets are the samples."""

import json
from pathlib import Path
from typing import Any

import conformal_models
import pytest
from conformal_models import BETTER, POLICIES, RIVALS, differences, shortfall, summary


def task(*, coverage: float, gap: float = -1.0, items: int = 1000) -> dict[str, Any]:
    """A task in which every policy is better than every rival by 1, or differs from it by `gap` in cost."""
    rival = {key: {"mean": 0.0} for key in BETTER}
    policy = {key: {"mean": float(better)} for key, better in BETTER.items()} | {
        "cost": {"mean": gap},
        "abstained": {"mean": 0.5},
        "coverage of answered items": {"mean": coverage},
    }
    return {"items": items, "methods": dict.fromkeys(RIVALS, rival) | dict.fromkeys(POLICIES, policy)}


def test_coverage_is_part_of_the_claim():
    found = summary({"m, a": task(coverage=0.91), "m, b": task(coverage=0.89), "m, c": task(coverage=0.7)})
    rows = found["policies"]["policy, constrained"]
    assert rows["better than LAC and APS in cost and in three of the others"] == 3
    assert rows["the same, and a mean coverage of answered items of 90 %"] == 1
    assert rows["the same, and a mean coverage within 1.5 binomial standard errors"] == 2


def test_the_standard_error_is_that_of_the_answered_test_items():
    assert shortfall(task(coverage=0.88), "policy, constrained") == pytest.approx(0.02 / (0.09 / 200) ** 0.5)


def test_models_of_one_data_set_are_one_sample():
    result = {f"{model}, {name}": task(coverage=0.9, gap=gap) for model in "mn" for name, gap in (("a", -1), ("b", -3))}
    once = {name: each for name, each in result.items() if name.startswith("m")}
    assert differences(result)["LAC"] == differences(once)["LAC"]
    assert differences(result)["LAC"]["cost"]["data sets"] == 2


def test_the_committed_summary_follows_from_the_committed_results():
    stored = json.loads(Path(conformal_models.__file__).with_suffix(".json").read_text())
    assert stored["claim"] == summary(stored["result"])
    assert stored["constrained minus"] == differences(stored["result"])
