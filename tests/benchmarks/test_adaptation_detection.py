"""Sets and verdicts of the benchmarks of DetPro and IP-CLIP."""

from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw


@pytest.fixture(scope="module")
def modules() -> Any:
    return SimpleNamespace(
        detpro=import_module("detpro"), sets=import_module("detpro_sets"), ip=import_module("ip_clip")
    )


def test_scenes_hold_boxes_of_their_masks_and_are_read_again(modules: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("PERCEPT_CACHE", str(tmp_path))
    first, again = (modules.sets.scenes("comic", "test", 4) for _ in range(2))
    for one, other in zip(first, again, strict=True):
        assert all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("image", "boxes", "label", "masks"))  # fmt: skip
        for box, mask in zip(one.boxes, one.masks, strict=True):
            assert np.allclose(box, modules.sets.box_of(mask))
        assert one.masks.sum(axis=0).max() <= 1


def test_new_classes_are_rare_in_training_images_and_other_images_are_tested(modules: Any) -> None:
    drawn = [modules.sets.scene("comic", seed, rare=modules.sets.RARE) for seed in range(12)]
    labels = np.concatenate([one.label for one in drawn if one is not None])
    assert (labels < len(modules.sets.BASE)).mean() > 0.6
    assert not set(modules.sets.BASE) & set(modules.sets.NEW)


def test_a_drawing_is_cut_out_of_white(modules: Any) -> None:
    drawing = Image.new("RGB", (20, 20), "white")
    ImageDraw.Draw(drawing).ellipse((4, 4, 15, 15), fill=(200, 30, 30))
    drawing.putpixel((9, 9), (255, 255, 255))  # white inside belongs to the thing
    mask = np.asarray(modules.sets.cut_out(drawing)) > 0
    assert mask[9, 9]
    assert not mask[0, 0]
    assert mask.sum() == (np.asarray(drawing.convert("L")) < 250).sum() + 1


def test_differences_of_precision_are_paired_by_image(modules: Any) -> None:
    draws = np.linspace(10, 30, 100)

    def record(arm: str, shift: float) -> dict[str, Any]:
        score = {"AP": 20 + shift, "draws": (draws + shift).tolist()}
        return {"model": "m", "seed": 1, "arm": arm, "sets": {"comic": {"both heads": {"new box": score}}}}

    records = [record("DetPro", 1.0), record("hand prompt", 0.0)]
    row = modules.detpro.compared(records, "DetPro", "hand prompt", "comic", "new box")
    assert (row["difference"], row["interval"], row["verdict"]) == (1.0, [1.0, 1.0], "holds")
    assert modules.detpro.compared(records, "DetPro", "hand ensemble", "comic", "new box") == {}


def test_protection_is_judged_against_the_unprotected_arm(modules: Any) -> None:
    def record(arm: str, authorised: float, unauthorised: float) -> dict[str, Any]:
        row = {"model": "m", "scenario": "given", "cell": ["a", "b"], "arm": arm, "seed": 1, "unseen": [1], "prompt dropped": [1]}  # fmt: skip
        return row | {
            name: [1] * round(100 * share) + [0] * round(100 - 100 * share)
            for name, share in (("authorised", authorised), ("unauthorised", unauthorised))
        }

    records = [record("before", 0.9, 0.8), record("IP-CLIP", 0.9, 0.1), record("- banks", 0.9, 0.7)]
    found = modules.ip.measures(records, "given", "IP-CLIP")
    assert (found["D_a"], found["D_u"], found["W_ua"]) == (0.0, 0.7, 0.63)
    assert [row["verdict"] for row in modules.ip.thresholds(records, "given")] == ["holds", "holds"]
    assert modules.ip.against(records, "- banks")["verdict"] == "holds"
    assert modules.ip.against(records, "- style") == {}
