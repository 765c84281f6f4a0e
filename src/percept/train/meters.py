"""Speed and share of the machine's peak, in figures that mean the same on any machine."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from percept.core.machine import matmul_peak
from percept.data.batch import Batch


class Meter:
    """Counts samples and floating-point operations between two reports, in this process."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.peak = matmul_peak(device, dtype)
        self.work: dict[tuple[int, ...], float] = {}
        """Operations of training per sample, by the shapes of a batch, as counted last."""
        self.reset()

    def reset(self) -> None:
        """Start a new interval."""
        self.start, self.samples, self.done = time.perf_counter(), 0, 0.0

    @contextmanager
    def counting(self, batch: Batch) -> Iterator[None]:
        """Add one step whose forward pass runs inside the block.

        Operations are counted in the first step of an interval and whenever the shapes of the batch are new; other
        steps are taken to cost the same. A training step costs three times the matrix products of its forward pass,
        less where parameters are frozen.
        """
        shapes = tuple(size for tensor in batch.tensors().values() for size in tensor.shape[1:])
        if shapes in self.work and self.samples:
            yield
        else:
            with FlopCounterMode(display=False, custom_mapping=_cpu_attention()) as counter:
                yield
            self.work[shapes] = 3 * counter.get_total_flops() / len(batch)
        self.samples += len(batch)
        self.done += self.work[shapes] * len(batch)

    def rates(self, world_size: int = 1) -> dict[str, float]:
        """Return samples per second over all processes and the share of the matrix-product peak since the last reset."""
        seconds = time.perf_counter() - self.start
        return {
            "samples_per_second": world_size * self.samples / seconds,
            "share_of_peak": self.done / seconds / self.peak,
        }


def _cpu_attention() -> dict[Any, Any]:
    """Return the cost of PyTorch's fused attention on CPUs, which its counter does not know."""
    return {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_operations}


def _attention_operations(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    """Return multiplications and additions of attention; shapes are [b, h, n, d]."""
    *heads, queries, width = query
    return 2 * prod(heads) * queries * key[-2] * (width + value[-1])
