"""The parts of continual methods that their papers define: constants, identities, and what each switch does."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from percept.core.errors import PerceptError
from percept.data.batch import ImageText
from percept.methods.adaptation.contract import tiny_base
from percept.methods.adaptation.texts import Base
from percept.methods.continual.codyra import CoDyRA, GatedLoRA
from percept.methods.continual.contract import TaskBatch, soft_cross_entropy, tiny_task
from percept.methods.continual.disorder import disorder
from percept.methods.continual.ewc import EWC
from percept.methods.continual.finetune import FineTuning
from percept.methods.continual.lwf import LwF
from percept.methods.continual.modx import ModX, aligned
from percept.methods.continual.mulki import MulKILike
from percept.methods.continual.zscl import ZSCL, Reference
from percept.models.clip import CLIP, unit
from percept.models.config import ClipConfig, TextConfig, VisionConfig
from percept.nn.across import procrustes


def batch_of(method: Any, number: int = 0) -> TaskBatch:
    task = tiny_task(method, number)
    return task.batch(range(4), None, method.tokens(task.texts))


# ZSCL


def test_the_mean_of_weights_is_that_of_the_paper() -> None:
    method = ZSCL(ZSCL.Config(every=100), tiny_base())
    task = tiny_task(method, 0)
    method.reference = Reference(image=torch.zeros(1, 3, 16, 16), texts=("cup",))
    with torch.no_grad():
        for parameter in method.clip.parameters():
            parameter.zero_()
    method.begin(task)
    for step in range(1_001):
        if step % 100 == 0:
            with torch.no_grad():
                for parameter in method.clip.parameters():
                    parameter.fill_(float(step))
        method.after_step(step)
    method.end(task)
    wanted = sum(range(0, 1_001, 100)) / 12
    assert wanted == pytest.approx(458.33, abs=0.01)
    for parameter in method.clip.parameters():
        torch.testing.assert_close(parameter, torch.full_like(parameter, wanted))


def test_distillation_is_zero_slope_at_the_teacher_and_trains_the_image_tower() -> None:
    method, batch = ZSCL.tiny()
    student, teacher = method._relations()
    torch.testing.assert_close(student, teacher)
    wanted = 4 * -((teacher / 2).softmax(1) * (teacher / 2).log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(method(batch)["images"], wanted)
    logits = teacher.clone().requires_grad_()
    soft_cross_entropy(teacher, logits).backward()
    assert logits.grad is not None
    assert float(logits.grad.abs().max()) < 1e-6
    text = torch.autograd.grad(
        student.sum(), method.clip.get_submodule("text").get_parameter("projection"), allow_unused=True
    )
    assert text == (None,)


def test_zscl_says_that_it_needs_a_reference() -> None:
    method = ZSCL(ZSCL.Config(), tiny_base())
    with pytest.raises(PerceptError, match="reference"):
        method.begin(tiny_task(method, 0))
    weights_alone = ZSCL(ZSCL.Config(images=0.0, sentences=0.0), tiny_base())
    weights_alone.begin(tiny_task(weights_alone, 0))
    assert set(weights_alone(batch_of(weights_alone))) == {"loss", "cross_entropy", "drift"}


# CoDyRA


@pytest.fixture
def updated() -> tuple[GatedLoRA, nn.Linear]:
    torch.manual_seed(0)
    layer = GatedLoRA(nn.Linear(6, 12), rank=4, parts=3)
    with torch.no_grad():
        layer.up.normal_()
    return layer, layer.base


def test_an_update_is_the_sum_over_ranks_and_merging_keeps_the_outputs(updated: tuple[GatedLoRA, nn.Linear]) -> None:
    layer, base = updated
    x = torch.randn(5, 6)
    wanted = base(x).clone()
    for part in range(3):
        for rank in range(4):
            step = layer.gate[part, rank] * torch.outer(layer.up[part, :, rank], layer.down[part, rank])
            wanted[:, 4 * part : 4 * part + 4] += x @ step.T
    before = layer(x)
    torch.testing.assert_close(before, wanted)
    layer.merge()
    torch.testing.assert_close(layer(x), before, atol=1e-4, rtol=1e-4)
    assert not layer.up.any()


def test_the_proximal_step_is_soft_thresholding(updated: tuple[GatedLoRA, nn.Linear]) -> None:
    layer, _ = updated
    with torch.no_grad():
        layer.gate.copy_(torch.tensor([[0.3, -0.3, 0.05, -0.05]] * 3))
    layer.shrink(0.1)
    torch.testing.assert_close(layer.gate[0], torch.tensor([0.2, -0.2, 0.0, 0.0]))


def test_the_threshold_rises_in_fifty_stages_over_the_second_half() -> None:
    values = [CoDyRA.threshold_of(step, 500, 0.5, 0.005) for step in range(500)]
    assert not any(values[:250])
    assert sorted(values) == values
    assert len(set(values)) == 50
    assert values[-1] == pytest.approx(0.005 * 49 / 50)


def test_without_a_threshold_it_is_gated_lora_and_ungated_it_is_lora() -> None:
    torch.manual_seed(0)
    method = CoDyRA(CoDyRA.Config(rank=2, threshold=0.0), tiny_base())
    gates = {name: update.gate.clone() for name, update in method.updates.items()}
    method.after_step(999)
    assert all(torch.equal(update.gate, gates[name]) for name, update in method.updates.items())
    plain = CoDyRA(CoDyRA.Config(rank=2, gates="one"), tiny_base())
    assert not any(update.gate.requires_grad for update in plain.updates.values())
    assert all(bool((update.gate == 1).all()) for update in plain.updates.values())
    fixed = CoDyRA(CoDyRA.Config(rank=2, gates="random"), tiny_base())
    before = {name: update.gate.clone() for name, update in fixed.updates.items()}
    assert not any(update.gate.requires_grad for update in fixed.updates.values())
    assert not any(bool((gate == 1).any()) for gate in before.values())
    fixed.after_step(999)
    assert all(torch.equal(update.gate, before[name]) for name, update in fixed.updates.items())
    fixed.end(tiny_task(fixed, 0))
    assert not any(torch.equal(update.gate, before[name]) for name, update in fixed.updates.items())


def test_the_number_of_trained_values_is_that_of_the_reference() -> None:
    vision = VisionConfig(image_size=224, patch_size=16, width=768, layers=12, heads=12, pool="class", output_dim=512)
    text = TextConfig(context=77, vocabulary=100, width=512, layers=12, heads=8, output_dim=512)
    tokenizer = tiny_base().tokenizer
    with torch.device("meta"):
        method = CoDyRA(CoDyRA.Config(), Base(clip=CLIP(ClipConfig(vision=vision, text=text)), tokenizer=tokenizer))
    assert sum(each.numel() for each in method.parameters() if each.requires_grad) == 4_425_984


def test_pruned_ranks_are_counted_and_merged_weights_have_the_old_form() -> None:
    method, batch = CoDyRA.tiny()
    with torch.no_grad():
        for update in method.updates.values():
            update.gate[:, 0] = 0
        before = method.clip.embed_image(batch.image)
    method.end(tiny_task(method, 1))
    assert all(set(row[:-1]) == {1.0} for row in method.history[-1].values())
    torch.testing.assert_close(method.clip.embed_image(batch.image), before, atol=1e-4, rtol=1e-4)


def test_the_merged_model_is_the_one_before_with_other_weights() -> None:
    method, batch = CoDyRA.tiny()
    plain, before = tiny_base().clip, {name: value.clone() for name, value in method.state_dict().items()}
    with torch.no_grad():
        image, text = method.clip.embed_image(batch.image), method.clip.embed_text(batch.texts)
    merged = method.merged()
    assert [(name, type(each)) for name, each in merged.named_modules()] == [(name, type(each)) for name, each in plain.named_modules()]  # fmt: skip
    assert {name: value.shape for name, value in merged.state_dict().items()} == {name: value.shape for name, value in plain.state_dict().items()}  # fmt: skip
    with torch.no_grad():
        torch.testing.assert_close(merged.embed_image(batch.image), image, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(merged.embed_text(batch.texts), text, atol=1e-4, rtol=1e-4)
        assert float((plain.embed_image(batch.image) - image).abs().max()) > 1e-3
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())


def test_images_of_one_class_are_no_negatives() -> None:
    method = CoDyRA(CoDyRA.Config(rank=2), tiny_base())
    batch = batch_of(method)  # labels 0, 1, 2, 1
    logits = method.logits(batch).detach()
    losses = []
    for row, label in enumerate(batch.label.tolist()):
        others = [other for other in range(4) if other == row or batch.label[other] != label]
        losses.append(float(-logits[others, label].log_softmax(0)[others.index(row)]))
    assert float(method(batch)["text_to_image"]) == pytest.approx(sum(losses) / 4, abs=1e-5)


@pytest.mark.parametrize("wrong", [{"rank": 0}, {"threshold": -1.0}, {"towers": ("audio",)}, {"layers": ("head",)}])
def test_codyra_refuses_what_has_no_meaning(wrong: dict) -> None:
    with pytest.raises(PerceptError):
        CoDyRA.Config(**wrong)


# Mod-X


def test_rows_that_were_wrong_count_nothing() -> None:
    before = torch.tensor([[0.9, 0.1, 0.0], [0.5, 0.2, 0.1], [0.0, 0.1, 0.3]])
    similar = torch.rand(3, 3, requires_grad=True)
    value, share = aligned(similar, before)
    assert float(share) == pytest.approx(2 / 3)
    wanted = sum(
        float((before[row].softmax(0) * (before[row].log_softmax(0) - similar.detach()[row].log_softmax(0))).sum())
        for row in (0, 2)
    )
    assert float(value.detach()) == pytest.approx(wanted, abs=1e-6)
    (slope,) = torch.autograd.grad(value, similar)
    assert not slope[1].any()
    assert slope[0].any()
    all_rows, everything = aligned(similar, before, right_only=False)
    assert float(everything) == 1
    assert float(all_rows.detach()) > float(value.detach())


def test_without_weight_it_is_plain_contrast() -> None:
    method, batch = ModX.tiny()
    plain = ModX(ModX.Config(weight=0.0), tiny_base())
    plain.clip.load_state_dict(method.clip.state_dict())
    image, text = plain.clip.embed_image(batch.image), plain.clip.embed_text(batch.tokens)
    logits = plain.clip.scale() * image @ text.T
    target = torch.arange(4)
    wanted = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    torch.testing.assert_close(plain(batch)["loss"], wanted)
    assert float(method(batch)["loss"].detach()) > float(wanted.detach())
    method.begin()
    torch.testing.assert_close(method(batch)["loss"], wanted)
    assert isinstance(batch, ImageText)


def test_the_scale_is_held() -> None:
    method, _ = ModX.tiny()
    assert method.clip.log_scale is not None
    with torch.no_grad():
        method.clip.log_scale.fill_(9)
    method.after_step()
    assert float(method.clip.log_scale.detach()) == pytest.approx(math.log(100), abs=1e-4)


def test_the_weight_of_alignment_can_be_given_for_batches_of_the_reference() -> None:
    assert ModX.Config.of_batch(56, weight=1.0).weight == pytest.approx(5.0)
    assert ModX.Config.of_batch(56, weight=0.0).weight == 0


# EWC


def test_the_penalty_is_that_of_the_paper() -> None:
    torch.manual_seed(0)
    method, batch = EWC(EWC.Config(strength=3.0), tiny_base()), EWC.tiny()[1]
    contrast = float(method.contrast(batch).detach())
    assert float(method(batch)["loss"].detach()) == pytest.approx(contrast, abs=1e-6)
    batches = [replace(batch, image=torch.randn_like(batch.image)) for _ in range(2)]
    slopes = [torch.autograd.grad(method.contrast(each), list(method.clip.parameters())) for each in batches]
    squares = [(one.square() + other.square()) / 2 for one, other in zip(*slopes, strict=True)]
    mean = sum(float(each.sum()) for each in squares) / sum(each.numel() for each in squares)
    method.weigh(batches)
    for own, wanted in zip(method.importance.parameters(), squares, strict=True):
        torch.testing.assert_close(own.detach(), wanted / mean)
    method.begin()
    with torch.no_grad():
        for parameter in method.clip.parameters():
            parameter.add_(0.01)
    wanted = 3.0 / 2 * sum(float(each.sum()) for each in squares) / mean * 0.01**2
    found = method(batch)
    assert float(found["penalty"]) == pytest.approx(wanted, rel=1e-3)
    assert float(found["loss"].detach()) == pytest.approx(float(method.contrast(batch).detach()) + wanted, rel=1e-4)
    method.weigh(batches)
    assert float(method(batch)["penalty"]) > wanted  # importances add up
    with pytest.raises(PerceptError, match="no batch"):
        method.weigh([])
    with pytest.raises(PerceptError, match="strength"):
        EWC.Config(strength=-1.0)


def test_disorder_sees_a_planted_rotation() -> None:
    torch.manual_seed(0)
    image, text = unit(torch.randn(60, 8)), unit(torch.randn(60, 8))
    turn = procrustes(torch.randn(60, 8), torch.randn(60, 8))
    together = disorder((image, text), (image @ turn.T, text @ turn.T))
    assert together.deviation == pytest.approx(0, abs=0.1)
    assert together.image_rotation > 20
    apart = disorder((image, text), (image @ turn.T, text))
    assert apart.text_rotation == pytest.approx(0, abs=0.1)
    assert apart.deviation == pytest.approx(together.text_rotation, abs=5)
    assert disorder((image, text), (image, text)).total == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize("count", [20, 300])
def test_a_rotation_of_both_leaves_no_deviation_even_with_fewer_pairs_than_dimensions(count: int) -> None:
    torch.manual_seed(0)
    width = 64
    image = unit(torch.randn(count, width))
    text = unit(image + 0.3 * torch.randn(count, width))
    turn = procrustes(torch.randn(width, width), torch.randn(width, width))
    together = disorder((image, text), (image @ turn.T, text @ turn.T))
    assert together.deviation == pytest.approx(0, abs=0.1)
    assert together.image_rotation > 45
    assert (together.covered < 0.9) == (count < width)
    apart = disorder((image, text), (image @ turn.T, text))
    assert apart.deviation > 45


def test_one_pair_shows_no_disorder() -> None:
    vectors = unit(torch.randn(1, 8))
    with pytest.raises(PerceptError, match="1 pairs"):
        disorder((vectors, vectors), (vectors, vectors))


def test_the_weight_of_the_alignment_follows_the_batch() -> None:
    config = ModX.Config.of_batch(48, kept="all")
    assert config.weight == pytest.approx(20 * 280 / 48)
    assert config.kept == "all"


# the teachers


def test_lwf_keeps_to_the_model_before_on_the_names_of_earlier_tasks() -> None:
    method = LwF(LwF.Config(), tiny_base())
    method.begin(tiny_task(method, 0))
    method.end(tiny_task(method, 0))
    method.begin(tiny_task(method, 1))
    values = method(batch_of(method, 1))
    batch = batch_of(method, 1)
    logits = (
        method.clip.scale()
        * method.teacher.embed_image(batch.image)
        @ method.teacher.embed_text(method.tokens(tiny_task(method, 0).texts)).T
    )
    torch.testing.assert_close(values["distillation"], soft_cross_entropy(logits, logits).detach())


def test_teachers_are_weighted_by_their_confidence() -> None:
    method, batch = MulKILike.tiny()
    first, second = torch.rand(5, 12), torch.rand(5, 12)
    banks = torch.cat([method.image_prototypes, method.text_prototypes])
    share = method._share(first, second)
    one, two = (first @ banks.T).amax(1), (second @ banks.T).amax(1)
    torch.testing.assert_close(share[:, 0], one.exp() / (one.exp() + two.exp()))
    for teachers, wanted in (("fixed", 0.5), ("initial", 1.0), ("previous", 0.0)):
        single = MulKILike(MulKILike.Config(teachers=teachers), tiny_base())  # type: ignore[arg-type]
        assert bool((single._share(first, second) == wanted).all())
    assert {"eliciting", "relations", "connections"} <= set(method(batch))


def test_every_stage_can_be_left_out() -> None:
    for name in ("eliciting", "relations", "connections"):
        method = MulKILike(replace(MulKILike.Config(), **{name: 0.0}), tiny_base())
        method.begin(tiny_task(method, 0))
        method.end(tiny_task(method, 0))
        method.begin(tiny_task(method, 1))
        assert name not in method(batch_of(method, 1))
    assert len(method.image_prototypes) == len(method.text_prototypes) == 6


def test_averaging_and_penalty_of_fine_tuning() -> None:
    method, task = FineTuning(FineTuning.Config(share=0.25, penalty=2.0), tiny_base()), None
    task = tiny_task(method, 0)
    method.begin(task)
    assert float(method(batch_of(method))["drift"]) == 0
    start = {name: value.clone() for name, value in method.clip.named_parameters()}
    with torch.no_grad():
        for parameter in method.clip.parameters():
            if parameter.requires_grad:
                parameter.add_(1.0)
    moved = sum(value.numel() for name, value in method.clip.named_parameters() if value.requires_grad)
    assert float(method(batch_of(method))["drift"]) == pytest.approx(2.0 * moved, rel=1e-5)
    method.end(task)
    for name, parameter in method.clip.named_parameters():
        torch.testing.assert_close(parameter.detach(), start[name] + (0.25 if parameter.requires_grad else 0))
