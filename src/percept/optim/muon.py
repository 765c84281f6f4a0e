"""Muon: momentum with orthogonalised steps; matrices of equal shape are processed together."""

import math
from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic iteration, steepest at 0 (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/)."""
ITERATIONS = 5
SMALLEST = 1e-7
"""Lower bound of the norm that a step is divided by."""


def orthogonal(steps: Float[Tensor, "k m n"]) -> Float[Tensor, "k m n"]:
    """Return approximations of the nearest matrices with orthogonal rows or columns.

    Singular values of the result are within 0.7 to 1.2; those below a hundredth of the norm come out smaller.
    Computed in bfloat16, as published.
    """
    a, b, c = COEFFICIENTS
    tall = steps.shape[-2] > steps.shape[-1]
    x = (steps.mT if tall else steps).bfloat16()
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=SMALLEST)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Muon of Jordan et al. 2024, with Nesterov momentum and decoupled weight decay.

    Steps are scaled by 0.2 sqrt(longer side), which makes them as large as those of AdamW, so that its learning rates
    apply (Liu et al. 2025, arXiv:2502.16982, section 2.2). `torch.optim.Muon` with adjust_lr_fn="match_rms_adamw" takes
    the same steps one matrix at a time, with many more kernel launches on a GPU. Matrices sharded by FSDP2 are gathered
    for the iteration.
    """

    def __init__(
        self, params: Iterable[Any], lr: float = 1e-3, *, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        for group in self.param_groups:
            assert all(parameter.dim() == 2 for parameter in group["params"]), "Muon steps matrices only"

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            shapes: dict[torch.Size, list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    shapes.setdefault(parameter.shape, []).append(parameter)
            for shape, parameters in shapes.items():
                self._step(parameters, group, 0.2 * math.sqrt(max(shape)))
        return loss

    def _step(self, parameters: list[Tensor], group: dict[str, Any], scale: float) -> None:
        """Step matrices of one shape."""
        ahead = []
        for parameter in parameters:
            assert parameter.grad is not None
            state = self.state[parameter]
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(parameter)
            momentum = state["momentum_buffer"].lerp_(parameter.grad, 1 - group["momentum"])
            ahead.append(_whole(parameter.grad.lerp(momentum, group["momentum"])))
        steps = orthogonal(torch.stack(ahead)).to(parameters[0].dtype).unbind()
        for parameter, step in zip(parameters, steps, strict=True):
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            parameter.add_(_like(step, parameter), alpha=-group["lr"] * scale)


def _whole(tensor: Tensor) -> Tensor:
    """Gather a matrix sharded by FSDP2; return other tensors unchanged."""
    return cast(Any, tensor).full_tensor() if hasattr(tensor, "full_tensor") else tensor


def _like(step: Tensor, parameter: Tensor) -> Tensor:
    """Shard a full matrix like the parameter."""
    if not hasattr(parameter, "full_tensor"):
        return step
    from torch.distributed.tensor import DTensor, Replicate

    mesh, placements = cast(Any, parameter).device_mesh, cast(Any, parameter).placements
    return DTensor.from_local(step, mesh, [Replicate()] * mesh.ndim).redistribute(placements=placements)
