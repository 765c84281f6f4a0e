"""Lion and LAMB against their equations, one tensor and one element at a time; Adafactor by name; exact resume with masters."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from percept.core.errors import PerceptError
from percept.core.io import load_tensors, same_tensors, save_tensors
from percept.optim import lists
from percept.optim.build import OPTIMISERS, build_optimisers
from percept.optim.lamb import Lamb
from percept.optim.lion import Lion
from percept.optim.master import MasterWeights
from percept.optim.rules import parameter_groups
from percept.train import Settings

SHAPES = [(3, 4), (5,), (), (2, 3, 2)]


def tensors(seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in SHAPES]


def naive_lion(values: list[float], gradients: list[list[float]], rate: float, decay: float) -> list[float]:
    b1, b2, m = 0.9, 0.99, [0.0] * len(values)
    for step in gradients:
        for i, g in enumerate(step):
            values[i] *= 1 - rate * decay
            mixed = b1 * m[i] + (1 - b1) * g
            values[i] -= rate * ((mixed > 0) - (mixed < 0))
            m[i] = b2 * m[i] + (1 - b2) * g
    return values


def naive_lamb(
    values: list[float], gradients: list[list[float]], rate: float, decay: float, trust: bool
) -> list[float]:
    b1, b2, eps = 0.9, 0.95, 1e-6
    m, v = [0.0] * len(values), [0.0] * len(values)
    for t, step in enumerate(gradients, start=1):
        u = []
        for i, g in enumerate(step):
            m[i] = b1 * m[i] + (1 - b1) * g
            v[i] = b2 * v[i] + (1 - b2) * g * g
            u.append(m[i] / (1 - b1**t) / (math.sqrt(v[i] / (1 - b2**t)) + eps) + decay * values[i])
        norm_p, norm_u = math.sqrt(sum(x * x for x in values)), math.sqrt(sum(x * x for x in u))
        ratio = norm_p / norm_u if trust and norm_p > 0 and norm_u > 0 else 1.0
        values = [x - rate * ratio * d for x, d in zip(values, u, strict=True)]
    return values


@pytest.mark.parametrize(
    ("build", "naive"),
    [
        (lambda given: Lion(given, lr=0.01, weight_decay=0.3), partial(naive_lion, rate=0.01, decay=0.3)),
        (lambda given: Lion(given, lr=0.01), partial(naive_lion, rate=0.01, decay=0.0)),
        (
            lambda given: Lamb(given, lr=0.01, betas=(0.9, 0.95), weight_decay=0.3),
            partial(naive_lamb, rate=0.01, decay=0.3, trust=True),
        ),
        (
            lambda given: Lamb(given, lr=0.01, betas=(0.9, 0.95), trust=False),
            partial(naive_lamb, rate=0.01, decay=0.0, trust=False),
        ),
    ],
)
def test_steps_are_those_of_the_equation(
    build: Callable[[list[Tensor]], torch.optim.Optimizer], naive: Callable[..., list[float]]
) -> None:
    parameters = [value.requires_grad_() for value in tensors(0)]
    before, gradients = [value.detach().clone() for value in parameters], [tensors(seed) for seed in range(1, 8)]
    optimiser = build(parameters)
    for step in gradients:
        for parameter, gradient in zip(parameters, step, strict=True):
            parameter.grad = gradient.clone()
        optimiser.step()
    for index, parameter in enumerate(parameters):
        steps = [step[index].flatten().tolist() for step in gradients]
        expected = naive(before[index].flatten().tolist(), steps)
        assert parameter.flatten().tolist() == pytest.approx(expected, rel=1e-12, abs=1e-12)


def stepped(optimiser: torch.optim.Optimizer, parameter: Tensor, gradient: Tensor) -> Tensor:
    before = parameter.detach().clone()
    parameter.grad = gradient
    optimiser.step()
    return parameter.detach() - before


def test_every_element_of_lion_moves_by_the_rate_and_none_where_the_mixture_is_0() -> None:
    parameter = torch.tensor([1.0, -2.0, 3.0], requires_grad=True)
    change = stepped(Lion([parameter], lr=0.25), parameter, torch.tensor([1e-9, -1e9, 0.0]))
    assert change.tolist() == [-0.25, 0.25, 0.0]
    decayed = torch.tensor([4.0], requires_grad=True)
    assert stepped(Lion([decayed], lr=0.25, weight_decay=0.5), decayed, torch.zeros(1)).tolist() == [-0.5]


def test_the_state_of_lion_is_one_tensor() -> None:
    parameter = torch.randn(6, 5, requires_grad=True)
    optimiser = Lion([parameter])
    stepped(optimiser, parameter, torch.randn(6, 5))
    assert [value.shape for value in optimiser.state[parameter].values()] == [parameter.shape]


def test_the_relative_change_of_lamb_is_the_rate_and_ignores_the_size_of_gradients() -> None:
    changes = []
    for size in (1.0, 1_000.0):
        parameter = torch.linspace(1, 2, 12).view(3, 4).requires_grad_()
        norm = float(parameter.detach().norm())
        change = stepped(Lamb([parameter], lr=0.1), parameter, size * torch.randn(3, 4, generator=torch.manual_seed(0)))
        assert float(change.norm()) == pytest.approx(0.1 * norm, rel=1e-5)
        changes.append(change)
    torch.testing.assert_close(changes[0], changes[1], rtol=1e-4, atol=1e-5)


def test_lamb_moves_tensors_of_zeros_and_keeps_those_without_gradient() -> None:
    zeros = torch.zeros(3, requires_grad=True)
    assert stepped(Lamb([zeros], lr=0.5), zeros, torch.tensor([1.0, -1.0, 2.0])).tolist() == pytest.approx(
        [-0.5, 0.5, -0.5], rel=1e-5
    )
    still = torch.ones(3, requires_grad=True)
    assert stepped(Lamb([still], lr=0.5), still, torch.zeros(3)).tolist() == [0, 0, 0]
    first, second = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    for optimiser in (Lamb([first, second], lr=0.5), Lion([first, second], lr=0.5)):
        stepped(optimiser, first, torch.ones(2))
        assert second.tolist() == [1, 1]
        assert second not in optimiser.state


@pytest.mark.parametrize("kind", [Lion, Lamb])
def test_lists_of_many_tensors_step_as_single_tensors_do(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def together(groups: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], list[Tensor]]]:
        yield from ((group, group["params"]) for group in groups)

    results = []
    for listed in (lists.with_gradients, together):
        monkeypatch.setattr(lists, "with_gradients", listed)
        parameters = [value.requires_grad_() for value in tensors(0)]
        optimiser = kind(parameters, lr=0.01, weight_decay=0.3)
        for seed in range(1, 4):
            for parameter, gradient in zip(parameters, tensors(seed), strict=True):
                parameter.grad = gradient
            optimiser.step()
        results.append(parameters)
    for single, many in zip(*results, strict=True):
        torch.testing.assert_close(many, single, rtol=1e-12, atol=1e-12)


class Model(nn.Module):
    no_decay = ("probe",)

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 4)
        self.embedding = nn.Embedding(5, 6)
        self.probe = nn.Parameter(torch.zeros(1, 1, 6))
        self.log_scale = nn.Parameter(torch.zeros(()))

    def forward(self, ids: Tensor) -> Tensor:
        return self.linear(self.embedding(ids) + self.probe[0]) * self.log_scale.exp()


def test_only_what_decays_is_scaled_by_lamb() -> None:
    (lamb,) = build_optimisers(parameter_groups(Model(), rate=1e-3, weight_decay=0.1), "lamb")
    trusted = {name: group["trust"] for group in lamb.param_groups for name in group["names"]}
    assert {name for name, trust in trusted.items() if trust} == {"linear.weight"}
    assert len(trusted) == 5
    assert {group["betas"] for group in lamb.param_groups} == {(0.9, 0.95)}


def run(model: Model, optimiser: MasterWeights, steps: range) -> None:
    for step in steps:
        ids = torch.randint(0, 5, (8,), generator=torch.Generator().manual_seed(step))
        model(ids).float().square().mean().backward()
        optimiser.step(1.0, norm=optimiser.collect(), clip=1.0)


@pytest.mark.parametrize("name", OPTIMISERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_resumed_run_is_the_uninterrupted_one(name: str, dtype: torch.dtype, tmp_path) -> None:
    torch.manual_seed(0)
    start = Model().state_dict()

    def made() -> tuple[Model, MasterWeights]:
        model = Model()
        model.load_state_dict(start)
        groups = parameter_groups(model.to(dtype), rate=1e-2, weight_decay=0.1)
        return model, MasterWeights(groups, partial(build_optimisers, name=name))

    model, optimiser = made()
    run(model, optimiser, range(3))
    save_tensors(tmp_path / "state.safetensors", optimiser.tensors())
    run(model, optimiser, range(3, 6))
    again, restored = made()
    stored = load_tensors(tmp_path / "state.safetensors")
    values = {key.removeprefix("master."): value for key, value in stored.items() if key.startswith("master.")}
    restored.restore(values, stored, skip=frozenset())
    run(again, restored, range(3, 6))
    assert same_tensors(dict(again.state_dict()), dict(model.state_dict()))
    assert same_tensors(restored.tensors(), optimiser.tensors())
    assert not torch.equal(model.linear.weight, start["linear.weight"].to(dtype))


@pytest.mark.parametrize("name", OPTIMISERS)
def test_settings_name_every_optimiser(name: str) -> None:
    model, settings = Model(), Settings(steps=1, batch=1, optimiser=name)
    assert build_optimisers(parameter_groups(model), settings.optimiser, betas=settings.betas)
    if name == "adafactor":
        with pytest.raises(PerceptError, match="Leave betas out"):
            Settings(steps=1, batch=1, optimiser=name, betas=(0.9, 0.99))
    else:
        *_, last = build_optimisers(parameter_groups(model), name, betas=(0.8, 0.9))
        assert {group["betas"] for group in last.param_groups} == {(0.8, 0.9)}


def test_mistakes_are_refused() -> None:
    with pytest.raises(PerceptError, match="'lamb'"):
        Settings(steps=1, batch=1, optimiser="lam")
    with pytest.raises(PerceptError, match="do not shard"):
        Settings(steps=1, batch=1, optimiser="adafactor", shard=True)
    with pytest.raises(PerceptError, match="betas="):
        Settings(steps=1, batch=1, optimiser="lion", betas=(0.9, 1.0))
