"""A task on one device or several: number types, replicas, and FSDP2 shards."""

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from percept.core.errors import PerceptError
from percept.core.machine import compiler, fast_dtype, pick_device
from percept.fast import adopt
from percept.fast.compile import compiled_call
from percept.fast.sharded import begin_sharded
from percept.nn.stack import call_block
from percept.optim.rules import is_frozen, train_mode


def local_device(name: str) -> torch.device:
    """Return the device of this process: with `torchrun` and "cuda", the GPU of its local rank."""
    device = pick_device(name)
    if device.type == "cuda" and device.index is None and "LOCAL_RANK" in os.environ:
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    return device


def training_dtype(name: str, device: torch.device, task: nn.Module) -> tuple[torch.dtype, str]:
    """Return the type in which a task trains, and why.

    Frozen weights are not rounded, so with "auto" the others take their type.

    Raises:
        PerceptError: frozen weights have a different type.
    """
    frozen = {parameter.dtype for parameter in task.parameters() if parameter.dim() and is_frozen(parameter)}
    if name == "auto":
        return (frozen.pop(), "the type of the frozen weights") if len(frozen) == 1 else fast_dtype(device)
    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]
    if frozen - {dtype}:
        other = ", ".join(sorted(str(each).removeprefix("torch.") for each in frozen - {dtype}))
        raise PerceptError(
            f"dtype={name} does not fit frozen weights in {other}, which are not rounded. "
            f"Open the frozen model in {name}, or leave dtype at auto."
        )
    return dtype, "as requested"


def placed(task: nn.Module, device: torch.device, dtype: torch.dtype, *, shard: bool) -> nn.Module:
    """Move a task to its device in training mode.

    Its layers take their faster forms, see `percept.fast.adopt`. Trained weights are converted to `dtype`, except scalars
    such as the contrastive scale. With `shard` they stay in float32, divided among the processes, and computation converts
    them.
    """
    task.to(device)
    train_mode(task)
    adopt(task, pack=False)
    if shard:
        return _sharded(task, device, dtype)
    for parameter in task.parameters():
        if parameter.dim() > 0 and parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)
    return task


def _sharded(task: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Shard the members of every module list, and what remains with the whole task. Scalars are not sharded."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    from percept.core import dist

    options: dict[str, Any] = {
        "mesh": init_device_mesh(device.type, (dist.world_size(),)),
        "ignored_params": {parameter for parameter in task.parameters() if parameter.dim() == 0},
    }
    if dtype != torch.float32:
        options["mp_policy"] = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)
    for module in list(task.modules()):
        for block in module if isinstance(module, nn.ModuleList) else ():
            fully_shard(block, **options)
    fully_shard(task, **options)
    return task


def checkpoint_blocks(task: nn.Module) -> None:
    """Let every stack of blocks recompute its activations in the backward pass.

    Raises:
        PerceptError: the task has none.
    """
    stacks = [module for module in task.modules() if hasattr(module, "checkpointing")]
    if not stacks:
        raise PerceptError("checkpointing=True does not apply: this task has no blocks to recompute. Leave it off.")
    for module in stacks:
        setattr(module, "checkpointing", True)  # noqa: B010 - not every module has it


def compile_blocks(task: nn.Module, device: torch.device, *, shard: bool) -> None:
    """Compile the blocks of every tower and decoder; blocks of equal shapes share what is compiled.

    Raises:
        PerceptError: there is no compiler, nothing to compile, or the task is sharded.
    """
    if shard:
        raise PerceptError("compile=True does not work with shard=True. Turn one of them off.")
    if compiler(device) is None:
        raise PerceptError(
            f"compile=True needs a compiler for {device.type}, such as g++. Install one, or leave it off."
        )
    stacks = [module for module in task.modules() if getattr(module, "call", None) is call_block]
    if not stacks:
        raise PerceptError("compile=True does not apply: this task has no blocks to compile. Leave it off.")
    call = compiled_call()
    for module in stacks:
        setattr(module, "call", call)  # noqa: B010 - not every module has it


@contextmanager
def unsharded(task: nn.Module) -> Iterator[None]:
    """Let parts of a sharded task be called on their own inside the block; every process must call the same ones."""
    sharded = cast(Any, task) if hasattr(task, "unshard") else None
    if sharded is not None:
        begin_sharded(task)
        sharded.unshard()
    try:
        yield
    finally:
        if sharded is not None:
            sharded.reshard()


def without_values(task: nn.Module) -> nn.Module:
    """Return a copy of a task with its buffers, whose parameters take no memory; `gathered` fills them in."""
    memo = {
        id(parameter): nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=parameter.requires_grad)
        for parameter in task.parameters()
    }
    return copy.deepcopy(task, memo)


def gathered(task: nn.Module, whole: nn.Module) -> nn.Module:
    """Return the trained weights of a sharded task in one piece. Every process must call it.

    Args:
        task: sharded.
        whole: `without_values` of the task before it was sharded; it is filled in.
    """
    state = {
        name: cast(Any, value).full_tensor().cpu() if hasattr(value, "full_tensor") else value.cpu()
        for name, value in task.state_dict().items()
    }
    whole.load_state_dict(cast(dict[str, Tensor], state), assign=True)
    return whole
