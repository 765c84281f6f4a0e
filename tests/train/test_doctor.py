"""The training doctor: each symptom gives exactly its message, and a healthy run gives none."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from percept.core.errors import PerceptError
from percept.data.batch import ImageText
from percept.methods.contrast import mean_cosine
from percept.models.clip import MAX_LOG_SCALE, unit
from percept.train import Every, doctor, fit
from percept.train.check import rehearse
from percept.train.doctor import (
    KINDS,
    collapsed,
    duplicate_captions,
    exploding,
    forgotten,
    normalisation,
    scale_at_bound,
    start_level,
    starving,
)
from percept.train.experiment import Experiment
from tests.train import toy
from tests.train.runs import SETTINGS, Config, RandomPairs, experiment

IMAGES = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


class Changed(RandomPairs):
    """Random pairs, changed before they are trained on."""

    def __init__(self, change: Callable[[ImageText], dict[str, torch.Tensor]]) -> None:
        super().__init__(4)
        self.change = change

    def batch(self, step: int, *, rank: int = 0, world_size: int = 1) -> ImageText:
        pairs = super().batch(step)
        return replace(pairs, **self.change(pairs))


def pairs(change: Callable[[ImageText], dict[str, torch.Tensor]]) -> Experiment:
    return experiment(source=Changed(change), steps=8, log_every=8)


def healthy() -> Experiment:
    return experiment(steps=8, log_every=8)


def repeated() -> Experiment:
    return pairs(lambda batch: {"tokens": batch.tokens[[0, 0, 0, 1]]})


def bounded() -> Experiment:
    run = healthy()
    with torch.no_grad():
        run.model.clip.log_scale.fill_(MAX_LOG_SCALE)  # type: ignore[union-attr]
    return run


def alike() -> Experiment:
    source = Changed(lambda batch: {"image": batch.image[:1].expand_as(batch.image)})
    return experiment(Config(settings=replace(SETTINGS, log_every=8), drop_path=0.0), source=source)


def raw() -> Experiment:
    return pairs(lambda batch: {"image": (batch.image.clamp(-2, 2) + 2) * 63})


def fast() -> Experiment:
    def descend(groups: list[dict[str, Any]]) -> list[torch.optim.Optimizer]:
        return [torch.optim.SGD(groups)]

    config = toy.Config(settings=replace(toy.SETTINGS, learning_rate=1.4, clip=1e9))
    return toy.recipe(config, optimiser=descend)


def forgetful() -> Experiment:
    every = Every(steps=12, call=lambda task, step: {"zero_shot": 0.5 - step / 100}, preserve=True)
    return replace(toy.recipe(), every=(every,))


def starved() -> Experiment:
    config = toy.Config(settings=replace(toy.SETTINGS, steps=8, log_every=4))
    return toy.recipe(config, source=lambda step: time.sleep(0.4))


CASES: dict[str, Callable[[], Experiment]] = {
    "duplicate captions": repeated,
    "logit scale": bounded,
    "collapsed embeddings": alike,
    "image normalisation": raw,
    "learning rate": fast,
    "forgetting": forgetful,
    "data loading": starved,
}


def test_every_kind_has_a_case() -> None:
    assert tuple(CASES) == KINDS


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine any run may wait for a second."""
    monkeypatch.setattr(doctor, "STARVED_SECONDS", 60.0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_symptom_gives_its_message_once_and_no_other(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    if kind != "data loading":
        request.getfixturevalue("patient")
    fit(CASES[kind](), tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "doctor.jsonl").read_text().splitlines()]
    assert [line["kind"] for line in lines] == [kind]
    shown = " ".join(capsys.readouterr().err.split())
    assert shown.count(f"step {lines[0]['step']}: {kind}: ") == 1
    assert " ".join(lines[0]["message"].split()) in shown


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("run", [healthy, toy.recipe])
def test_a_healthy_run_gives_none(run: Callable[[], Experiment], tmp_path: Path) -> None:
    fit(run(), tmp_path)
    assert not (tmp_path / "doctor.jsonl").exists()


def test_what_a_model_could_do_before_training_is_remembered_by_a_resumed_run(tmp_path: Path) -> None:
    asked: list[int] = []

    def measure(task: torch.nn.Module, step: int) -> dict[str, float]:
        asked.append(step)
        return {"zero_shot": 0.5 if step < 12 else 0.3}

    run = replace(toy.recipe(), every=(Every(steps=12, call=measure, preserve=True),))
    fit(run, tmp_path, minutes=0.0)
    assert not (tmp_path / "doctor.jsonl").exists()
    fit(run, tmp_path)
    assert asked == [0, 12, 24]
    (line,) = (json.loads(line) for line in (tmp_path / "doctor.jsonl").read_text().splitlines())
    assert (line["step"], line["kind"]) == (12, "forgetting")
    assert "zero_shot fell from 0.5 before training to 0.3" in line["message"]


@pytest.mark.usefixtures("patient")
def test_an_ability_measured_on_few_samples_may_fall_by_chance(tmp_path: Path) -> None:
    every = replace(forgetful().every[0], samples=20)
    fit(replace(forgetful(), every=(every,)), tmp_path)
    assert not (tmp_path / "doctor.jsonl").exists()
    with pytest.raises(PerceptError, match="samples=-1; it must be 0 or more"):
        replace(every, samples=-1)


def test_captions() -> None:
    different = torch.arange(20).view(10, 2)
    assert duplicate_captions(different) is None
    assert duplicate_captions(different[[0, 0, 0, *range(3, 10)]]) is None
    found = duplicate_captions(different[[0, 0, 0, 0, *range(4, 10)]])
    assert found is not None
    assert found.startswith("3 of the 10 captions")
    assert duplicate_captions(different[:1]) is None


def test_scale() -> None:
    assert scale_at_bound(99.0) is None
    assert "at its bound, 100" in str(scale_at_bound(math.exp(MAX_LOG_SCALE)))


def test_cosines() -> None:
    assert collapsed("image", [1.0] * 4) is None
    assert collapsed("image", [1.0] * 4 + [0.99]) is None
    assert "different images are nearly equal: their mean cosine is 0.9995" in str(collapsed("image", [0.9995] * 5))
    vectors = unit(torch.randn(5, 3))
    pairs = [float(vectors[i] @ vectors[j]) for i in range(5) for j in range(5) if i != j]
    assert float(mean_cosine(vectors)) == pytest.approx(sum(pairs) / 20, abs=1e-6)
    assert float(mean_cosine(vectors[:1])) == pytest.approx(0, abs=1e-6)


def imagenet(image: torch.Tensor) -> torch.Tensor:
    return (image - MEAN[:, None, None]) / STD[:, None, None]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (IMAGES * 2 - 1, None),
        (imagenet(IMAGES), None),
        (imagenet(torch.ones(1, 3, 8, 8).index_fill(2, torch.tensor([0]), 0.0)), None),
        ((IMAGES * 2 - 1).bfloat16(), None),
        (torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0)), None),
        (IMAGES * 255, "not divided by 255"),
        (IMAGES * 255 * 2 - 1, "not divided by 255"),
        (IMAGES, "were not applied"),
        ((IMAGES * 2 - 1) * 2 - 1, "normalised twice"),
        (imagenet(imagenet(IMAGES)), "normalised twice"),
        (IMAGES / 255 * 2 - 1, "scaled twice"),
        (torch.zeros(2, 3, 8, 8), "blank"),
        (torch.full((1, 3, 4, 4), math.nan), "not finite"),
    ],
)
def test_images(image: torch.Tensor, message: str | None) -> None:
    found = normalisation(image)
    assert found is None if message is None else message in str(found)


def test_explosions() -> None:
    usual = [2.0, 2.2, 1.8, 2.1] * 3
    flat = [1.0] * 40
    assert exploding(usual, flat[:12]) is None
    assert exploding([*usual, 9.0, 9.0, 9.0, 9.0, 2.0], flat[:17]) is None  # not five in a row
    assert "the loss was 9 or more for 5 steps; usual is 2.2" in str(exploding([*usual, *[9.0] * 5], flat[:17]))
    assert "the gradient norm was 11" in str(exploding(flat[:17], [*flat[:12], *[11.0] * 5]))
    level = math.inf
    for place, _ in enumerate(kinds := [0.001, 0.5, 0.4, 0.001, 0.5]):
        level = start_level(kinds[: place + 1], level)
    assert level == 0.5
    two_kinds = [0.001, 0.5, 0.001, 0.002, 0.5, 0.001, 0.002, 0.5, 0.001, *[0.5] * 5]
    assert exploding(two_kinds, flat[:14]) is None
    assert exploding([5.0] * 5, flat[:5]) is None  # too few to compare with
    slowly = [1 + 0.05 * step for step in range(40)]
    assert exploding(slowly, flat) is None
    assert "usual is 1" in str(exploding(slowly, flat, start=1.0))


def test_abilities_and_waiting() -> None:
    assert forgotten("a", 0.5, 0.46) is None
    assert forgotten("a", 0.5, 0.44) is not None
    assert forgotten("a", 0.5, 0.44, samples=200) is None
    assert "from 0.5 before training to 0.44 (n = 2,000)" in str(forgotten("a", 0.5, 0.44, samples=2000))
    assert forgotten("a", 0.95, 0.8, samples=200) is not None
    assert forgotten("a", 1.0, 0.5, samples=4) is None
    assert starving(0.9, 1.0) is None
    assert starving(2.0, 10.0) is None
    assert "3.0 of 10.0 s were spent waiting" in str(starving(3.0, 10.0))


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_chance_is_not_taken_for_forgetting(share: float) -> None:
    pairs = np.random.default_rng(0).binomial(200, share, (1000, 2)) / 200
    reports = [forgotten("a", float(before), float(now), samples=200) for before, now in pairs]
    assert sum(report is not None for report in reports) < 40


def test_a_rehearsal_takes_a_few_steps_calls_evaluations_and_saves_nothing(tmp_path: Path) -> None:
    saved: list[Path] = []
    evaluated: list[int] = []
    every = Every(steps=1000, call=lambda task, step: evaluated.append(step))
    run = replace(repeated(), every=(every,), save=lambda folder, task, totals: saved.append(folder))
    run = replace(run, settings=replace(run.settings, steps=1000, checkpoint_every=0.0))
    found = rehearse(run, steps=6)
    assert [remark.kind for remark in found.remarks] == ["duplicate captions"]
    assert found.checked == set(KINDS) - {"forgetting"}
    assert (found.steps, found.planned, evaluated, saved) == (6, 1000, [6], [])
    assert found.rate == 1.0  # reached after two steps of warmup
    assert found.seconds > 0
    assert found.memory > 2**20
    assert list(tmp_path.iterdir()) == []
    assert rehearse(toy.recipe(), steps=30).steps == 24
