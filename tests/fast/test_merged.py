"""Layers with the same input computed together: the plain numbers, never those of weights that have changed."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from percept.fast import adopt
from percept.fast import merged as module
from percept.fast.linear import Linear, direct
from percept.nn.context import Context
from percept.nn.grouped import GroupedAttention
from percept.nn.mlp import SwiGLU
from percept.nn.rope_1d import frequencies_1d, rope_1d

pytestmark = pytest.mark.skipif(not direct(torch.bfloat16), reason="the operators do not exist on this processor")
ROPE = Context(rope=rope_1d(torch.arange(5), frequencies_1d(8, 100.0)), causal=True)


def gated(dtype: torch.dtype = torch.bfloat16) -> SwiGLU:
    return SwiGLU(24, 40).to(dtype).requires_grad_(False)


def grouped(*, bias: bool = True) -> GroupedAttention:
    return GroupedAttention(24, 6, 2, head_dim=8, bias=bias).bfloat16().requires_grad_(False)


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The outputs of every merged product."""
    seen: list[int] = []
    product = module.product
    monkeypatch.setattr(module, "product", lambda *given: seen.append(1) or product(*given))
    return seen


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0.03)


@pytest.mark.parametrize("rows", [1, 5])
def test_a_gated_mlp(products: list[int], rows: int) -> None:
    plain, x = gated(), torch.randn(2, rows, 24).bfloat16()
    fast = copy.deepcopy(plain)
    adopt(fast, pack=True)
    with torch.no_grad():
        close(fast(x), plain(x))
    assert products == [1]
    assert isinstance(fast.gate, Linear)
    assert fast.gate.packed is None
    assert isinstance(fast.down, Linear)
    assert fast.down.packed is not None


@pytest.mark.parametrize("bias", [False, True])
def test_attention(products: list[int], bias: bool) -> None:
    plain, x = grouped(bias=bias), torch.randn(2, 5, 24).bfloat16()
    fast = copy.deepcopy(plain)
    adopt(fast, pack=True)
    with torch.no_grad():
        close(fast(x, ROPE), plain(x, ROPE))
        close(fast(x), plain(x))
    assert products == [1, 1]


def halved(mlp: SwiGLU) -> None:
    with torch.no_grad():
        mlp.up.weight.mul_(0.5)


def replaced(mlp: SwiGLU) -> None:
    mlp.gate.weight = nn.Parameter(mlp.gate.weight + 1, requires_grad=False)


def hooked(mlp: SwiGLU) -> None:
    def double(_: nn.Module, __: Any, out: Tensor) -> Tensor:
        return 2 * out

    mlp.gate.register_forward_hook(double)


@pytest.mark.parametrize("change", [halved, replaced, hooked])
def test_what_changes_a_layer_counts(products: list[int], change: Callable[[SwiGLU], None]) -> None:
    plain, x = gated(), torch.randn(1, 3, 24).bfloat16()
    fast = copy.deepcopy(plain)
    adopt(fast, pack=True)
    change(plain)
    change(fast)
    with torch.no_grad():
        close(fast(x), plain(x))
    assert not products


def test_gradients_and_other_types_see_the_plain_layers(products: list[int]) -> None:
    fast = gated()
    adopt(fast, pack=True)
    x = torch.randn(1, 3, 24).bfloat16().requires_grad_()
    fast(x).sum().backward()
    assert x.grad is not None
    assert not products
    wide = gated(torch.float32)
    adopt(wide, pack=True)
    assert wide.get_submodule("gate") is not None
    assert getattr(wide, "merged", None) is None
    trained = gated().requires_grad_(True)
    adopt(trained, pack=True)
    assert getattr(trained, "merged", None) is None


def test_moving_and_copying_drop_it() -> None:
    fast = gated()
    adopt(fast, pack=True)
    assert isinstance(fast, module.SwiGLU)
    assert fast.merged is not None
    assert copy.deepcopy(fast).merged is None
    assert pickle.loads(pickle.dumps(fast)).merged is None
    fast.to(torch.float32)
    assert fast.merged is None
