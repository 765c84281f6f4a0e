"""Linear layers and MLPs for inference: the plain layer's numbers, never those of weights that have changed."""

import copy
import pickle
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from percept.fast import adopt, packed_bytes
from percept.fast import linear as module
from percept.fast.conditions import inference_on_cpu, inference_on_gpu
from percept.fast.counting import counter
from percept.fast.linear import Linear, direct, product_with_gelu
from percept.nn.mlp import MLP
from percept.nn.tied import TiedEmbedding

TYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
x86 = pytest.mark.skipif(not direct(torch.float32), reason="the operators do not exist on this processor")


@pytest.fixture(autouse=True)
def any_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Call oneDNN directly on Intel processors too."""
    monkeypatch.setattr(module, "on_intel", lambda: False)


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The inputs of all direct products."""
    seen: list[Tensor] = []
    product = module.product
    for dtype in (torch.float32, torch.bfloat16):
        direct(dtype)  # its own products, once per process, do not count
    monkeypatch.setattr(module, "product", lambda x, *rest: seen.append(x) or product(x, *rest))
    return seen


def close(found: Tensor, expected: Tensor) -> None:
    tolerance = 1e-5 if found.dtype == torch.float32 else 0.03
    assert found.dtype == expected.dtype
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)


def frozen(dtype: torch.dtype = torch.float32, *, pack: bool = True, bias: bool = True) -> Linear:
    layer = nn.Linear(40, 24, bias=bias).to(dtype).requires_grad_(False)
    adopt(layer, pack=pack)
    assert isinstance(layer, Linear)
    return layer


def plain(layer: nn.Linear, x: Tensor) -> Tensor:
    return F.linear(x, layer.weight, layer.bias)


@x86
@TYPES
@pytest.mark.parametrize("pack", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rows", [1, 5, 300])
@torch.no_grad()
def test_direct_and_packed_products_are_the_plain_ones(
    dtype: torch.dtype, pack: bool, bias: bool, rows: int, products: list[Tensor]
) -> None:
    layer, x = frozen(dtype, pack=pack, bias=bias), torch.randn(2, rows, 40).to(dtype)
    strided = torch.randn(40, rows, 2).to(dtype).permute(2, 1, 0)
    for given in (x, x, strided):
        close(layer(given), plain(layer, given))
        close(layer.forward_gelu(given), F.gelu(plain(layer, given)))
    assert len(products) == 6
    assert (layer.packed is not None) == pack


@x86
@torch.no_grad()
def test_float32_is_left_to_mkl_where_that_is_faster(monkeypatch: pytest.MonkeyPatch, products: list[Tensor]) -> None:
    for intel, pack, expected in (
        (True, False, []), (True, True, [200, 1024]), (False, False, [200, 577, 1024]), (False, True, [200, 577, 1024]),
    ):  # fmt: skip
        monkeypatch.setattr(module, "on_intel", lambda intel=intel: intel)
        products.clear()
        layer = frozen(pack=pack)
        for count in (200, 577, 1024):
            layer(torch.randn(count, 40))
        assert list(map(len, products)) == expected


@x86
@TYPES
@torch.no_grad()
def test_gelu_is_computed_in_the_product(dtype: torch.dtype, products: list[Tensor]) -> None:
    mlp = MLP(40, 64).to(dtype)
    x = torch.randn(3, 40).to(dtype)
    expected = mlp(x)
    adopt(mlp, pack=False)
    close(mlp(x), expected)
    assert len(products) == 2


def in_place(layer: nn.Linear) -> None:
    with torch.no_grad():
        layer.weight.mul_(2)


def one_value(layer: nn.Linear) -> None:
    with torch.no_grad():
        layer.weight[3, 5] += 10


def by_optimiser(layer: nn.Linear) -> None:
    layer.requires_grad_(True)
    layer.weight.grad = torch.ones_like(layer.weight)
    torch.optim.AdamW([layer.weight], lr=0.5, foreach=True).step()


def loaded(layer: nn.Linear) -> None:
    layer.load_state_dict({"weight": torch.ones(24, 40), "bias": torch.zeros(24)})


def assigned(layer: nn.Linear) -> None:
    layer.load_state_dict({"weight": torch.ones(24, 40), "bias": torch.zeros(24)}, assign=True)


def replaced(layer: nn.Linear) -> None:
    layer.weight = nn.Parameter(layer.weight.detach() + 1)


def leading_part(layer: nn.Linear) -> None:
    layer.weight, layer.bias = (nn.Parameter(part[:8].detach()) for part in (layer.weight, layer.bias))


def other_type(layer: nn.Linear) -> None:
    layer.half().to(torch.float32 if layer.bias.dtype == torch.bfloat16 else torch.bfloat16)


def scaled_by_apply(layer: nn.Linear) -> None:
    layer._apply(lambda tensor: tensor + 1)


def adopted_again(layer: nn.Linear) -> None:
    layer.weight.data = layer.weight.data + 1
    adopt(layer, pack=True)


CHANGES = (
    in_place, one_value, by_optimiser, loaded, assigned, replaced, leading_part, other_type, scaled_by_apply, adopted_again,
)  # fmt: skip


@TYPES
@pytest.mark.parametrize("change", CHANGES)
def test_a_packed_copy_is_never_older_than_its_weight(dtype: torch.dtype, change: Callable[[nn.Linear], None]) -> None:
    layer, x = frozen(dtype), torch.randn(6, 40).to(dtype)
    with torch.inference_mode():
        before = layer(x)
    change(layer)
    x = x.to(layer.weight.dtype)
    with torch.inference_mode():
        found = layer(x)
        close(found, plain(layer, x))
    if change is not other_type:
        assert found.shape != before.shape or not torch.allclose(found.float(), before.float(), atol=0.1)


@x86
def test_only_frozen_weights_are_packed() -> None:
    layer = nn.Linear(40, 24)
    adopt(layer, pack=True)
    assert isinstance(layer, Linear)
    assert layer.packed is None
    with torch.inference_mode():
        made_there = nn.Linear(40, 24).requires_grad_(False)
        adopt(made_there, pack=True)  # has no version that would tell of changes
        assert isinstance(made_there, Linear)
        assert made_there.packed is None


@x86
def test_moving_drops_the_packed_copy_and_copies_do_not_have_it() -> None:
    layer, x = frozen(), torch.randn(6, 40)
    assert packed_bytes(nn.Sequential(layer, nn.Linear(3, 5))) == 4 * (40 * 24 + 15)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert type(twin) is Linear
        assert twin.packed is None
        in_place(twin)
        with torch.inference_mode():
            close(twin(x), plain(twin, x))
    assert layer.packed is not None
    assert set(layer.state_dict()) == {"weight", "bias"}
    layer.to(torch.bfloat16)
    assert layer.packed is None


def test_gradients_tracing_counting_and_vmap_see_the_plain_layer() -> None:
    layer, x = frozen().requires_grad_(True), torch.randn(3, 40)
    assert not inference_on_cpu(x)
    layer(x).sum().backward()
    assert layer.weight.grad is not None
    with torch.no_grad():
        assert inference_on_cpu(x)
        assert not inference_on_gpu(x)
        with FlopCounterMode(display=False) as counter:
            layer(x)
        assert counter.get_total_flops() == 2 * 3 * 40 * 24
        torch.testing.assert_close(torch.vmap(layer)(x), plain(layer, x))
        graph = torch.export.export(nn.Sequential(layer, nn.GELU()), (x,)).graph
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tracing is deprecated, and shape checks read sizes
            traced = torch.jit.trace(layer, x, check_trace=False)
    assert not any("mkldnn" in str(node.target) for node in graph.nodes)
    assert "mkldnn" not in str(traced.graph)  # type: ignore[union-attr]


@pytest.mark.parametrize("error", [RuntimeError, AttributeError, NotImplementedError])
def test_without_the_operators_the_plain_layer_runs(monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    def missing(*_: object) -> None:
        raise error("not built in")

    monkeypatch.setattr(module, "product", missing)
    direct.cache_clear()
    layer, x = frozen(), torch.randn(3, 40)
    with torch.no_grad():
        assert not direct(torch.float32)
        assert torch.equal(layer(x), plain(layer, x))
    direct.cache_clear()


def test_operators_that_return_other_numbers_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "product", lambda x, weight, bias, then: F.linear(x, torch.zeros(8, 32), bias))
    direct.cache_clear()
    assert not direct(torch.float32)
    direct.cache_clear()


@torch.no_grad()
def test_gelu_within_the_product_of_gpus() -> None:
    layer = nn.Linear(32, 48)
    for shape in ((7, 32), (2, 5, 32), (2, 3, 5, 32)):
        x = torch.randn(shape)
        found, exact = product_with_gelu(layer, x), nn.functional.gelu(layer(x))
        assert found.shape == exact.shape
        torch.testing.assert_close(found, exact, atol=5e-4, rtol=0)


@TYPES
def test_the_output_layer_of_a_tied_embedding_is_packed(dtype: torch.dtype, products: list[Tensor]) -> None:
    layer, x, ids = (
        TiedEmbedding(50, 24).to(dtype).requires_grad_(False),
        torch.randn(3, 24).to(dtype),
        torch.tensor([3]),
    )
    expected = F.linear(x, layer.weight)
    adopt(layer, pack=True)
    assert packed_bytes(layer) == layer.weight.nbytes
    with torch.no_grad():
        close(layer.logits(x), expected)
        close(layer(ids), layer.weight[ids])
        assert len(products) == int(direct(dtype))
        layer.weight.mul_(2)
        close(layer.logits(x), 2 * expected)
    assert layer.logits(x.requires_grad_()).requires_grad


def gradients(layer: nn.Linear, x: Tensor, of_output: Tensor) -> list[Tensor]:
    """The output, and the gradients of input, weight and bias that exist."""
    given = x.clone().requires_grad_(True)
    layer.zero_grad()
    found = layer(given)
    found.backward(of_output.expand_as(found))
    kept = [each.grad.clone() for each in layer.parameters() if each.grad is not None]
    assert given.grad is not None
    return [found.detach(), given.grad, *kept]


@x86
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("pack", [False, True])
def test_gradients_of_direct_products_are_the_plain_ones(
    bias: bool, trained: bool, pack: bool, monkeypatch: pytest.MonkeyPatch, products: list[Tensor]
) -> None:
    monkeypatch.setattr(module, "FEW_PRODUCTS", 0)
    layer = nn.Linear(40, 24, bias=bias).requires_grad_(trained)
    x, expanded = torch.randn(3, 7, 40), torch.randn(1, 1, 24)
    for of_output in (torch.randn(3, 7, 24), expanded, torch.randn(24, 7, 3).permute(2, 1, 0)):
        expected = gradients(layer, x, of_output)
        products.clear()
        twin = copy.deepcopy(layer)
        adopt(twin, pack=pack)
        found = gradients(twin, x, of_output)
        assert len(found) == len(expected) == 2 + trained * (1 + bias)
        assert len(products) == 2 + trained
        for one, other in zip(found, expected, strict=True):
            close(one, other)


@x86
def test_second_derivatives_are_the_plain_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FEW_PRODUCTS", 0)
    layer, x, found = nn.Linear(6, 5).double().float(), torch.randn(4, 6, requires_grad=True), []
    for adopted in (False, True):
        if adopted:
            adopt(layer, pack=False)
        loss = layer(x).square().sum()
        first = torch.autograd.grad(loss, [x, layer.weight], create_graph=True)
        found.append(
            torch.autograd.grad(
                torch.stack([each.square().sum() for each in first]).sum(), [x, layer.weight, layer.bias]
            )
        )
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@x86
def test_training_stays_plain_where_direct_products_do_not_help(
    monkeypatch: pytest.MonkeyPatch, products: list[Tensor]
) -> None:
    layer = nn.Linear(40, 24)
    adopt(layer, pack=False)
    x = torch.randn(9, 40)
    layer(x)  # too small
    monkeypatch.setattr(module, "FEW_PRODUCTS", 0)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    torch.func.grad(lambda given: layer(given).sum())(x)
    with FlopCounterMode(display=False) as counter:
        layer(x)
    assert counter.get_total_flops() == 2 * 9 * 40 * 24
    layer.requires_grad_(False)(x)  # nothing to differentiate
    monkeypatch.setattr(module, "on_intel", lambda: True)
    layer.requires_grad_(True)(x)
    assert not products
    monkeypatch.setattr(module, "on_intel", lambda: False)
    layer(x)
    assert len(products) == 1


@x86
def test_a_counter_that_knows_direct_products_changes_no_result(
    monkeypatch: pytest.MonkeyPatch, products: list[Tensor]
) -> None:
    monkeypatch.setattr(module, "FEW_PRODUCTS", 0)
    layer, x, of_output = nn.Linear(40, 24), torch.randn(3, 7, 40), torch.randn(3, 7, 24)
    adopt(layer, pack=False)
    with counter() as counted:
        found = gradients(layer, x, of_output)
    assert counted.get_total_flops() == 3 * 2 * 21 * 40 * 24
    with counter() as counted, torch.no_grad():
        values = layer(x)
    assert counted.get_total_flops() == 2 * 21 * 40 * 24
    assert len(products) == 4
    assert torch.equal(values, found[0])
    for one, other in zip(found, gradients(layer, x, of_output), strict=True):
        assert torch.equal(one, other)


@TYPES
@torch.no_grad()
def test_a_counter_changes_no_inference(dtype: torch.dtype) -> None:
    mlp, x = MLP(16, 48).to(dtype).requires_grad_(False), torch.randn(3, 16, dtype=dtype)
    adopt(mlp, pack=True)
    with counter() as counted:
        values = mlp(x)
    assert torch.equal(values, mlp(x))
    assert counted.get_total_flops() == 2 * 2 * 3 * 16 * 48


@x86
@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")  # PyTorch's own, for forward differentiation
def test_a_row_alone_and_other_kinds_of_differentiation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FEW_PRODUCTS", 0)
    layer = nn.Linear(40, 24)
    plain, x = copy.deepcopy(layer), torch.randn(9, 40, requires_grad=True)
    adopt(layer, pack=False)
    row, ones = x[0].detach(), torch.ones(24)
    for one, other in zip(gradients(layer, row, ones), gradients(plain, row, ones), strict=True):
        close(one, other)
    several = torch.randn(3, 9, 24)
    found = [torch.autograd.grad(each(x), x, several, is_grads_batched=True)[0] for each in (layer, plain)]
    close(*found)
    for trained in (True, False):
        layer.requires_grad_(trained)
        with torch.set_grad_enabled(trained), forward_ad.dual_level():
            dual = forward_ad.make_dual(x.detach(), torch.ones_like(x))
            one, other = (forward_ad.unpack_dual(each(dual)).tangent for each in (layer, plain))
        assert one is not None
        assert other is not None
        close(one, other)
