"""The test beds of adaptation: renderings are deterministic images, sets divide train and test, and the gate refuses sets without room."""

import random
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from percept.methods.adaptation.bench import verdict
from percept.methods.adaptation.contract import tiny_base
from percept.methods.adaptation.few import LabelledSet, Seen


@pytest.fixture(scope="module")
def beds() -> ModuleType:
    return import_module("beds")


def test_every_rendering_gives_the_same_image_for_a_seed(beds: ModuleType) -> None:
    drawing = Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 48, 3), dtype=np.uint8))
    for render in beds.SCANS.values():
        one, two = (np.asarray(render(drawing, random.Random(3))) for _ in range(2))
        assert one.shape == (48, 48, 3)
        assert np.array_equal(one, two)
        assert not np.array_equal(one, np.asarray(drawing))
    for place in beds.GROUND:
        assert beds.from_above(place, 32, random.Random(1)).size == (32, 32)


def test_a_drawn_set_is_stored_and_divided(beds: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beds, "home", lambda: tmp_path)
    monkeypatch.setattr(beds, "POOL", 3)
    monkeypatch.setattr(beds, "TEST", 2)
    drawn: list[str] = []

    def draw(kind: str, number: int, rng: random.Random) -> Image.Image:
        drawn.append(kind)
        return Image.new("RGB", (8, 8), (rng.randrange(256), number, 0))

    one, two = (beds.drawn_set("small", ("cat", "dog", "owl"), draw) for _ in range(2))
    assert len(drawn) == 15
    assert sorted(one.classes) == ["cat", "dog", "owl"]
    assert one.keys == two.keys
    assert np.bincount(one.labels[one.pool]).tolist() == [3, 3, 3]
    assert np.bincount(one.labels[one.test]).tolist() == [2, 2, 2]
    assert not set(one.pool) & set(one.test)
    assert np.array_equal(one.image(4), two.image(4))


@pytest.mark.parametrize(("right", "passes"), [(0.2, False), (0.6, True), (1.0, False)])
def test_the_gate_refuses_sets_without_room(
    beds: ModuleType, right: float, passes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Image vectors are the class vectors, so that a known share of the images is right."""
    torch.manual_seed(0)
    base, classes, each = tiny_base(), ("cup", "old book", "red cup", "photo"), 10
    labels = np.repeat(np.arange(4), each)
    wrong = np.tile(np.arange(each) >= right * each, 4)
    data = LabelledSet(
        name="planted", classes=classes, image=lambda row: None, labels=labels, keys=tuple(map(str, range(40))), pool=np.arange(40),
        test=np.arange(40), looks=np.arange(40),
    )  # fmt: skip
    texts = base.clip.embed_text(base.tokenizer([f"a photo of a {name}." for name in classes])).detach()
    vectors = texts[torch.from_numpy((labels + wrong) % 4)]
    encoder: Any = type("Fixed", (), {"model": base.clip, "tokenizer": base.tokenizer, "name": "fixed"})()
    monkeypatch.setattr(beds, "seen_by", lambda encoder, data: Seen(data=data, encoder=encoder, vectors=vectors))
    row = beds.gate(encoder, data)
    assert row["zero-shot"] == pytest.approx(right, abs=1e-6)
    assert row["passes"] is passes


def test_a_verdict_needs_an_interval_on_one_side_of_zero() -> None:
    from percept.eval.statistics import mean

    assert verdict(mean("x", [0.1, 0.2])) == "holds"
    assert verdict(mean("x", [0.1, 0.2]), sign=-1) == "does not hold"
    assert verdict(mean("x", [-0.1, 0.2])) == "within noise"
    assert verdict(None) == "not measured"
