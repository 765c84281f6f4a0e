"""Products called directly while inferring: the plain layer's numbers, never those of weights that have changed."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from percept.models.config import VisionConfig
from percept.models.vision import VisionTower
from percept.nn import attention, rope
from percept.nn import linear as module
from percept.nn.attention import Attention
from percept.nn.linear import (
    direct,
    forget,
    linear,
    only_inferring,
    only_inferring_on_gpu,
    pack,
    packed_bytes,
    plain_layers,
    product_with_gelu,
)
from percept.nn.rope import rope_2d, rotate


@pytest.fixture(autouse=True)
def any_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have products called directly on Intel's processors too."""
    monkeypatch.setattr(module, "on_intel", lambda: False)


TYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])


def close(found: Tensor, expected: Tensor) -> None:
    tolerance = 1e-5 if found.dtype == torch.float32 else 0.03
    assert found.dtype == expected.dtype
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)


@TYPES
@pytest.mark.parametrize("gelu", [False, True])
@pytest.mark.parametrize("rows", [1, 5, 300])
@torch.no_grad()
def test_plain_dense_and_packed_weights_give_the_same(dtype: torch.dtype, gelu: bool, rows: int) -> None:
    layer, x = nn.Linear(40, 24).to(dtype), torch.randn(2, rows, 40).to(dtype)
    expected = F.gelu(layer(x)) if gelu else layer(x)
    close(linear(layer, x, gelu=gelu), expected)
    pack(layer)
    for _ in range(2):
        close(linear(layer, x, gelu=gelu), expected)
    strided = torch.randn(40, rows, 2).to(dtype).permute(2, 1, 0)
    close(linear(layer, strided, gelu=gelu), F.gelu(layer(strided)) if gelu else layer(strided))


@torch.no_grad()
def test_float32_is_left_to_mkl_where_it_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, taken = nn.Linear(8, 4), []
    product = module._product
    monkeypatch.setattr(module, "_product", lambda *all: taken.append(len(all[0])) or product(*all))
    for intel, packed, rows in ((True, [200, 1024], [200, 577, 1024]), (False, [200, 577, 1024], [200, 577, 1024])):
        monkeypatch.setattr(module, "on_intel", lambda intel=intel: intel)
        taken.clear()
        for count in rows:
            linear(layer, torch.randn(count, 8))
        assert taken == ([] if intel else rows)
        pack(layer)
        taken.clear()
        for count in rows:
            linear(layer, torch.randn(count, 8))
        assert taken == packed
        layer = nn.Linear(8, 4)


def tower(dtype: torch.dtype) -> VisionTower:
    torch.manual_seed(0)
    config = VisionConfig(image_size=32, patch_size=8, width=64, layers=3, heads=4, output_dim=16)
    return VisionTower(config).eval().to(dtype)


def vector(model: VisionTower, image: Tensor) -> Tensor:
    pooled = model(image).pooled
    assert pooled is not None
    return pooled


@TYPES
def test_a_tower_gives_the_same_in_every_way(dtype: torch.dtype) -> None:
    model, image = tower(dtype), torch.randn(3, 3, 32, 32).to(dtype)
    expected = vector(model, image).detach()
    with torch.inference_mode():
        dense = vector(model, image)
        pack(model)
        packed = vector(model, image)
        with plain_layers():
            plain = vector(model, image)
    for found in (dense, packed, plain):
        cosine = torch.cosine_similarity(found.float(), expected.float())
        assert cosine.min() > (0.999999 if dtype == torch.float32 else 0.999)


def in_place(layer: nn.Linear) -> None:
    with torch.no_grad():
        layer.weight.mul_(2)


def one_value(layer: nn.Linear) -> None:
    with torch.no_grad():
        layer.weight[3, 5] += 10


def by_optimiser(layer: nn.Linear) -> None:
    layer.weight.grad = torch.ones_like(layer.weight)
    torch.optim.AdamW([layer.weight], lr=0.5, foreach=True).step()


def behind(layer: nn.Linear) -> None:
    layer.weight.data.add_(1)


def some_columns(layer: nn.Linear) -> None:
    layer.weight.data[:, 17:20] = 50


def some_rows(layer: nn.Linear) -> None:
    layer.weight.data[11:13] = 50


def loaded(layer: nn.Linear) -> None:
    layer.load_state_dict({"weight": torch.ones(24, 40), "bias": torch.zeros(24)})


def assigned(layer: nn.Linear) -> None:
    layer.load_state_dict({"weight": torch.ones(24, 40), "bias": torch.zeros(24)}, assign=True)


def other_data(layer: nn.Linear) -> None:
    layer.weight.data = layer.weight.data.clone() + 1


def other_bias(layer: nn.Linear) -> None:
    layer.bias.data.add_(1)


CHANGES = (in_place, one_value, by_optimiser, behind, some_columns, some_rows, loaded, assigned, other_data, other_bias)


@TYPES
@pytest.mark.parametrize("change", CHANGES)
def test_weights_that_change_are_packed_anew(dtype: torch.dtype, change: Callable[[nn.Linear], None]) -> None:
    layer, x = nn.Linear(40, 24).to(dtype), torch.randn(6, 40).to(dtype)
    pack(layer)
    with torch.inference_mode():
        before = linear(layer, x)
    change(layer)
    x = x.to(layer.weight.dtype)
    with torch.inference_mode():
        found, expected = linear(layer, x), layer(x)
    close(found, expected)
    assert not torch.allclose(found.float(), before.float(), atol=0.1)


@TYPES
@torch.no_grad()
def test_a_leading_part_of_a_weight_is_another_weight(dtype: torch.dtype) -> None:
    layer, x = nn.Linear(40, 24).to(dtype), torch.randn(6, 40).to(dtype)
    pack(layer)
    linear(layer, x)
    layer.weight, layer.bias = (nn.Parameter(one[:8].detach()) for one in (layer.weight, layer.bias))
    close(linear(layer, x), layer(x))


@torch.no_grad()
def test_what_is_forgotten_is_packed_anew() -> None:
    layer, x = nn.Linear(400, 240), torch.randn(6, 400)
    pack(layer)
    linear(layer, x)
    layer.weight.data[7, 3] = 1e3  # too little to be seen
    assert not torch.allclose(linear(layer, x), layer(x), atol=0.1)
    forget(nn.Sequential(layer, nn.Linear(2, 2)))
    close(linear(layer, x), layer(x))


def test_copies_and_other_types_have_their_own_weights() -> None:
    layer, x = nn.Linear(40, 24), torch.randn(6, 40)
    pack(layer)
    with torch.inference_mode():
        linear(layer, x)
    twin = copy.deepcopy(layer)
    in_place(twin)
    layer.bfloat16()
    with torch.inference_mode():
        close(linear(twin, x), twin(x))
        close(linear(layer, x.bfloat16()), layer(x.bfloat16()))
    assert set(layer.state_dict()) == {"weight", "bias"}


def test_packed_weights_go_with_their_layer() -> None:
    layer, kept = nn.Linear(40, 24), len(module._packed)
    pack(layer)
    with torch.no_grad():
        linear(layer, torch.randn(2, 40))
    assert len(module._packed) == kept + 1
    assert packed_bytes(layer) == 40 * 24 * 4
    del layer
    assert len(module._packed) == kept


class Doubled(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


@torch.no_grad()
def test_replaced_and_heard_layers_are_called() -> None:
    x, doubled, heard = torch.randn(2, 40), Doubled(40, 24), []
    assert torch.equal(linear(doubled, x), doubled(x))
    layer = nn.Linear(40, 24)
    layer.register_forward_hook(lambda *_: heard.append(1))
    linear(layer, x)
    assert heard == [1]
    own = nn.Linear(40, 24)
    own.forward = lambda input: 3 * input  # as libraries do that move weights about
    assert torch.equal(linear(own, x), 3 * x)
    everywhere = nn.modules.module.register_module_forward_hook(lambda *_: heard.append(2))
    linear(nn.Linear(40, 24), x)
    everywhere.remove()
    assert heard == [1, 2]
    assert linear(nn.Linear(40, 24, bias=False), x).shape == (2, 24)
    assert linear(layer.half(), x.half()).dtype == torch.float16


def test_gradients_tracing_counting_and_vmap_see_plain_layers() -> None:
    layer, x = nn.Linear(40, 24), torch.randn(3, 40)
    pack(layer)
    assert not only_inferring(x)
    linear(layer, x).sum().backward()
    assert layer.weight.grad is not None
    with torch.no_grad():
        assert only_inferring(x)
        with plain_layers():
            assert not only_inferring(x)
        with FlopCounterMode(display=False) as counter:
            linear(layer, x)
        assert counter.get_total_flops() == 2 * 3 * 40 * 24
        torch.testing.assert_close(torch.vmap(lambda row: linear(layer, row))(x), layer(x))

        class Model(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layer = layer

            def forward(self, x: Tensor) -> Tensor:
                return linear(self.layer, x, gelu=True)

        names = [str(node.target) for node in torch.export.export(Model(), (x,)).graph.nodes]
    assert not any("mkldnn" in name for name in names)


@pytest.mark.parametrize("error", [RuntimeError, AttributeError, NotImplementedError])
def test_without_the_operators_plain_layers_are_called(monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    def missing(*_: object) -> None:
        raise error("not built in")

    monkeypatch.setattr(module, "_product", missing)
    direct.cache_clear()
    layer, x = nn.Linear(40, 24), torch.randn(3, 40)
    with torch.no_grad():
        assert not direct(torch.float32)
        assert torch.equal(linear(layer, x), layer(x))
    direct.cache_clear()


def test_operators_that_give_other_numbers_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_product", lambda x, weight, bias, then: F.linear(x, torch.zeros(8, 32), bias))
    direct.cache_clear()
    assert not direct(torch.float32)
    direct.cache_clear()


@TYPES
@pytest.mark.parametrize("amx", [True, False])
@torch.no_grad()
def test_rotation_and_attention_of_inference_are_those_of_training(
    dtype: torch.dtype, amx: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for one in (attention, rope):
        monkeypatch.setattr(one, "has_amx", lambda: amx)
    layer, x = Attention(64, 4).to(dtype), torch.randn(2, 13, 64).to(dtype)
    table = rope_2d((3, 4), 16, prefix=1, first=1)
    q = torch.randn(2, 13, 4, 16).to(dtype).transpose(1, 2)
    bias = torch.randn(1, 4, 13, 13)
    found = rotate(q, *table), layer(x, rope=table), layer(x, rope=table, bias=bias), layer(x, causal=True)
    with plain_layers():
        expected = rotate(q, *table), layer(x, rope=table), layer(x, rope=table, bias=bias), layer(x, causal=True)
    assert dtype == torch.float32 or found[0].is_contiguous()  # the products want it so
    for one, other in zip(found, expected, strict=True):
        close(one, other)


@pytest.mark.parametrize(("amx", "fused"), [(True, True), (False, False)])
@torch.no_grad()
def test_long_sequences_take_the_fused_kernel_with_amx(amx: bool, fused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "has_amx", lambda: amx)
    taken: list[Tensor] = []
    kernel = F.scaled_dot_product_attention
    monkeypatch.setattr(
        F, "scaled_dot_product_attention", lambda *all, **more: taken.append(all[0]) or kernel(*all, **more)
    )
    q = torch.randn(1, 1, attention.LONG_WITH_AMX + 1, 8).bfloat16()
    close(attention.attend(q, q, q), kernel(q, q, q))
    assert bool(taken) == fused
    attention.attend(q[:, :, 1:], q[:, :, 1:], q[:, :, 1:])
    assert len(taken) == fused


@torch.no_grad()
def test_attention_in_parts_is_attention_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = torch.randn(3, 5, 2, 9, 8).bfloat16()
    bias = torch.randn(5, 1, 9, 9)
    whole = attention.attend(q, k, v, bias=bias)
    monkeypatch.setattr(attention, "LOGITS", 2 * 2 * 9 * 9 * 2)  # two samples
    assert torch.equal(attention.attend(q, k, v, bias=bias), whole)
    with plain_layers():
        close(whole, attention.attend(q, k, v, bias=bias))


@torch.no_grad()
def test_gelu_within_the_product_as_gpus_get_it() -> None:
    layer = nn.Linear(32, 48)
    for shape in ((7, 32), (2, 5, 32), (2, 3, 5, 32)):
        x = torch.randn(shape)
        found, exact = product_with_gelu(layer, x), nn.functional.gelu(layer(x))
        assert found.shape == exact.shape
        torch.testing.assert_close(found, exact, atol=5e-4, rtol=0)


def test_a_processor_is_no_gpu() -> None:
    with torch.no_grad():
        assert not only_inferring_on_gpu(torch.zeros(2))
