"""Speed and share of the machine's peak, in figures that mean the same on any machine."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils.flop_counter import FlopCounterMode

from percept.core.machine import matmul_peak
from percept.data.batch import Batch
from percept.fast.attention import attention_operations


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
            with FlopCounterMode(display=False, custom_mapping=attention_operations()) as counter:
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
