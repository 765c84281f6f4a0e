"""Sets and verdicts of the benchmarks of DetPro and IP-CLIP."""

from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import recorded
import torch
from PIL import Image, ImageDraw

from percept.core.errors import PerceptError
from percept.methods.adaptation.contract import TINY_NAMES, Training, tiny_base
from percept.methods.detection.vild import ViLD
from tests.benchmarks.small import noise, tiny_encoder


@pytest.fixture(scope="module")
def modules() -> Any:
    return SimpleNamespace(
        detpro=import_module("detpro"), report=import_module("detpro_report"), sets=import_module("detpro_sets"),
        ip=import_module("ip_clip"), ip_report=import_module("ip_clip_report"),
    )  # fmt: skip


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


def precision_record(arm: str, shift: float, seed: int = 1) -> dict[str, Any]:
    score = {"AP": 20 + shift, "draws": (np.linspace(10, 30, 100) + shift).tolist()}
    sets = {name: {"both heads": {"new box": score}} for name in ("comic", "halftone")}
    return {"model": "m", "seed": seed, "arm": arm, "sets": sets}


def test_differences_of_precision_are_paired_by_image_and_by_cell(modules: Any) -> None:
    records = [precision_record("DetPro", 1.0 + seed / 10, seed) for seed in range(6)]
    records += [precision_record("hand prompt", 0.0, seed) for seed in range(6)]
    row = modules.report.compared(records, "above", ("DetPro", "hand prompt"), ["comic"], "new box")
    assert (row["value"], row["interval over images"], row["cells"]) == (1.25, [1.25, 1.25], 6)
    assert 1.0 < row["interval"][0] < row["interval"][1] < 1.5
    assert row["verdict"] == row["verdict over images"] == "holds"
    both = modules.report.compared(records, "above", ("DetPro", "hand prompt"), ["comic", "halftone"], "new box")
    assert (both["cells"], both["set"]) == (12, "comic, halftone")
    few = modules.report.compared(records[:1] + records[6:], "above", ("DetPro", "hand prompt"), ["comic"], "new box")
    assert (few["verdict"], few["verdict over images"]) == ("too few cells", "holds")
    assert modules.report.compared(records, "above", ("DetPro", "hand ensemble"), ["comic"], "new box") == {}


def test_resampled_precisions_are_those_of_the_library_form(modules: Any) -> None:
    rng = np.random.default_rng(0)
    of_class = modules.report.OfClass(
        images=rng.integers(0, 20, 60), hit=np.sort(rng.random((10, 60)) < 0.3, axis=0)[::-1], ignored=rng.random((10, 60)) < 0.1,
        truths=rng.integers(0, 6, 20),
    )  # fmt: skip
    empty = replace(of_class, images=np.zeros(0, int), hit=np.zeros((10, 0), bool), ignored=np.zeros((10, 0), bool))
    precision = modules.report.Precision(classes=[of_class, empty], thresholds=tuple(range(10)), library=0.5, images=20)
    weights = rng.multinomial(20, np.full(20, 1 / 20), size=40).astype(float)
    assert np.allclose(modules.report.resampled(precision, weights), precision.values(weights), atol=1e-9)


def things(modules: Any, style: str, part: str, count: int) -> list[Any]:
    """Images of noise with two bright squares, as small as the tiny encoder takes them."""
    drawn = []
    for number in range(count):
        rng = np.random.default_rng([number, len(part), len(style)])
        image, masks = rng.integers(0, 90, (16, 16, 3), dtype=np.uint8), np.zeros((2, 16, 16), bool)
        masks[0, 2:8, 2:8], masks[1, 9:15, 8:14] = True, True
        image[masks.any(0)] += 120
        boxes = np.array([[2, 2, 8, 8], [8, 9, 14, 15]], np.float32) / 16
        label = np.array([number % 3, len(modules.sets.BASE) + number % 2])
        drawn.append(modules.sets.Drawn(image=image, boxes=boxes, label=label, masks=masks))
    return drawn


@pytest.mark.slow
def test_arms_are_trained_alike_whether_they_run_at_once_or_later(
    modules: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, encoder = modules.detpro, tiny_encoder()
    steps: dict[str, list[int]] = {}
    naming = ViLD.naming

    def watched(self: ViLD, batch: Any) -> Any:
        loss = naming(self, batch)
        steps.setdefault(folder.name, []).append(self.steps)
        return loss

    monkeypatch.setattr(ViLD, "naming", watched)
    monkeypatch.setattr(modules.report, "RESAMPLES", 5)
    monkeypatch.setattr(bench, "scenes", lambda *about: things(modules, *about))
    monkeypatch.setattr(bench.percept, "load", lambda name, dtype: encoder)
    options = bench.Options(
        models=("tiny",), seeds=1, train=6, test=4, sets=("comic",), steps=3, name_steps=2, epochs=2
    )
    arms, results = {name: bench.ARMS[name] for name in ("hand prompt", "DetPro")}, []
    for folder, at_first in ((tmp_path / "whole", 2), (tmp_path / "resumed", 1)):
        monkeypatch.setenv("PERCEPT_CACHE", str(folder))
        for count in (at_first, 2):
            monkeypatch.setattr(bench, "ARMS", dict(list(arms.items())[:count]))
            records = bench.run(options, [folder / "runs.jsonl"])
        results.append([{name: value for name, value in each.items() if name != "seconds"} for each in records])
    assert len(results[0]) == 2
    assert results[0] == results[1]
    assert steps["whole"] == steps["resumed"] == [1, 2] * 2
    assert results[0][0]["model"] == encoder.name != "tiny"
    assert bench.recorded(options, [folder / "runs.jsonl"]) == records
    assert len(bench.run(replace(options, name_steps=1), [folder / "runs.jsonl"])) == 2
    assert len((folder / "runs.jsonl").read_text().splitlines()) == 4


def protected(arm: str, authorised: Sequence[float], unauthorised: Sequence[float], seed: int = 1) -> dict[str, Any]:
    row = {"model": "m", "scenario": "given", "cell": ["a", "b"], "arm": arm, "seed": seed, "unseen": [1], "prompt dropped": [1]}  # fmt: skip
    return row | {"authorised": list(authorised), "unauthorised": list(unauthorised)}


def shares(share: float) -> list[float]:
    return [1.0] * round(100 * share) + [0.0] * round(100 - 100 * share)


def test_protection_is_judged_against_the_unprotected_arm(modules: Any) -> None:
    records = [
        protected(arm, shares(authorised), shares(unauthorised), seed)
        for seed in range(6)
        for arm, authorised, unauthorised in (("before", 0.9, 0.8), ("IP-CLIP", 0.9, 0.1), ("- banks", 0.9, 0.7))
    ]
    found = modules.ip_report.measures(records, "given", "IP-CLIP")
    assert (found["D_a"], found["D_u"], found["W_ua"]) == (0.0, 0.7, 0.63)
    rows = modules.ip_report.thresholds(records, "given")
    assert [row["verdict"] for row in rows] == [row["verdict over images"] for row in rows] == ["holds", "holds"]
    assert [row["value"] for row in rows] == [0.0, 0.3]
    assert modules.ip_report.against(records, "- banks")["verdict"] == "holds"
    assert modules.ip_report.against(records, "- style") == {}


def test_seeds_of_one_pair_of_domains_are_not_more_images(modules: Any) -> None:
    rng = np.random.default_rng(0)
    values = {arm: (rng.random(60) < 0.6, rng.random(60) < 0.5) for arm in ("before", "IP-CLIP", "- banks")}
    widths = []
    for seeds in (1, 8):
        records = [
            protected(arm, parts[0].astype(float).tolist(), parts[1].astype(float).tolist(), seed)
            for arm, parts in values.items()
            for seed in range(seeds)
        ]
        rows = [*modules.ip_report.thresholds(records, "given"), modules.ip_report.against(records, "- banks")]
        widths.append([row["interval over images"] for row in rows])
        assert {row["cells"] for row in rows} == {seeds}
    assert widths[0] == widths[1]


def test_images_that_pairs_of_domains_share_are_resampled_together(modules: Any) -> None:
    rng = np.random.default_rng(0)
    shown, steady = (rng.random(60) < 0.5).astype(float), [1.0] * 60
    records = []
    for arm, of_shown in (("IP-CLIP", shown), ("- banks", np.zeros(60))):
        records.append(protected(arm, of_shown.tolist(), steady) | {"cell": ["a", "b"]})
        records.append(protected(arm, steady, of_shown.tolist()) | {"cell": ["b", "a"]})
    row = modules.ip_report.against(records, "- banks")
    assert (row["value"], row["interval over images"]) == (
        0.0,
        [0.0, 0.0],
    )  # what an image adds to one pair, it takes from the other
    parts = modules.ip_report.domains_of(records[0] | {"scenario": "applicability"}, "unauthorised")
    assert parts == ("a", "b")


def test_the_visual_rival_has_the_batches_and_the_schedule_of_the_prompts(
    modules: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    method = modules.ip.IPCLIP(modules.ip.IPCLIP.Config(hidden=8), tiny_base(), TINY_NAMES)
    pool = tuple(method.see(torch.randn(9, 3, 16, 16), torch.arange(3).repeat(3)) for _ in range(2))
    rates, step = [], torch.optim.AdamW.step

    def watched(self: Any, *rest: Any) -> Any:
        rates.append(self.param_groups[0]["lr"])
        return step(self, *rest)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    options = modules.ip.Options(epochs=3, batch=4, rate=1e-3)
    modules.ip.visual(method, pool, options, 1)
    own, rates[:] = list(rates), []
    training = Training(epochs=3, batch=4, rate=1e-3, optimiser="adamw", weight_decay=0.0, warmup=0)
    modules.ip.protect(method, *pool, training, seed=1)
    assert own == rates
    assert len(own) == 3 * 2
    assert own[0] == 1e-3 > own[-1]


def test_runs_of_ip_protection_are_resumed_and_pass_the_gate(
    modules: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, encoder = modules.ip, tiny_encoder()
    monkeypatch.setenv("PERCEPT_CACHE", str(tmp_path))
    sets = {name: noise(f"ip-{name}", bench.KINDS[:3], seed, pool=4, test=4) for seed, name in enumerate(bench.DOMAINS)}
    monkeypatch.setattr(bench, "domain_set", lambda name, classes: sets[name])
    monkeypatch.setattr(bench.percept, "load", lambda name, dtype: encoder)
    monkeypatch.setattr(recorded, "LOWEST", 0.0)
    options = bench.Options(models=("tiny",), seeds=1, cells=1, classes=3, epochs=1, batch=4, scenarios=("given", "applicability"))  # fmt: skip
    first = bench.run(options, [tmp_path / "runs.jsonl"])
    assert [each["arm"] for each in first if each["scenario"] == "given"] == ["before", "IP-CLIP", bench.VISUAL, *list(bench.ARMS)[2:]]  # fmt: skip
    lines = (tmp_path / "runs.jsonl").read_text()
    assert bench.run(options, [tmp_path / "runs.jsonl"]) == first
    assert (tmp_path / "runs.jsonl").read_text() == lines
    assert bench.recorded(options, [tmp_path / "runs.jsonl"]) == first
    assert len(bench.run(replace(options, epochs=2, scenarios=("ownership",)), [tmp_path / "runs.jsonl"])) == 2
    ownership = replace(options, epochs=2, scenarios=("ownership",))
    old = bench.run(ownership, [tmp_path / "runs.jsonl"])
    pixels = sets["pixels"]
    sets["pixels"] = replace(pixels, keys=tuple(f"redrawn {key}" for key in pixels.keys))
    assert {each["settings"] for each in bench.run(ownership, [tmp_path / "runs.jsonl"])}.isdisjoint({each["settings"] for each in old})  # fmt: skip
    with pytest.raises(PerceptError, match="two different settings"):
        bench.recorded(ownership, [tmp_path / "runs.jsonl"])
    sets["pixels"] = pixels
    assert modules.ip_report.thresholds(first, "given")[0]["cells"] == 1
    assert len(first[0]["authorised"]) == 12
    monkeypatch.setattr(recorded, "LOWEST", 3.1)
    assert bench.run(options, [tmp_path / "runs.jsonl"]) == []
