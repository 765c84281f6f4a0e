"""Muon: momentum whose steps are made orthogonal, matrices of one shape together."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic iteration, steepest at 0 (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/)."""
LISTS: Any = torch
"""Its operators on lists of tensors, which have private names."""
ITERATIONS = 5
SMALLEST = 1e-7
"""Least norm that a step is divided by."""


def orthogonal(steps: Float[Tensor, "k m n"]) -> Float[Tensor, "k m n"]:
    """Return the nearest matrices with orthogonal rows or columns, roughly.

    Singular values come out within 0.7 to 1.2, those below a hundredth of the norm smaller.

    Computed in bfloat16, as it was published.
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
    """Jordan et al. 2024, with Nesterov's momentum and decoupled weight decay.

    Steps are scaled by 0.2 sqrt(longer side): as large as those of AdamW, whose learning rate fits then (Liu et al. 2025,
    arXiv:2502.16982, section 2.2). `torch.optim.Muon` gives the same with adjust_lr_fn="match_rms_adamw", one matrix after
    the other, which is many more launches on a GPU.
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
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        for parameter in parameters:
            if "momentum_buffer" not in self.state[parameter]:
                self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        momenta = [self.state[parameter]["momentum_buffer"] for parameter in parameters]
        LISTS._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        ahead = LISTS._foreach_lerp(gradients, momenta, group["momentum"])
        steps = orthogonal(torch.stack(ahead)).to(parameters[0].dtype).unbind()
        LISTS._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        LISTS._foreach_add_(parameters, steps, alpha=-group["lr"] * scale)
