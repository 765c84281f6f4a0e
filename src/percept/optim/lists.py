"""What optimisers that step all tensors of a group at once share: shards, and norms of whole tensors.

The operations on lists are those that PyTorch documents as "Foreach Operations": one kernel for many tensors on a GPU. The optimisers of
PyTorch use them too. Tensors sharded by FSDP2 are stepped shard by shard; only the norms need the other processes.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

torch_lists: Any = torch  # documented, but the type stubs do not export names that begin with an underscore
add_, mul_, div_, addcmul_ = (
    torch_lists._foreach_add_,
    torch_lists._foreach_mul_,
    torch_lists._foreach_div_,
    torch_lists._foreach_addcmul_,
)
div, sqrt, sign_ = torch_lists._foreach_div, torch_lists._foreach_sqrt, torch_lists._foreach_sign_
lerp, lerp_ = torch_lists._foreach_lerp, torch_lists._foreach_lerp_


class ListOptimizer(torch.optim.Optimizer):
    """An optimiser that steps lists of parameters."""

    def step_list(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        """Step parameters of one group, device and type."""
        raise NotImplementedError

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group, parameters in with_gradients(self.param_groups):
            self.step_list(group, parameters)
        return loss


def with_gradients(groups: Sequence[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], list[Tensor]]]:
    """Yield every group with those of its parameters that have gradients, by device, type and kind.

    On a CPU a tensor comes alone unless it is sharded: it stays in the caches from one operation to the next, which makes a step of nano's
    towers more than twice as fast (Lion 7.6 instead of 19.6 ms, LAMB 22 instead of 49 ms, on one thread).
    """
    for group in groups:
        alike: dict[tuple[Any, ...], list[Tensor]] = {}
        for parameter in group["params"]:
            if parameter.grad is not None:
                mesh = getattr(parameter, "device_mesh", None)
                placements = getattr(parameter, "placements", None)
                alone = id(parameter) if mesh is None and parameter.device.type == "cpu" else None
                alike.setdefault((parameter.device, parameter.dtype, mesh, placements, alone), []).append(parameter)
        for parameters in alike.values():
            yield group, parameters


def local(tensors: Sequence[Tensor | None]) -> list[Tensor]:
    """Return the shards of this process, which share the memory of sharded tensors; other tensors unchanged."""
    return [cast(Any, tensor).to_local() if hasattr(tensor, "to_local") else cast(Tensor, tensor) for tensor in tensors]


def norms(tensors: list[Tensor], like: Tensor) -> Float[Tensor, " k"]:
    """Return the norms of whole tensors, in one collective call if they are sharded.

    Args:
        tensors: of this process, see `local`.
        like: a parameter that is sharded as all of them are.
    """
    found = torch.stack(list(torch_lists._foreach_norm(tensors)))
    if not hasattr(like, "device_mesh"):
        return found
    from torch.distributed.tensor import DTensor, Partial, Replicate

    mesh, placements = cast(Any, like).device_mesh, cast(Any, like).placements
    parts = [Partial() if placement.is_shard() else Replicate() for placement in placements]
    return cast(Any, DTensor.from_local(found.square(), mesh, parts)).full_tensor().sqrt()
