"""DetPro against a loop, its grades and weights, and what each part of it changes."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from percept.core.errors import PerceptError
from percept.methods.adaptation.contract import TINY_NAMES, Training, tiny_base
from percept.methods.adaptation.prompts import PromptConfig
from percept.methods.detection.detpro import DetPro, learn
from percept.methods.detection.regions import BACKGROUND, Regions, assigned, coverage, jittered, region_vectors
from percept.methods.saved import own_tensors
from percept.models.clip import unit

SHORT = PromptConfig(context=4)


def method(**fields: Any) -> tuple[DetPro, Regions]:
    torch.manual_seed(0)
    _, batch = DetPro.tiny()
    task = DetPro(DetPro.Config(prompt=SHORT, **fields), tiny_base(), TINY_NAMES)
    task.prepare(batch)
    return task, batch


def by_hand(task: DetPro, batch: Regions) -> float:
    """Return the loss of the docstring, region by region."""
    limits, total = task.config.grades, 0.0
    graded = task.graded()
    n_background = int((batch.label == BACKGROUND).sum())
    for grade in range(len(limits) - 1):
        last = grade == len(limits) - 2

        def inside(row: int, low: float = limits[grade], high: float = limits[grade + 1], last: bool = last) -> bool:
            overlap = float(batch.overlap[row])
            return int(batch.label[row]) != BACKGROUND and overlap >= low - 1e-6 and (overlap < high or last)

        rows = [row for row in range(len(batch)) if inside(row)]
        count = len(rows) + n_background
        top = bottom = 0.0
        for row in range(len(batch)):
            cosines = [float(batch.vector[row] @ vector) / task.config.temperature for vector in graded[grade]]
            norm = math.log(sum(math.exp(value - max(cosines)) for value in cosines)) + max(cosines)
            if row in rows:
                label = int(batch.label[row])
                weight = count / (len(cosines) * sum(int(batch.label[each]) == label for each in rows))
                top, bottom = top + weight * (norm - cosines[label]), bottom + weight
            elif batch.label[row] == BACKGROUND and task.config.background == "uniform":
                weight = count / (2 * n_background)
                top += weight * sum(norm - value for value in cosines) / len(cosines)
                bottom += weight
        total += top / bottom if bottom else 0.0
    return total


@pytest.mark.parametrize("grades", [(0.5, 0.6, 0.7, 0.8, 0.9, 1.0), (0.5, 1.0), (1.0, 1.0)])
@pytest.mark.parametrize("background", ["uniform", "none"])
def test_the_loss_equals_a_loop_over_regions(grades: tuple[float, ...], background: str) -> None:
    task, batch = method(grades=grades, background=background)
    with torch.no_grad():
        assert float(task(batch)["loss"]) == pytest.approx(by_hand(task, batch), rel=1e-4)


def test_a_grade_learns_from_its_own_regions_only() -> None:
    task, batch = method(background="none")
    kept = (batch.overlap > 0.5) & (batch.overlap < 0.6)
    task(Regions(**{name: value[kept] for name, value in batch.tensors().items()}))["loss"].backward()
    reached = [bool(prompt.context.grad.any()) for prompt in task.prompts]  # type: ignore[union-attr, operator]
    assert reached == [True, False, False, False, False]


def test_background_looks_like_every_class_alike() -> None:
    task, batch = method(grades=(0.5, 1.0), temperature=0.2)
    empty = Regions(**{name: value[batch.label == BACKGROUND] for name, value in batch.tensors().items()})
    optimiser = torch.optim.SGD([each for each in task.parameters() if each.requires_grad], lr=0.1)

    def spread() -> float:
        with torch.no_grad():
            return float((empty.vector @ task.class_vectors().T).std(dim=1).mean())

    before = spread()
    for _ in range(20):
        optimiser.zero_grad()
        task(empty)["loss"].backward()
        optimiser.step()
    assert spread() < 0.9 * before


def test_the_ensemble_is_the_unit_mean_of_the_grades() -> None:
    task, _ = method()
    with torch.no_grad():
        graded = task.graded()
        assert graded.shape == (5, 3, 12)
        alone = torch.stack([prompt.vectors(task.base.text) for prompt in task.prompts])  # type: ignore[operator]
        torch.testing.assert_close(graded, alone, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(task.class_vectors(), unit(graded.sum(0)))


def test_its_trained_values_are_the_declared_ones() -> None:
    for background in ("uniform", "learned"):
        task, _ = method(background=background)
        task.check_trainable()
    assert DetPro.Config().prompt.context * 512 == 4096  # of a grade, at the width of ViT-B/16's text tower


def test_other_classes_keep_the_contexts() -> None:
    task, batch = method()
    before = {name: value.clone() for name, value in own_tensors(task).items()}
    task.eval().use(("cup", "book"))
    with torch.no_grad():
        assert task.classes().shape == (2, 12)
    assert all(torch.equal(value, before[name]) for name, value in own_tensors(task).items())
    assert not any("weights" in name for name in before)
    few = Regions(**{name: value[batch.label < 2] for name, value in batch.tensors().items()})
    learn(task, few, Training(epochs=1, batch=8), seed=0)  # and it can be trained on them


def test_learning_lowers_the_loss_and_is_repeatable() -> None:
    results = []
    for _ in range(2):
        task, batch = method(temperature=0.1)
        losses: list[float] = []
        training = Training(epochs=20, batch=8, rate=0.2, momentum=0.9, warmup=0)
        learn(task, batch, training, seed=1, told=lambda _, loss, losses=losses: losses.append(loss))
        assert losses[-1] < 0.95 * losses[0]
        assert not task.training
        results.append(losses)
    assert results[0] == results[1]


def test_regions_without_a_grade_are_an_error() -> None:
    task, batch = method(grades=(0.5, 0.6))
    with pytest.raises(PerceptError, match="no region overlaps"):
        learn(task, replace(batch, overlap=torch.full((8,), 0.4)), DetPro.recipe(0), seed=0)
    with pytest.raises(PerceptError, match="increasing limits"):
        DetPro.Config(grades=(0.9, 0.5))


def test_coverage_is_the_share_of_a_box_on_each_patch() -> None:
    found = coverage(torch.tensor([[0.0, 0.0, 0.5, 0.5], [0.25, 0.0, 0.75, 1.0], [0.4, 0.4, 0.4, 0.4]]), (2, 2))
    assert found[0].tolist() == [1, 0, 0, 0]
    assert found[1].tolist() == [0.25, 0.25, 0.25, 0.25]
    assert found[2].sum() == 0
    wide = coverage(torch.tensor([[0.0, 0.0, 1.0, 0.5]]), (2, 3))
    torch.testing.assert_close(wide, torch.tensor([[1, 1, 1, 0, 0, 0]]) / 3)


def test_the_vector_of_one_patch_is_the_pooling_head_over_this_patch() -> None:
    torch.manual_seed(0)
    tower = tiny_base().clip.vision
    with torch.no_grad():
        seen = tower(torch.randn(1, 3, 16, 16), pool=False)
        found = region_vectors(tower, seen.tokens[0], seen.grid, torch.tensor([[0.5, 0.0, 1.0, 0.5]]))  # type: ignore[arg-type]
        torch.testing.assert_close(found, unit(tower.pooled(seen.tokens[:, seen.prefix + 1 : seen.prefix + 2], 0)), atol=1e-5, rtol=1e-5)  # fmt: skip


def test_boxes_are_assigned_to_what_they_overlap_most() -> None:
    truth, labels = torch.tensor([[0.0, 0.0, 0.4, 0.4], [0.5, 0.5, 1.0, 1.0]]), torch.tensor([7, 3])
    label, overlap, thing = assigned(torch.cat([truth, torch.tensor([[0.0, 0.0, 0.2, 0.2]])]), truth, labels)
    assert (label.tolist(), thing.tolist()) == ([7, 3, BACKGROUND], [0, 1, 0])
    torch.testing.assert_close(overlap, torch.tensor([1.0, 1.0, 0.25]))
    assert assigned(truth, truth[:0], labels[:0])[0].tolist() == [BACKGROUND, BACKGROUND]


def test_shifted_boxes_reach_all_grades_and_stay_inside() -> None:
    rng = torch.Generator().manual_seed(0)
    truth = torch.tensor([[0.0, 0.0, 0.3, 0.3], [0.4, 0.2, 0.9, 0.8]]).repeat(20, 1)
    boxes = jittered(truth, 8, rng)
    assert bool((boxes >= 0).all() & (boxes <= 1).all() & (boxes[:, 2:] >= boxes[:, :2]).all())
    overlap = assigned(boxes, truth[:2], torch.tensor([0, 1]))[1]
    assert all(bool(((overlap >= low) & (overlap <= low + 0.1)).any()) for low in (0.5, 0.6, 0.7, 0.8, 0.9))
    torch.testing.assert_close(boxes[: len(truth)], truth)
