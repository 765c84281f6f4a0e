"""Attention with the kernel that is fastest on the processor at hand.

In bfloat16 the fused kernel of CPUs runs at a fraction of the speed of two plain products (a quarter, with its backward
pass, at 145 tokens), so short sequences take those; a training step of nano takes 1.4 times as long without them. On Hopper
GPUs cuDNN's kernel is 1.4 times as fast as torch's choice.
"""

from math import prod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from percept.core.machine import has_amx
from percept.fast.conditions import inference_on_cpu, inference_on_gpu
from percept.fast.rope import rotate
from percept.nn import attention as plain
from percept.nn.context import Context
from percept.nn.grouped import GroupedAttention as PlainGrouped
from percept.nn.pool import AttentionPool as PlainPool

LONG = 640
"""Keys above which the fused kernel is faster than two products on a CPU in bfloat16 in training."""
LONG_WITH_AMX = 383
"""The same for inference with AMX; below it the fused kernel is slower at some lengths, see `benchmarks/attention.py`."""
VERY_LONG = 2048
"""The same for inference without AMX: there the fused kernel takes 1.6 times as long even at 1,024 tokens."""
FEW_QUERIES = 16
"""Queries up to which the fused kernel is faster in inference: 15 instead of 65 microseconds for 7 queries and 100 keys."""
LEAST_QUERIES = 64
"""Queries from which cuDNN's attention is used; the single query of attention pooling is not worth its plans."""
CUDNN = 90_100
"""First version of cuDNN whose attention is used."""
LOGITS = 64 * 2**20
"""Bytes of attention logits that are in memory at once in inference."""


def attend(
    q: Float[Tensor, "b h m e"],
    k: Float[Tensor, "b h n e"],
    v: Float[Tensor, "b h n e"],
    *,
    bias: Float[Tensor, "... #m n"] | None = None,
    causal: bool = False,
    cudnn: bool = False,
) -> Float[Tensor, "b h m e"]:
    """Attend as `percept.nn.attention.attend` does.

    Args:
        cudnn: the GPU is one whose attention cuDNN computes fastest, see `prefers_cudnn`.
    """
    if cudnn and bias is None and (not causal or q.shape[2] == k.shape[2]) and _fits_cudnn(q):
        # the operator itself, because eager and compiled code choose differently
        return torch.ops.aten._scaled_dot_product_cudnn_attention(q, k, v, None, False, 0.0, causal)[0]
    if not _by_products(q, k):
        return plain.attend(q, k, v, bias=bias, causal=causal)
    if causal:
        bias = plain.joined_bias(bias, q, k)
    bias = None if bias is None else bias.to(q.dtype)
    if inference_on_cpu(q):
        return attend_in_parts(q, k, v, bias)
    logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    return (logits.softmax(dim=-1) if bias is None else torch.ops.aten._safe_softmax(logits + bias, dim=-1)) @ v


def attend_in_parts(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    """Attend a few samples at a time; without a bias the softmax overwrites its logits.

    With one, a query whose keys are all hidden gets zeros, as from the fused kernel.
    """
    each = q.shape[1] * q.shape[2] * k.shape[2] * q.element_size()
    count, mixed = max(1, LOGITS // max(1, each)), q.new_empty((*q.shape[:-1], v.shape[-1]))
    nothing, scale = q.new_empty(()), q.shape[-1] ** -0.5
    bias = None if bias is None else bias.expand(len(q), q.shape[1], q.shape[2], k.shape[2])
    for part in (slice(start, start + count) for start in range(0, len(q), count)):
        queries, keys, values = (x[part].flatten(0, 1) for x in (q, k, v))
        logits = torch.baddbmm(nothing, queries, keys.transpose(-1, -2), beta=0, alpha=scale)
        if bias is None:
            torch.softmax(logits, dim=-1, out=logits)
        else:
            logits = torch.ops.aten._safe_softmax(logits.add_(bias[part].flatten(0, 1)), dim=-1)
        torch.bmm(logits, values, out=mixed[part].flatten(0, 1))
    return mixed


def _by_products(q: Tensor, k: Tensor) -> bool:
    """Return True if two products are faster than the fused kernel: bfloat16 on a CPU, up to a number of keys."""
    if q.device.type != "cpu" or q.dtype != torch.bfloat16 or torch.compiler.is_compiling():
        return False
    if not inference_on_cpu(q):
        return torch.is_grad_enabled() and k.shape[2] <= LONG
    return k.shape[2] <= (LONG_WITH_AMX if has_amx() else VERY_LONG)


def _fits_cudnn(q: Tensor) -> bool:
    fits = q.dtype in (torch.bfloat16, torch.float16) and q.shape[-1] % 8 == 0 and q.shape[-1] <= 128
    return fits and q.shape[2] >= LEAST_QUERIES and inference_on_gpu(q)


def prefers_cudnn(device: torch.device) -> bool:
    """Return True for a GPU of compute capability 9.0 with a cuDNN that is new enough for its attention there."""
    if device.type != "cuda" or torch.version.cuda is None or not torch.backends.cuda.cudnn_sdp_enabled():
        return False
    version = torch.backends.cudnn.version() if torch.backends.cudnn.is_available() else None
    return version is not None and version >= CUDNN and torch.cuda.get_device_capability(device) == (9, 0)


class Attention(plain.Attention):
    """`percept.nn.attention.Attention` with faster kernels; adopted by `percept.fast.adopt`."""

    cudnn = False
    """Result of `prefers_cudnn` for its device, determined when it was adopted."""

    def project(self, x: Float[Tensor, "b n w"], context: Context) -> tuple[Tensor, Tensor, Tensor]:
        """Return rotated queries, rotated keys, and values."""
        if context.rope is None or not inference_on_cpu(x):
            return super().project(x, context)
        parts = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = rotate(parts[:2], *context.rope)
        return q, k, parts[2]

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, *, bias: Tensor | None = None, causal: bool = False
    ) -> Float[Tensor, "b h m e"]:
        """Compute the attention."""
        return attend(q, k, v, bias=bias, causal=causal, cudnn=self.cudnn)


class GroupedAttention(PlainGrouped):
    """`percept.nn.grouped.GroupedAttention` with faster kernels; adopted by `percept.fast.adopt`."""

    cudnn = False
    """Result of `prefers_cudnn` for its device, determined when it was adopted."""

    def kernel(
        self, q: Tensor, k: Tensor, v: Tensor, *, bias: Tensor | None = None, causal: bool = False
    ) -> Float[Tensor, "b h m e"]:
        """Compute the attention of equally many heads."""
        if 1 < q.shape[2] <= FEW_QUERIES and inference_on_cpu(q):
            return plain.attend(q, k, v, bias=bias, causal=causal)
        return attend(q, k, v, bias=bias, causal=causal, cudnn=self.cudnn)


class AttentionPool(PlainPool):
    """`percept.nn.pool.AttentionPool` with faster kernels; adopted by `percept.fast.adopt`."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Float[Tensor, "b h 1 e"]:
        """Compute the attention of the query."""
        return attend(query, key, value)


def attention_operations() -> dict[Any, Any]:
    """Return the cost of PyTorch's fused attention on CPUs, which `torch.utils.flop_counter` does not know."""
    return {
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _operations,
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _backward_operations,
    }


def _operations(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    """Return multiplications and additions of attention; shapes are [b, h, n, d]."""
    *heads, queries, width = query
    return 2 * prod(heads) * queries * key[-2] * (width + value[-1])


def _backward_operations(gradient: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    """Return the operations of the gradients of query, key, weights and value, without recomputing the weights."""
    return 2 * _operations(query, key, value)
