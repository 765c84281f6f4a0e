"""Continual learning: the metrics are those of the literature, methods read no earlier task, and an untrained run changes nothing."""

from dataclasses import replace
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from percept.core.errors import PerceptError
from percept.data.transforms import Preprocess
from percept.methods.adaptation.contract import tiny_base
from percept.methods.adaptation.few import LabelledSet, Seen
from percept.methods.continual import CONTINUAL
from percept.methods.continual.contract import Continual, Schedule, Task, batch_rows
from percept.methods.continual.harness import Matrix, accuracies, learn, run, tasks_of
from percept.methods.continual.zscl import Reference

CLASSES = ("red cup", "old book", "photo")
QUICK = Schedule(steps=3, batch=4, rate=1e-3, warmup=0)


def kind_of(name: str) -> type[Continual]:
    module, _, attribute = CONTINUAL[name].partition(":")
    return getattr(import_module(module), attribute)


def made(name: str) -> Any:
    """A method on the same random towers every time."""
    kind: Any = kind_of(name)
    torch.manual_seed(0)
    base = tiny_base()
    method = kind(kind.tiny_config(), base)
    if name == "zscl":
        dice = torch.Generator().manual_seed(3)
        method.refer(Reference(image=torch.randn(5, 3, 16, 16, generator=dice), texts=("a cup", "an old photo")))
    return method


def tasks(count: int = 3, shots: int = 2) -> tuple[list[Task], list[tuple[str, int]]]:
    """Tasks of noise, and the list of the images that were read: (task, row)."""
    torch.manual_seed(0)
    base, read = tiny_base(), []
    encoder: Any = SimpleNamespace(
        model=base.clip,
        tokenizer=base.tokenizer,
        name="tiny",
        preprocess=Preprocess(size=16),
        image=base.clip.embed_image,
    )
    sets = []
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 255, (18, 16, 16, 3), dtype=np.uint8)

        def image(row: int, name: str = f"task {number}", pixels: np.ndarray = pixels) -> np.ndarray:
            read.append((name, row))
            return pixels[row]

        labels, inside = np.repeat(np.arange(3), 6), np.tile(np.arange(6), 3) < 3
        data = LabelledSet(
            name=f"task {number}", classes=tuple(np.roll(CLASSES, number).tolist()), image=image, labels=labels, keys=tuple(map(str, range(18))),
            pool=np.flatnonzero(inside), test=np.flatnonzero(~inside), looks=np.arange(18),
        )  # fmt: skip
        sets.append(Seen(data=data, encoder=encoder, vectors=torch.zeros(18, 12)))
    return tasks_of(sets, shots, seed=1), read


def test_the_metrics_of_a_small_matrix() -> None:
    after = np.array([[80, 50, 40], [70, 90, 45], [60, 85, 95]]) / 100
    matrix = Matrix(after=after, before=np.array([0.5, 0.55, 0.45]))
    assert matrix.transfer == pytest.approx(0.4625)
    assert matrix.average == pytest.approx(0.683333, abs=1e-6)
    assert matrix.last == pytest.approx(0.8)
    assert matrix.forgetting == pytest.approx(0.125)
    assert matrix.backward == pytest.approx((60 - 80 + 85 - 90) / 200)
    assert matrix.zero_shot_transfer == pytest.approx(0.5)
    assert matrix.incremental == pytest.approx((0.8 + (0.7 + 0.9) / 2 + 0.8) / 3)
    plain = matrix.zero_shot
    assert plain.transfer == pytest.approx(0.5)
    assert plain.average == plain.last == pytest.approx(0.5)
    assert plain.forgetting == 0


@pytest.mark.parametrize("name", list(CONTINUAL))
def test_a_sequence_is_learned_and_repeatable(name: str) -> None:
    found = []
    for _ in range(2):
        sequence, _ = tasks()
        matrix, facts = run(made(name), sequence[:2], schedule=QUICK, seed=4, others=sequence[2:])
        found.append(matrix)
        assert matrix.after.shape == (2, 2)
        assert set(facts["never learned"]) == {"task 2"}
    assert np.array_equal(found[0].after, found[1].after)


@pytest.mark.parametrize("name", list(CONTINUAL))
def test_the_form_of_the_model_stays_and_the_scale_is_not_trained(name: str) -> None:
    method, (sequence, _) = made(name), tasks()
    scale = float(method.clip.scale())
    before = {each: value.clone() for each, value in method.clip.state_dict().items()}
    learn(method, sequence[0], QUICK, seed=0)
    assert float(method.clip.scale()) == scale
    changed = {each for each, value in method.clip.state_dict().items() if not torch.equal(value, before[each])}
    assert any(each.startswith("vision.") for each in changed)
    assert any(each.startswith("text.") for each in changed)
    assert all(each.grad is None for each in method.parameters())


@pytest.mark.parametrize("name", list(CONTINUAL))
def test_training_reads_the_drawn_images_of_the_task_alone(name: str) -> None:
    method, (sequence, read) = made(name), tasks()
    learn(method, sequence[0], QUICK, seed=0)
    read.clear()
    learn(method, sequence[1], QUICK, seed=0)
    assert {task for task, _ in read} == {"task 1"}
    assert {row for _, row in read} <= set(sequence[1].drawn.tolist())


@pytest.mark.parametrize("name", list(CONTINUAL))
def test_no_steps_change_nothing(name: str) -> None:
    method, (sequence, _) = made(name), tasks()
    pixels = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        before = method.clip.embed_image(pixels)
        learn(method, sequence[0], replace(QUICK, steps=0), seed=0)
        torch.testing.assert_close(method.clip.embed_image(pixels), before)


def test_the_union_of_names_is_harder_and_equal_names_are_one() -> None:
    method, (sequence, _) = made("continual-fine-tuning"), tasks()
    by_task = accuracies(method.clip, method.tokens, sequence, "task")
    union = accuracies(method.clip, method.tokens, sequence, "union")
    assert np.allclose(by_task, union)  # all tasks have the same three names
    with pytest.raises(PerceptError, match="protocol"):
        accuracies(method.clip, method.tokens, sequence, "all")


def test_learned_tasks_are_classified_among_the_names_so_far() -> None:
    sequence, _ = tasks(2)
    later = replace(sequence[1], shots=replace(sequence[1].shots, names=("a cup", "red book", "old photo")))
    matrix, _ = run(
        made("continual-fine-tuning"), [sequence[0], later], protocol="seen", schedule=replace(QUICK, steps=0)
    )
    alone = made("continual-fine-tuning")
    assert matrix.after[0, 0] == accuracies(alone.clip, alone.tokens, sequence[:1], "task")[0]
    assert np.allclose(matrix.after[1], accuracies(alone.clip, alone.tokens, [sequence[0], later], "union"))
    assert matrix.untouched is not None
    assert np.array_equal(matrix.after, matrix.untouched)


def test_means_with_the_initial_weights_are_measured_and_training_goes_on_without_them() -> None:
    found = []
    for blends in ((), (0.0, 0.5, 1.0)):
        method, (sequence, _) = made("continual-fine-tuning"), tasks()
        found.append(run(method, sequence[:2], schedule=QUICK, others=sequence[2:], blends=blends))
    (plain, _), (matrix, facts) = found
    assert np.array_equal(plain.after, matrix.after)
    assert set(facts["blends"]) == {0.0, 0.5, 1.0}
    assert np.array_equal(facts["blends"][1.0][0].after, matrix.after)
    assert np.array_equal(facts["blends"][0.0][0].after, matrix.zero_shot.after)
    before, after = facts["blends"][0.0][1]["task 2"]
    assert before == after


@pytest.mark.parametrize("name", list(CONTINUAL))
def test_teachers_stay_in_evaluation_mode(name: str) -> None:
    method = made(name).train()
    assert method.clip.training
    for part, child in method.named_children():
        assert part == "clip" or not any(each.training for each in child.modules())


@pytest.mark.parametrize("name", list(CONTINUAL))
def test_label_smoothing_is_a_field_of_every_method(name: str) -> None:
    losses = []
    for smoothing in (0.0, 0.4):
        method, (sequence, _) = made(name), tasks()
        method.config = replace(method.config, smoothing=smoothing)
        method.begin(sequence[0])
        batch = sequence[0].batch(range(4), None, method.tokens(sequence[0].texts))
        found = method(batch)
        losses.append(next(value for loss, value in found.items() if loss in ("cross_entropy", "image_to_text")))
    assert not torch.isclose(*losses)
    with pytest.raises(PerceptError, match="smoothing"):
        replace(made(name).config, smoothing=1.0)


def test_what_is_kept_grows_with_the_tasks() -> None:
    sizes = {}
    for name in CONTINUAL:
        method, (sequence, _) = made(name), tasks()
        sizes[name] = []
        for task in sequence[:2]:
            learn(method, task, QUICK, seed=0)
            sizes[name].append(sum(method.kept().values()))
    assert sizes["continual-fine-tuning"] == sizes["lwf"] == sizes["codyra"] == [0, 0]
    assert sizes["replay"][1] == 2 * sizes["replay"][0] > 0
    assert (
        sizes["mulki-like"][1] - sizes["mulki-like"][0] == 2 * 3 * 12 * 4
    )  # vectors of 12 numbers, three classes, both modalities
    assert sizes["zscl"][1] == sizes["zscl"][0] > 0


def test_batches_are_whole_epochs_in_random_order() -> None:
    schedule = Schedule(batch=4)
    first = [batch_rows(12, schedule, 0, step) for step in range(3)]
    assert sorted(row for rows in first for row in rows) == list(range(12))
    assert first == [batch_rows(12, schedule, 0, step) for step in range(3)]
    assert first != [batch_rows(12, schedule, 0, step) for step in range(3, 6)]
    assert sorted(batch_rows(3, schedule, 0, 7)) == [0, 1, 2]


@pytest.mark.parametrize("wrong", [{"steps": -1}, {"batch": 0}, {"rate": 0.0}])
def test_impossible_schedules_are_refused(wrong: dict) -> None:
    with pytest.raises(PerceptError):
        Schedule(**wrong)
