"""Linear layers while only inferring: GELU in the same pass; on a CPU oneDNN called directly, weights packed once.

`torch.nn.functional.linear` goes through a general product: oneDNN reorders the weight in every call (a tenth of the time
in bfloat16), and in float32 x86 machines get MKL, which is slower on processors that are not Intel's. The operators used
here are private ones of PyTorch, those that `torch.compile` writes calls of; where one is missing or gives other numbers,
where gradients are wanted, and where anybody listens to a layer or replaced it, the plain layer is called.
"""

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from percept.core.machine import device_name
from percept.nn.watch import Watched, listened

FEW_ROWS, MANY_ROWS = 256, 1024
"""Rows of a float32 product between which MKL is faster than oneDNN on Intel's processors, by a fifth at 577 rows of 1,024."""
PACKED_ROWS = 1024
"""Rows of the products that packed weights are ordered for; others take them as well."""


@dataclass
class _Packed:
    """A weight in the order oneDNN wants, and the weight it was made of."""

    weight: Tensor
    source: Watched


_packed: WeakKeyDictionary[nn.Module, _Packed | None] = WeakKeyDictionary()
"""Layers whose weights are to be packed, and their packed weights as soon as they have been used."""
_switch = {"direct": True}


def is_plain(layer: nn.Module) -> bool:
    """Tell whether a layer is linear with a bias, and nobody listens to it: only then its weights stand for it."""
    return type(layer) is nn.Linear and layer.bias is not None and not listened(layer)


def only_inferring(x: Tensor) -> bool:
    """Tell whether nobody but the caller sees what is computed of `x`: no gradients, no tracing, no counting, no `vmap`."""
    return (
        _switch["direct"]
        and not torch.is_grad_enabled()
        and type(x) is Tensor
        and x.device.type == "cpu"
        and not torch.compiler.is_compiling()
        and torch._C._get_tracing_state() is None
        and not torch._C._len_torch_dispatch_stack()
        and torch._C._functorch.peek_interpreter_stack() is None  # pyright: ignore[reportAttributeAccessIssue]
    )


def only_inferring_on_gpu(x: Tensor) -> bool:
    """Tell the same of a GPU, where compiling sees into what is called here."""
    return (
        _switch["direct"]
        and x.device.type == "cuda"
        and not torch.is_grad_enabled()
        and (
            torch.compiler.is_compiling()
            or (not torch._C._len_torch_dispatch_stack() and torch._C._functorch.peek_interpreter_stack() is None)  # pyright: ignore[reportAttributeAccessIssue]
        )
    )


@contextmanager
def plain_layers() -> Iterator[None]:
    """Compute as while training inside, to compare."""
    before, _switch["direct"] = _switch["direct"], False
    try:
        yield
    finally:
        _switch["direct"] = before


def linear(layer: nn.Module, x: Float[Tensor, "*b i"], *, gelu: bool = False) -> Float[Tensor, "*b o"]:
    """Apply a linear layer, then GELU if wanted.

    It is exact but for bfloat16 on a GPU: there, while only inferring, it is done within the product, in its form with the
    hyperbolic tangent, which differs by less than 5e-4, a fraction of what bfloat16 rounds.
    """
    narrow = x.dtype == torch.bfloat16 == layer.weight.dtype
    if gelu and narrow and only_inferring_on_gpu(x) and is_plain(layer):
        assert isinstance(layer, nn.Linear)
        return product_with_gelu(layer, x)
    ours = only_inferring(x) and is_plain(layer) and x.dtype == layer.weight.dtype and direct(x.dtype)
    if not ours or (x.dtype == torch.float32 and mkl_is_faster(layer, x.numel() // max(1, x.shape[-1]))):
        return F.gelu(layer(x)) if gelu else layer(x)
    assert isinstance(layer, nn.Linear)
    return _product(x, _weight(layer), layer.bias, "gelu" if gelu else "none")


def product_with_gelu(layer: nn.Linear, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:
    """Apply a linear layer with a bias, and GELU in the same pass, as cuBLAS offers it."""
    rows = torch.ops.aten._addmm_activation(layer.bias, x.flatten(0, -2), layer.weight.t(), use_gelu=True)
    return rows.unflatten(0, x.shape[:-1])


def _product(x: Tensor, weight: Tensor, bias: Tensor | None, then: str) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, then, [], "none")


def mkl_is_faster(layer: nn.Module, rows: int) -> bool:
    """Tell whether float32 products are left to MKL: on its own processors those of weights not packed, and some others."""
    return on_intel() and (layer not in _packed or FEW_ROWS < rows < MANY_ROWS)


@lru_cache
def on_intel() -> bool:
    """Tell whether float32 products go to MKL on a processor that it is made for."""
    return torch.backends.mkl.is_available() and "Intel" in device_name(torch.device("cpu"))


@lru_cache
def direct(dtype: torch.dtype) -> bool:
    """Try whether the operators are there for a number type, and give what the plain ones give."""
    if platform.machine() not in ("x86_64", "AMD64") or dtype not in (torch.float32, torch.bfloat16):
        return False
    x = (torch.arange(33 * 32) % 7 - 3).view(33, 32).to(dtype) / 4
    weight, bias = x[:8] / 4, x[0, :8]
    expected = F.gelu(F.linear(x, weight, bias))
    try:
        found = (_product(x, one, bias, "gelu") for one in (weight, _reordered(weight)))
        return all(torch.allclose(one, expected, atol=0.02, rtol=0.02) for one in found)
    except (RuntimeError, AttributeError, NotImplementedError):
        return False


def pack(module: nn.Module) -> None:
    """Have the weights of all plain linear layers packed when they are first used; it takes their memory once more.

    A weight that has changed is packed anew: another tensor, or one whose changes PyTorch counts. Changes behind its back
    (`weight.data.add_`) are seen by comparing some values, see `percept.nn.watch`.
    """
    for layer in module.modules():
        if type(layer) is nn.Linear:
            _packed.setdefault(layer, None)


def forget(module: nn.Module) -> None:
    """Have the packed weights of a module made anew when they are next used."""
    for layer in module.modules():
        if type(layer) is nn.Linear and layer in _packed:
            _packed[layer] = None


def packed_bytes(module: nn.Module) -> int:
    """Return the memory that `pack` takes in the end."""
    layers = (layer for layer in module.modules() if type(layer) is nn.Linear)
    return sum(layer.weight.numel() * layer.weight.element_size() for layer in layers)


def _weight(layer: nn.Linear) -> Tensor:
    """Return the weight as it is, or packed where that was asked for."""
    weight: Any = layer.weight
    if layer not in _packed or type(weight) is not nn.Parameter or not Watched.can(weight):
        return weight
    kept = _packed[layer]
    if kept is None or not kept.source.same(weight):
        kept = _packed[layer] = _Packed(_reordered(weight), Watched(weight))
    return kept.weight


def _reordered(weight: Tensor) -> Tensor:
    with torch.inference_mode(False), torch.no_grad():
        return torch.ops.mkldnn._reorder_linear_weight(weight.detach(), PACKED_ROWS)
