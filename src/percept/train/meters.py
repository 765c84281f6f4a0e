"""Speed and share of the machine's peak, in figures that mean the same on any machine."""

import time

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from percept.core.contracts import Batch, Trainable
from percept.core.machine import matmul_peak

COUNTED = 8
"""Samples on which operations are counted."""


class Meter:
    """Counts samples and floating-point operations between two reports."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.peak = matmul_peak(device, dtype)
        self.work: dict[tuple[int, ...], float] = {}
        self.reset()

    def reset(self) -> None:
        """Start a new interval."""
        self.start, self.samples, self.done = time.perf_counter(), 0, 0

    def count(self, model: nn.Module, batch: Batch) -> None:
        """Add one step; the operations of a kind of batch are counted on some samples, the first time it comes.

        Texts are cut to the longest, so batches whose longest texts are about as long are of one kind.
        """
        some = batch.first(COUNTED)
        longest = 0 if batch.tokens is None else int((batch.tokens != 0).sum(dim=1).max())
        shape = (longest // 8, *(size for tensor in some.tensors().values() for size in tensor.shape[1:]))
        if shape not in self.work:
            self.work[shape] = _training_flops(model, some) / len(some)
        self.samples += len(batch)
        self.done += self.work[shape] * len(batch)

    def rates(self) -> dict[str, float]:
        """Return samples per second and the share of the matrix-product peak since the last reset."""
        seconds = time.perf_counter() - self.start
        return {"samples_per_second": self.samples / seconds, "share_of_peak": self.done / seconds / self.peak}


def _training_flops(model: nn.Module, some: Batch) -> int:
    """Count the operations of some samples: matrix products forward, and twice that backward; the model stays as it was."""
    assert isinstance(model, Trainable)
    kept = {name: value.clone() for name, value in model.named_buffers()}
    # the counter does not know the fused attention of CPUs, so attention is taken apart while counting
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        model.training_step(some)
        for name, value in model.named_buffers():
            value.copy_(kept[name])
    return 3 * counter.get_total_flops()
