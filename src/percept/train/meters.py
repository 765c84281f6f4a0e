"""Speed and share of the machine's peak, in figures that mean the same on any machine."""

import time

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from percept.core.contracts import Batch, Trainable
from percept.core.machine import matmul_peak


class Meter:
    """Counts samples and floating-point operations between two reports."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.peak = matmul_peak(device, dtype)
        self.work: dict[tuple[int, ...], int] = {}
        self.reset()

    def reset(self) -> None:
        """Start a new interval."""
        self.start, self.samples, self.done = time.perf_counter(), 0, 0

    def count(self, model: nn.Module, batch: Batch) -> None:
        """Add one step; the operations of a shape are counted on one sample, the first time it comes."""
        one = batch.first(1)
        shape = tuple(size for tensor in one.tensors().values() for size in tensor.shape)
        if shape not in self.work:
            self.work[shape] = _training_flops(model, one)
        self.samples += len(batch)
        self.done += self.work[shape] * len(batch)

    def rates(self) -> dict[str, float]:
        """Return samples per second and the share of the matrix-product peak since the last reset."""
        seconds = time.perf_counter() - self.start
        return {"samples_per_second": self.samples / seconds, "share_of_peak": self.done / seconds / self.peak}


def _training_flops(model: nn.Module, one: Batch) -> int:
    """Count the operations of one sample: matrix products forward, and twice that backward."""
    assert isinstance(model, Trainable)
    # the counter does not know the fused attention of CPUs, so attention is taken apart while counting
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        model.training_step(one)
    return 3 * counter.get_total_flops()
