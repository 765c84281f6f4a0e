"""Linear layers on CPUs: oneDNN called directly, for inference with packed weights and GELU fused into the product.

`torch.nn.functional.linear` takes a general product: in bfloat16 oneDNN reorders the weight at every call (a tenth of the
time), and in float32 x86 processors get MKL, which takes twice as long on processors that are not Intel's, in both directions. The
operators used here are private ones that `torch.compile` generates calls to. Where one is missing or returns other numbers, the
plain layer runs.
"""

import platform
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from percept.core.machine import device_name
from percept.fast.conditions import has_hooks, inference_on_cpu, inference_on_gpu, training_on_cpu
from percept.nn.mlp import MLP as PlainMLP
from percept.nn.tied import TiedEmbedding as PlainTied

FEW_ROWS, MANY_ROWS = 256, 1024
"""Rows between which MKL is faster than packed oneDNN in float32 on Intel processors (by a fifth at 577 rows of 1,024)."""
PACKED_ROWS = 1024
"""Number of rows that packed weights are laid out for; other numbers work too."""
FEW_PRODUCTS = 2**21
"""Multiplications of a layer below which the plain form is faster in training, as autograd calls no Python for it."""


@dataclass(frozen=True)
class Packed:
    """A weight in the layout of oneDNN, the parameter it was made from, and the version of that."""

    weight: Tensor
    source: Tensor
    version: int

    def is_of(self, weight: Tensor) -> bool:
        """Return True if it was made from this parameter, and PyTorch has counted no change since."""
        return weight is self.source and weight._version == self.version


class Packs(nn.Module):
    """A layer that multiplies with its weight [o, i], for which it may keep a packed copy."""

    weight: Tensor
    packed: Packed | None = None

    def pack(self) -> None:
        """Store the weight a second time in the layout of oneDNN; only a frozen one, and only where it is used."""
        self.packed = None
        weight = self._parameters.get("weight")
        if type(weight) is not nn.Parameter or weight.requires_grad or weight.is_inference():
            return
        if weight.device.type == "cpu" and direct(weight.dtype):
            self.packed = Packed(reordered(weight), weight, weight._version)

    def is_direct(self, x: Tensor) -> bool:
        """Return True if `multiplied` is to be used."""
        weight = self.weight
        if not inference_on_cpu(x) or x.dtype != weight.dtype or type(weight) not in (Tensor, nn.Parameter):
            return False
        if not direct(x.dtype):
            return False
        return x.dtype != torch.float32 or not self._mkl_is_faster(x.numel() // max(1, x.shape[-1]))

    def _mkl_is_faster(self, rows: int) -> bool:
        """Return True for float32 products that MKL computes faster: on Intel, unpacked ones and some numbers of rows."""
        return on_intel() and (self.packed is None or FEW_ROWS < rows < MANY_ROWS)

    def multiplied(self, x: Tensor, bias: Tensor | None, then: str) -> Tensor:
        """Return the product with the weight, plus the bias, after an activation ("none" or "gelu")."""
        return product(x, self.layout(), bias, then)

    def layout(self) -> Tensor:
        """Return the packed weight, or the plain one if there is no packed copy of it."""
        weight = self.weight
        if self.packed is not None and not self.packed.is_of(weight):
            self.packed = None
        return weight if self.packed is None else self.packed.weight

    def _apply(self, fn: Any, recurse: bool = True) -> "Packs":
        self.packed = None
        return super()._apply(fn, recurse)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "packed"}


class Linear(Packs, nn.Linear):
    """`torch.nn.Linear` that is faster on CPUs; adopted by `percept.fast.adopt`."""

    def forward(self, input: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:
        """Apply the layer."""
        if self.is_direct(input):
            return self.multiplied(input, self.bias, "none")
        if self.is_direct_in_training(input):
            return Product.apply(input, self.weight, self.bias, self.layout())  # pyright: ignore[reportReturnType]
        return super().forward(input)

    def is_direct_in_training(self, x: Tensor) -> bool:
        """Return True if `Product` is to be used: float32 with gradients, on a CPU where MKL is slower."""
        weight, bias = self.weight, self.bias
        if x.dtype != torch.float32 or weight.dtype != torch.float32 or type(weight) not in (Tensor, nn.Parameter):
            return False
        if (
            x.dim() < 2
            or x.numel() * len(weight) < FEW_PRODUCTS
            or not training_on_cpu(x)
            or on_intel()
            or not direct(x.dtype)
        ):
            return False
        return x.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad)

    def forward_gelu(self, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:
        """Apply the layer and GELU.

        In bfloat16 on a GPU the product computes GELU in its form with the hyperbolic tangent, which differs by less than
        5e-4, a fraction of the rounding of bfloat16.
        """
        if self.is_direct(x):
            return self.multiplied(x, self.bias, "gelu")
        narrow = x.dtype == torch.bfloat16 == self.weight.dtype
        if narrow and self.bias is not None and inference_on_gpu(x):
            return product_with_gelu(self, x)
        return F.gelu(self(x))


class TiedEmbedding(Packs, PlainTied):
    """`percept.nn.tied.TiedEmbedding` with a faster output layer; adopted by `percept.fast.adopt`."""

    def logits(self, x: Float[Tensor, "*b w"]) -> Float[Tensor, "*b v"]:
        """Return the product of tokens with all embeddings."""
        return self.multiplied(x, None, "none") if self.is_direct(x) else super().logits(x)


class MLP(PlainMLP):
    """`percept.nn.mlp.MLP` with GELU fused into the first product; adopted by `percept.fast.adopt`."""

    def forward(self, x: Float[Tensor, "*b w"]) -> Float[Tensor, "*b w"]:
        """Transform each token independently."""
        up = self.up
        if type(up) is Linear and not has_hooks(up):
            return self.down(up.forward_gelu(x))
        return super().forward(x)


class Product(torch.autograd.Function):
    """A direct product whose gradients are direct products too; second derivatives are those of plain operations."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, layout: Tensor) -> Tensor:
        """Multiply.

        Args:
            layout: the weight, or a packed copy of it.
        """
        ctx.save_for_backward(x if weight.requires_grad else None, weight)
        return product(x, layout, bias, "none")

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        """Return the gradients of input, weight and bias, as far as they are needed."""
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias, _ = ctx.needs_input_grad
        gradient, times = gradients[0].contiguous(), _plain_product if torch.is_grad_enabled() else product
        rows = gradient.reshape(-1, gradient.shape[-1])
        return (
            times(gradient, weight.t(), None, "none") if of_x else None,
            times(rows.t(), x.reshape(-1, x.shape[-1]).t(), None, "none") if of_weight else None,
            rows.sum(dim=0) if of_bias else None,
            None,
        )


def _plain_product(x: Tensor, weight: Tensor, bias: Tensor | None, then: str) -> Tensor:
    return x @ weight.t()


def product(x: Tensor, weight: Tensor, bias: Tensor | None, then: str) -> Tensor:
    """Multiply with a dense or packed weight, add the bias and apply an activation ("none" or "gelu")."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, then, [], "none")


def product_with_gelu(layer: nn.Linear, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:
    """Apply a linear layer with a bias, and GELU in the same pass, as cuBLAS offers it."""
    rows = torch.ops.aten._addmm_activation(layer.bias, x.flatten(0, -2), layer.weight.t(), use_gelu=True)
    return rows.unflatten(0, x.shape[:-1])


@lru_cache
def on_intel() -> bool:
    """Return True if float32 products go to MKL on an Intel processor."""
    return torch.backends.mkl.is_available() and "Intel" in device_name(torch.device("cpu"))


@lru_cache
def direct(dtype: torch.dtype) -> bool:
    """Return True if the operators exist for a number type and agree with the plain layer."""
    if platform.machine() not in ("x86_64", "AMD64") or dtype not in (torch.float32, torch.bfloat16):
        return False
    x = (torch.arange(33 * 32) % 7 - 3).view(33, 32).to(dtype) / 4
    weight, bias = x[:8] / 4, x[0, :8]
    expected = F.gelu(F.linear(x, weight, bias))
    try:
        results = [product(x, layout, bias, "gelu") for layout in (weight, reordered(weight))]
    except (RuntimeError, AttributeError, NotImplementedError):
        return False
    return all(torch.allclose(result, expected, atol=0.02, rtol=0.02) for result in results)


def reordered(weight: Tensor) -> Tensor:
    """Return a weight in the layout of oneDNN."""
    with torch.inference_mode(False), torch.no_grad():
        return torch.ops.mkldnn._reorder_linear_weight(weight.detach(), PACKED_ROWS)
