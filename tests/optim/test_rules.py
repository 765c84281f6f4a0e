"""Rules and roles of parameters, optimisers by name, and the schedule."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from percept.core.errors import PerceptError
from percept.optim.build import build_optimisers
from percept.optim.muon import Muon
from percept.optim.rules import Frozen, Scale, freeze, parameter_groups, train_mode
from percept.optim.schedule import warmup_cosine


class Model(nn.Module):
    no_decay = ("positions", "probe")
    outer = ("head",)

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 4)
        self.norm = nn.LayerNorm(4)
        self.embedding = nn.Embedding(5, 4)
        self.positions = nn.Parameter(torch.zeros(6, 4))
        self.probe = nn.Parameter(torch.zeros(1, 1, 4))
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.projection = nn.Parameter(torch.zeros(4, 4))
        self.patch = nn.Conv2d(3, 4, 2)
        self.head = nn.Linear(4, 9)


def names(model: nn.Module) -> dict[str, float]:
    decay = {
        id(parameter): group["weight_decay"]
        for group in parameter_groups(model, weight_decay=0.1)
        for parameter in group["params"]
    }
    return {name: decay[id(parameter)] for name, parameter in model.named_parameters() if id(parameter) in decay}


def test_matrices_decay_and_nothing_else_does() -> None:
    found = names(Model())
    assert {name for name, decay in found.items() if decay} == {
        "linear.weight",
        "projection",
        "patch.weight",
        "head.weight",
    }
    assert set(found.values()) == {0.1, 0.0}


def test_every_trainable_parameter_is_in_exactly_one_group() -> None:
    model = Model()
    model.linear.weight.requires_grad_(False)
    model.tied = model.projection
    groups = parameter_groups(model, weight_decay=0.1)
    listed = [id(parameter) for group in groups for parameter in group["params"]]
    trainable = {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    assert len(listed) == len(set(listed))
    assert set(listed) == trainable


def test_a_group_without_parameters_is_left_out() -> None:
    model = nn.Linear(3, 4, bias=False)
    assert [group["weight_decay"] for group in parameter_groups(model, weight_decay=0.2)] == [0.2]


def test_the_rate_rises_linearly_and_falls_by_half_a_cosine() -> None:
    rates = [warmup_cosine(step, warmup=10, steps=100, floor=0.1) for step in range(100)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert max(rates) == 1
    assert all(one > other for one, other in pairwise(rates[10:]))
    assert rates[55] == pytest.approx(0.55)
    assert warmup_cosine(100, warmup=10, steps=100, floor=0.1) == warmup_cosine(900, warmup=10, steps=100, floor=0.1)
    assert warmup_cosine(100, warmup=10, steps=100, floor=0.1) == pytest.approx(0.1)


def test_the_rate_is_held_before_it_falls() -> None:
    rates = [warmup_cosine(step, warmup=10, hold=40, steps=100) for step in range(100)]
    assert rates[9:51] == pytest.approx([1.0] * 42)
    assert rates[75] == pytest.approx(0.5)
    assert all(one > other for one, other in pairwise(rates[50:]))


def test_no_warmup_and_nothing_but_warmup() -> None:
    assert warmup_cosine(0, warmup=0, steps=5) == 1
    assert [warmup_cosine(step, warmup=3, steps=3) for step in range(4)] == pytest.approx([1 / 3, 2 / 3, 1, 1])


def test_only_matrices_between_the_first_and_the_last_layer_are_inner() -> None:
    model = Model()
    inner = {
        id(parameter)
        for group in parameter_groups(model, weight_decay=0.1)
        if group["inner"]
        for parameter in group["params"]
    }
    assert {name for name, parameter in model.named_parameters() if id(parameter) in inner} == {"linear.weight"}


def test_muon_takes_the_inner_matrices_and_adamw_the_rest() -> None:
    groups = parameter_groups(Model(), rate=1e-3, weight_decay=0.1)
    (only,) = build_optimisers(groups, "adamw", betas=(0.9, 0.95))
    assert isinstance(only, torch.optim.AdamW)
    assert len(only.param_groups) == len(groups) == 3
    muon, adamw = build_optimisers(groups, "muon", betas=(0.9, 0.95))
    assert isinstance(muon, Muon)
    assert [group["weight_decay"] for group in muon.param_groups] == [0.1]
    assert [group["weight_decay"] for group in adamw.param_groups] == [0.1, 0.0]
    with pytest.raises(PerceptError, match="'muon'"):
        build_optimisers(groups, "mu", betas=(0.9, 0.95))


def test_steps_of_muon_are_orthogonal_and_as_large_as_those_of_adamw() -> None:
    layer = nn.Linear(32, 64, bias=False)
    before = layer.weight.detach().clone()
    (muon,) = build_optimisers(parameter_groups(layer, rate=1e-2), "muon", betas=(0.9, 0.95))
    layer.weight.grad = torch.randn(64, 32, generator=torch.Generator().manual_seed(0)) * torch.logspace(-0.7, 0.7, 32)
    muon.step()
    step = (layer.weight.detach() - before) / 1e-2
    assert float(step.square().mean().sqrt()) == pytest.approx(0.2, rel=0.2)
    singular = torch.linalg.svdvals(step)
    assert float(singular.max() / singular.median()) < 2  # the gradient's own are forty times apart


def test_muon_by_shapes_steps_as_the_one_of_pytorch_does() -> None:
    shapes = [(16, 16), (48, 16), (16, 48), (16, 16), (48, 16)]
    ours, theirs = (
        [
            torch.randn(shape, generator=torch.Generator().manual_seed(i)).requires_grad_()
            for i, shape in enumerate(shapes)
        ]
        for _ in range(2)
    )
    one = Muon([{"params": ours, "weight_decay": 0.1}], lr=0.02)
    other = torch.optim.Muon([{"params": theirs, "weight_decay": 0.1}], lr=0.02, adjust_lr_fn="match_rms_adamw")
    for turn in range(4):
        for index, (mine, its) in enumerate(zip(ours, theirs, strict=True)):
            if (turn, index) == (1, 0):  # one without a gradient is left alone
                mine.grad = its.grad = None
                continue
            mine.grad = torch.randn(mine.shape, generator=torch.Generator().manual_seed(10 * turn + index))
            its.grad = mine.grad.clone()
        one.step()
        other.step()
    for mine, its in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, its, atol=2e-3, rtol=0)  # products in bfloat16


def test_a_learned_prompt_is_never_orthogonalised_and_decays_unless_it_says_otherwise() -> None:
    class Prompt(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.context = nn.Parameter(torch.zeros(16, 8))

    class Kept(Prompt):
        no_decay = ("context",)

    ((free,), (kept,)) = (parameter_groups(nn.ModuleDict({"a": each()}), weight_decay=0.1) for each in (Prompt, Kept))
    assert (free["inner"], free["weight_decay"]) == (False, 0.1)
    assert (kept["inner"], kept["weight_decay"]) == (False, 0.0)


def test_the_first_rule_that_matches_decides() -> None:
    model = Model()
    rules = (("^linear", Frozen()), ("bias$", Scale(10, decay=0)), ("weight$", Scale(0.5, decay=2)), (".*", Scale()))
    freeze(model, rules)
    groups = parameter_groups(model, rules, rate=1e-3, weight_decay=0.1)
    found = {name: (group["lr"], group["weight_decay"]) for group in groups for name in group["names"]}
    assert found["head.bias"] == pytest.approx((1e-2, 0.0))
    assert found["head.weight"] == pytest.approx((5e-4, 0.2))
    assert found["projection"] == pytest.approx((1e-3, 0.1))
    assert not any(name.startswith("linear") for name in found)
    assert not model.linear.weight.requires_grad


def test_rules_that_cannot_be_meant_are_refused() -> None:
    with pytest.raises(PerceptError, match=r"'contxt' matches no parameter.*positions"):
        freeze(Model(), (("contxt", Scale(10)),))
    with pytest.raises(PerceptError, match="every parameter is frozen"):
        freeze(Model(), ((".*", Frozen()),))
    for rate, decay in ((0, 1), (-1, 1), (1, -1)):
        with pytest.raises(PerceptError, match="use Frozen"):
            Scale(rate, decay)


def test_what_is_frozen_as_a_whole_stays_in_evaluation_mode() -> None:
    model = nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)), nn.Linear(2, 2), nn.Dropout(0.5))
    freeze(model, (("^0", Frozen()),))
    train_mode(model)
    assert [module.training for module in model.modules()] == [True, False, False, False, True, True]
