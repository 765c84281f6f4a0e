"""XBT: the map is learned from texts alone, the second stage needs no old model, and the adapter can be taken away."""

import inspect
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from percept.core.errors import PerceptError
from percept.losses.contrastive import info_nce
from percept.methods.compatibility import xbt
from percept.methods.compatibility.xbt import XBT, ImageText, Twins, adapt, learn
from percept.nn.across import MapAcross, least_squares, procrustes

QUICK = XBT.Config(hidden=16, steps=60, batch=64, noise=0.0)


def unit(*shape: int) -> torch.Tensor:
    return F.normalize(torch.randn(*shape), dim=-1)


def rotation(d: int) -> torch.Tensor:
    return torch.linalg.qr(torch.randn(d, d)).Q


@pytest.mark.parametrize(("d", "e"), [(6, 6), (8, 5), (5, 8)])
def test_a_hidden_linear_map_is_found_exactly(d: int, e: int) -> None:
    torch.manual_seed(0)
    source, turn = unit(400, d), rotation(max(d, e))[:e, :d]
    target = source @ turn.T
    torch.testing.assert_close(least_squares(source, target, ridge=1e-9), turn, atol=1e-5, rtol=0)
    if e >= d:
        torch.testing.assert_close(procrustes(source, target), turn, atol=1e-5, rtol=0)
    matrix = procrustes(source, unit(400, e))
    small = matrix @ matrix.T if e <= d else matrix.T @ matrix
    torch.testing.assert_close(small, torch.eye(min(d, e)), atol=1e-5, rtol=0)


def test_the_losses_are_those_of_the_equations() -> None:
    torch.manual_seed(0)
    task, twins = XBT.tiny()
    task.eval().requires_grad_(False)
    assert task.map.mlp is not None
    mapped = F.normalize(task.map.linear(twins.new) + task.map.mlp(twins.new), dim=-1)
    cosines = [float(a @ b) for a, b in zip(mapped, twins.old, strict=True)]
    wanted = 1 - sum(cosines) / len(cosines) + float(info_nce(mapped, twins.old, task.scale))
    assert float(task(twins)["loss"]) == pytest.approx(wanted, abs=1e-5)
    task.adapt()
    assert task.adapter is not None
    down, up = (weight.requires_grad_(False) for weight in task.adapter.parameters())
    up.normal_()
    image, text = unit(8, 6), unit(8, 6)

    def adapted(x: torch.Tensor) -> torch.Tensor:
        return task.map(x + x @ down.T @ up.T)

    still = task.map(text)
    wanted = float(info_nce(adapted(image), still, task.scale)) + 1 - float((adapted(text) * still).sum(1).mean())
    assert float(task(ImageText(image=image, text=text))["loss"]) == pytest.approx(wanted, abs=1e-5)


def test_noise_is_added_in_training_alone() -> None:
    torch.manual_seed(0)
    task, twins = XBT(XBT.Config(hidden=8, noise=0.1), 6, 4).requires_grad_(False), XBT.tiny()[1]
    assert float(task.eval()(twins)["loss"]) == float(task(twins)["loss"])
    assert float(task.train()(twins)["loss"]) != float(task(twins)["loss"])


def test_a_curved_map_is_learned_better_than_a_linear_one_and_helps_on_unseen_vectors() -> None:
    torch.manual_seed(0)
    new = unit(1200, 8)
    old = F.normalize((new @ rotation(8)[:, :6]).abs(), dim=-1)
    linear = MapAcross(8, 6).requires_grad_(False)
    linear.linear.weight.copy_(least_squares(new[:1000], old[:1000]))
    task = learn([(new[:1000], old[:1000])], replace(QUICK, hidden=64, steps=300, learning_rate=1e-2))
    held = [float((each(new[1000:]) * old[1000:]).sum(1).mean()) for each in (linear, task.mapped)]
    assert held[1] > held[0] + 0.005
    assert not any(each.requires_grad for each in task.parameters())


def test_learning_never_ends_worse_than_least_squares_on_the_pairs_held_out() -> None:
    torch.manual_seed(0)
    new = unit(40, 8)
    task = learn([(new, new @ rotation(8)[:, :5])], replace(QUICK, learning_rate=10.0))
    assert float((task.mapped(new) * F.normalize(new @ task.map.linear.weight.T, dim=-1)).sum(1).mean()) > 0.99


def test_the_same_seed_gives_the_same_map_and_leaves_the_random_state_alone() -> None:
    torch.manual_seed(0)
    pairs = unit(50, 6), unit(50, 4)
    torch.manual_seed(3)
    first = learn([pairs], QUICK).merged().state_dict()
    after = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(after, torch.rand(1))
    again = learn([pairs], QUICK).merged().state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(
        not torch.equal(first[name], value)
        for name, value in learn([pairs], QUICK, seed=1).merged().state_dict().items()
    )


def test_stage_2_takes_no_old_model_and_its_adapter_can_be_taken_away() -> None:
    assert set(inspect.signature(adapt).parameters) == {"task", "image", "text", "seed"}  # nothing of the old model
    torch.manual_seed(0)
    text = unit(200, 8)
    gap = F.normalize(torch.randn(8), dim=0)
    image = F.normalize(text + 0.7 * gap, dim=-1)  # as images lie in a cone of their own
    task = learn([(text, text @ rotation(8)[:, :6])], QUICK)
    before = task.mapped(text)
    untouched = {name: value.clone() for name, value in task.map.state_dict().items()}
    first = float(info_nce(task.mapped(image), before, task.scale))
    adapt(task, image[:100], text[:100])
    assert all(torch.equal(untouched[name], value) for name, value in task.map.state_dict().items())
    assert float(info_nce(task.mapped(image), before, task.scale)) < first - 0.01
    torch.testing.assert_close(task.merged()(image), task.mapped(image), atol=1e-5, rtol=0)
    task.adapter = None
    assert torch.equal(task.mapped(text), before)


def test_the_adapter_changes_nothing_before_it_is_trained() -> None:
    task, twins = XBT.tiny()
    before = task.mapped(twins.new)
    task.adapt()
    assert torch.equal(task.mapped(twins.new), before)
    assert [name for name, each in task.named_parameters() if each.requires_grad] == [
        "adapter.0.weight",
        "adapter.1.weight",
    ]


def test_too_few_pairs_are_refused() -> None:
    with pytest.raises(PerceptError, match="at least four"):
        learn([(unit(3, 4), unit(3, 4))])
    with pytest.raises(PerceptError, match="at least four"):
        learn([])
    with pytest.raises(PerceptError, match="at least four"):
        adapt(XBT.tiny()[0], unit(3, 6), unit(3, 6))
    with pytest.raises(PerceptError, match="steps=0"):
        XBT.Config(steps=0)


def test_what_search_asks_for() -> None:
    torch.manual_seed(0)
    map_ = xbt.learned([(unit(64, 6), unit(64, 4)), (unit(32, 6), unit(32, 4))])
    assert map_(unit(2, 6)).shape == (2, 4)
    assert isinstance(Twins(new=unit(1, 2), old=unit(1, 2)).rows(slice(1)), Twins)
