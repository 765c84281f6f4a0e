"""Adopting twins: which layers change class, that hooks still run, and that a tower computes the same."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from percept.fast import adopt
from percept.fast.linear import Linear
from percept.models.vision import VisionTower
from percept.nn.mlp import MLP
from tests.models.small import VISION, images

TYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])


def tower(dtype: torch.dtype) -> VisionTower:
    return VisionTower(replace(VISION, layer_scale=0.5)).eval().to(dtype).requires_grad_(False)


@TYPES
@pytest.mark.parametrize("pack", [False, True])
def test_a_tower_computes_the_same(dtype: torch.dtype, pack: bool) -> None:
    model, given = tower(dtype), [images().to(dtype), images(2, 8, 24).to(dtype)]
    with torch.inference_mode():
        expected = [model(given[0]).pooled, *(out.pooled for out in model.packed(given))]
    names = list(model.state_dict())
    adopt(model, pack=pack)
    assert list(model.state_dict()) == names
    assert {type(part).__module__ for part in model.modules()} >= {"percept.fast.linear", "percept.fast.attention"}
    with torch.inference_mode():
        found = [model(given[0]).pooled, *(out.pooled for out in model.packed(given))]
    for vector, other in zip(found, expected, strict=True):
        assert vector is not None
        assert other is not None
        cosine = torch.cosine_similarity(vector.float(), other.float())
        assert cosine.min() > (0.999999 if dtype == torch.float32 else 0.999)


class Doubled(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


class Negated(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return -weight


def test_subclasses_wrappers_and_parametrised_layers_are_left_alone() -> None:
    parametrised = nn.Linear(4, 4)
    parametrize.register_parametrization(parametrised, "weight", Negated())
    for layer in (Doubled(4, 4), parametrised, nn.Sequential(nn.LayerNorm(4))):
        before = [type(part) for part in layer.modules()]
        adopt(layer, pack=True)
        assert [type(part) for part in layer.modules()] == before


@torch.no_grad()
def test_what_changes_a_layer_after_it_was_adopted_counts() -> None:
    x = torch.randn(2, 4)
    parametrised = nn.Linear(4, 4).requires_grad_(False)
    expected = -(x @ parametrised.weight.T) + parametrised.bias
    adopt(parametrised, pack=True)
    parametrize.register_parametrization(parametrised, "weight", Negated())
    torch.testing.assert_close(parametrised(x), expected)
    own = nn.Linear(4, 4)
    adopt(own, pack=True)
    own.forward = lambda input: 3 * input  # as libraries do that offload weights
    assert torch.equal(own(x), 3 * x)


@TYPES
@torch.no_grad()
def test_hooks_see_and_change_what_the_plain_layers_compute(dtype: torch.dtype) -> None:
    """Also those of the layer whose GELU is computed in its product, and hooks on all modules."""
    mlp, x = MLP(8, 16).to(dtype).requires_grad_(False), torch.randn(3, 8).to(dtype)
    mlp.up.register_forward_hook(lambda *call: call[-1] + 1)
    expected = mlp(x)
    adopt(mlp, pack=True)
    torch.testing.assert_close(mlp(x), expected, atol=0.02, rtol=0.02)
    calls: list[type] = []
    everywhere = nn.modules.module.register_module_forward_hook(lambda module, *_: calls.append(type(module)))
    mlp(x)
    everywhere.remove()
    assert calls[:2] == [Linear, Linear]
    assert len(calls) == 3


def test_adopting_twice_changes_nothing() -> None:
    model = tower(torch.float32)
    adopt(model, pack=True)
    before = [type(part) for part in model.modules()]
    adopt(model, pack=False)
    assert [type(part) for part in model.modules()] == before
