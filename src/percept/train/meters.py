"""Speed, cost and memory of training, in figures that mean the same on any machine."""

import copy
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from percept.core.machine import matmul_peak
from percept.data.batch import Batch
from percept.fast.counting import counter


class Meter:
    """Counts samples, floating-point operations and waiting times between two reports, in this process."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.device = device
        self.peak = matmul_peak(device, dtype)
        self.work: dict[tuple[int, ...], float] = {}
        """Operations of training per sample, by the shapes of a batch, as counted last."""
        self.each = 0.0
        """Operations per number in the tensors of the batch that was counted last."""
        self.untaken = 0.0
        self.reset()

    def reset(self) -> None:
        """Start a new interval."""
        self.start, self.samples, self.done, self.waited = time.perf_counter(), 0, 0.0, 0.0

    def train(self, task: nn.Module, batch: Batch, weight: float = 1.0, *, compiled: bool = False) -> dict[str, Tensor]:
        """Run the forward pass and the backward pass of a batch, count their operations, and return what the task returned.

        Operations are those of the model: matrix products of the forward pass, and of the backward pass for what is trained.
        Recomputed activations do not count. They are counted in the first step of an interval, which takes longer.
        Other steps are taken to cost what was counted last for their shapes, or for their amount of data if the shapes are new.

        Args:
            weight: multiplies the loss before the backward pass.
            compiled: the task is compiled. Counting would run it uncompiled, so it is done once for each shape, on a copy.
        """
        shapes = tuple(size for tensor in batch.tensors().values() for size in tensor.shape[1:])
        first = not self.samples
        if compiled and first and shapes not in self.work:
            with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
                self._count(copy.deepcopy(task), batch, shapes, weight)
        if compiled or not first:
            values = task(batch)
            (weight * values["loss"]).backward()
        else:
            values = self._count(task, batch, shapes, weight)
        cost = self.work[shapes] * len(batch) if shapes in self.work else self.each * _amount(batch)
        self.samples += len(batch)
        self.done += cost
        self.untaken += cost
        return values

    def _count(self, task: nn.Module, batch: Batch, shapes: tuple[int, ...], weight: float) -> dict[str, Tensor]:
        values: dict[str, Tensor] = {}
        forward = operations(lambda: values.update(task(batch)))
        backward = operations((weight * values["loss"]).backward)
        cost = forward + min(backward, 2 * forward)
        self.work[shapes], self.each = cost / len(batch), cost / max(1, _amount(batch))
        return values

    def take(self) -> float:
        """Return the operations since the last call."""
        taken, self.untaken = self.untaken, 0.0
        return taken

    @property
    def seconds(self) -> float:
        """Time since the last reset."""
        return time.perf_counter() - self.start

    def rates(self, world_size: int = 1) -> dict[str, float]:
        """Return figures of the time since the last reset; operations and samples over all processes.

        `share_of_peak` compares with the matrix-product peak of this device. `memory` is the peak in bytes since the process
        began: that of tensors on a GPU, that of the process on a CPU.
        """
        seconds = self.seconds
        return {
            "samples_per_second": world_size * self.samples / seconds,
            "operations_per_second": world_size * self.done / seconds,
            "share_of_peak": self.done / seconds / self.peak,
            "memory": peak_memory(self.device),
            "data_wait_seconds": self.waited,
        }


def _amount(batch: Batch) -> int:
    """Return how many numbers the tensors of a batch have."""
    return sum(tensor.numel() for tensor in batch.tensors().values())


def operations(work: Callable[[], object]) -> int:
    """Return the floating-point operations of matrix products and attention in `work`, which is called once."""
    with counter() as counted:
        work()
    return counted.get_total_flops()


def peak_memory(device: torch.device) -> int:
    """Return the largest memory used so far in bytes: of tensors on a CUDA device, of this process elsewhere; 0 if unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
