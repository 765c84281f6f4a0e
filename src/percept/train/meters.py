"""Speed and share of the machine's peak, in figures that mean the same on any machine."""

import time

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from percept.core.contracts import Batch, Trainable
from percept.core.machine import matmul_peak
from percept.core.seed import random_states, restore_random_states


class Meter:
    """Counts samples and floating-point operations between two reports."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.device = device
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
            self.work[shape] = _training_flops(model, one, self.device)
        self.samples += len(batch)
        self.done += self.work[shape] * len(batch)

    def rates(self) -> dict[str, float]:
        """Return samples per second and the share of the matrix-product peak since the last reset."""
        seconds = time.perf_counter() - self.start
        return {"samples_per_second": self.samples / seconds, "share_of_peak": self.done / seconds / self.peak}


def _training_flops(model: nn.Module, one: Batch, device: torch.device) -> int:
    """Count the operations of one sample: matrix products forward, and twice that backward."""
    assert isinstance(model, Trainable)
    states = random_states(device)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.training_step(one)
    restore_random_states(states, device)  # counting must not change what the run draws
    return 3 * counter.get_total_flops()
