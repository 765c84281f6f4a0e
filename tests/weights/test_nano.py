"""The packaged encoder: what ships with it, and that it does what the report card says, on a small sample."""

import json
from pathlib import Path

import pytest
import torch

import percept
from percept.core.config import to_dict
from percept.eval import zeroshot
from percept.eval.table import Plan
from percept.infer.labels import class_vectors
from percept.infer.load import PACKAGED
from percept.world import CATEGORIES

FOLDER = PACKAGED / "nano"
LEAST = 0.2
"""Share of the pictures of single things among the examples that must be named right; chance is 0.01."""


@pytest.fixture(scope="module")
def nano() -> percept.Encoder:
    return percept.load("nano")


def test_it_is_small_and_says_how_it_was_made() -> None:
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) <= 20 * 2**20
    names = {file.name for file in FOLDER.iterdir()}
    assert {"model.safetensors", "config.json", "preprocess.json", "tokenizer.json", "metrics.json"} <= names
    provenance = json.loads((FOLDER / "config.json").read_text())["provenance"]
    assert provenance["command"].startswith("percept train pe/nano")
    assert provenance["samples"] > 0
    assert {"seconds", "config", "torch"} <= provenance.keys()
    assert "seed" in provenance["config"]["settings"]
    rows = json.loads((FOLDER / "metrics.json").read_text())["scores"]
    assert all({"name", "value", "n", "low", "high"} <= row.keys() for row in rows)


def test_the_stored_scores_are_those_of_the_stored_weights(nano: percept.Encoder) -> None:
    stored = json.loads((FOLDER / "metrics.json").read_text())
    assert stored["model"].items() >= to_dict(nano.identity).items()


def test_a_fresh_sample_agrees_with_the_card(nano: percept.Encoder) -> None:
    card = {row["name"]: row["value"] for row in json.loads((FOLDER / "metrics.json").read_text())["scores"]}
    measured = {score.name: score for score in zeroshot.run(nano, Plan(count=150, seed=1)).scores}
    for name in ("category top-1", "colour top-1"):
        assert abs(measured[name].value - card[name]) < 0.12  # more than four standard errors of 150 pictures


def test_bfloat16_and_float32_agree(nano: percept.Encoder) -> None:
    generator = torch.Generator().manual_seed(0)
    pictures = torch.rand(8, 3, 96, 96, generator=generator) * 2 - 1
    wide, narrow = (percept.load("nano", dtype=dtype).image(pictures) for dtype in ("float32", "bfloat16"))
    assert (wide * narrow).sum(dim=-1).min() > 0.99


def test_it_names_what_files_of_the_examples_are_called_after(nano: percept.Encoder) -> None:
    """Files named COLOUR-THING-NUMBER hold one thing; their compositions were not in training."""
    named = {
        path: name
        for path in sorted((Path(__file__).parents[2] / "examples" / "pictures").iterdir())
        for name in CATEGORIES
        if path.stem.split("-", 1)[-1].rsplit("-", 1)[0].replace("-", " ") == name
    }
    assert len(named) > 25
    best = (nano.image(list(named)) @ class_vectors(nano, list(CATEGORIES)).T).argmax(dim=1)
    right = [list(CATEGORIES)[number] == name for number, name in zip(best.tolist(), named.values(), strict=True)]
    assert sum(right) / len(right) > LEAST
