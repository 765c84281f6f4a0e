"""Communication between the processes of one run. A run of a single process passes values through unchanged."""

import atexit
import gc
import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, distributed

from percept.core.errors import PerceptError

T = TypeVar("T")
TIMEOUT = timedelta(hours=2)
"""How long a process waits for the others: rank 0 may be preparing data."""
BUCKET = 2**24
"""Elements that are averaged in one collective call."""


def active() -> bool:
    """True if this process belongs to a process group."""
    return distributed.is_available() and distributed.is_initialized()


def rank() -> int:
    """Return the number of this process: 0 without a process group."""
    return distributed.get_rank() if active() else 0


def world_size() -> int:
    """Return the number of processes: 1 without a process group."""
    return distributed.get_world_size() if active() else 1


def launched_rank() -> int:
    """Return the rank that `torchrun` gave this process, even before it has joined a group; else 0."""
    return rank() if active() else int(os.environ.get("RANK", "0"))


def join(device: torch.device, *, required: bool = False) -> None:
    """Join the processes that `torchrun` started, until this process ends. Do nothing if already joined.

    Args:
        device: the device of the tensors: NCCL on cuda, gloo elsewhere.
        required: form a group of one process without `torchrun`, because sharding needs a group.
    """
    launched = "RANK" in os.environ and "WORLD_SIZE" in os.environ
    if active() or not (launched or required):
        return
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    if launched:
        distributed.init_process_group(backend, timeout=TIMEOUT)
    else:
        store = distributed.HashStore()  # type: ignore[attr-defined]
        distributed.init_process_group(backend, store=store, rank=0, world_size=1)
    atexit.register(_leave)


def _leave() -> None:
    """Leave the process group.

    Sharded modules are in reference cycles and hold the group; if they outlive it, gloo sometimes aborts the process.
    """
    gc.collect()
    distributed.destroy_process_group()


def any_true(*flags: bool) -> list[bool]:
    """Return for each flag whether any process has set it."""
    if world_size() == 1:
        return list(flags)
    values = torch.tensor(flags, dtype=torch.int32)
    distributed.all_reduce(values, distributed.ReduceOp.MAX)
    return [bool(value) for value in values.tolist()]


def on_first(work: Callable[[], T]) -> T:
    """Run `work` on rank 0 only and return its result in every process.

    Raises:
        PerceptError: in every process, if `work` raised it or an OSError on rank 0.
    """
    if world_size() == 1:
        return work()
    outcome: list[Any] = [None, None]
    if rank() == 0:
        try:
            outcome[0] = work()
        except (PerceptError, OSError) as error:
            outcome[1] = error
    distributed.broadcast_object_list(outcome, src=0)
    if outcome[1] is not None:
        raise outcome[1]
    return cast(T, outcome[0])


@torch.no_grad()
def mean(values: Tensor) -> Tensor:
    """Return the elementwise mean over all processes."""
    if world_size() == 1:
        return values
    total = values.clone()
    distributed.all_reduce(total)
    return total / world_size()


@torch.no_grad()
def average_(tensors: Sequence[Tensor]) -> None:
    """Replace tensors of one type by their means over all processes, in few collective calls."""
    if world_size() == 1:
        return
    bucket: list[Tensor] = []
    for index, tensor in enumerate(tensors):
        bucket.append(tensor)
        if sum(member.numel() for member in bucket) >= BUCKET or index + 1 == len(tensors):
            flat = mean(torch.cat([member.reshape(-1) for member in bucket]))
            for member, part in zip(bucket, flat.split([member.numel() for member in bucket]), strict=True):
                member.copy_(part.view_as(member))
            bucket = []


def gather(rows: Tensor) -> Tensor:
    """Return the rows of all processes in the order of their ranks; every process must pass the same shape.

    Differentiable: the gradient of a row is the sum of its gradients in all processes. Hence, if each process computes
    its share of a loss that is a mean over processes, averaged parameter gradients are those of the whole loss.
    """
    if world_size() == 1:
        return rows
    if rows.dtype == torch.bool:
        return gather(rows.to(torch.uint8)) != 0
    return cast(Tensor, _Gather.apply(rows))


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(world_size())]
        distributed.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total.chunk(world_size())[rank()]
