"""LAMB (You et al. 2020, arXiv:1904.00962): steps of Adam, scaled per tensor by the norm of its weights."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from percept.optim import lists


class Lamb(lists.ListOptimizer):
    """Each tensor moves by the learning rate times its own norm, so that the relative change of all layers is equal.

    With gradient g, in step t (algorithm 2, with phi(z) = z):

        m <- b1 m + (1 - b1) g             v <- b2 v + (1 - b2) g^2
        u = m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps) + decay p
        p <- p - lr r u,    r = |p| / |u|, or 1 if either norm is 0

    Decay is a part of u, so it is not decoupled as that of AdamW. Norms are those of whole tensors, also if FSDP2 has sharded them. In a group
    with `trust` False r is 1: `percept.optim.rules.parameter_groups` sets it for vectors, scalars, embedding tables and what a module
    declares in `no_decay`, because a small norm, such as that of zero biases or of the contrastive scale, is not the size of
    the steps that they need. The paper scales all tensors.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        trust: bool = True,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "trust": trust})

    def step_list(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        """Step parameters of one group, device and type."""
        values, steps = lists.local(parameters), self._adam_steps(group, parameters)
        if group["weight_decay"]:
            lists.add_(steps, values, alpha=group["weight_decay"])
        if group["trust"]:
            of_values, of_steps = lists.norms(values, parameters[0]), lists.norms(steps, parameters[0])
            ratios = torch.where((of_values > 0) & (of_steps > 0), of_values / of_steps, 1.0)
            lists.mul_(steps, list(ratios.unbind()))
        lists.add_(values, steps, alpha=-group["lr"])

    def _adam_steps(self, group: dict[str, Any], parameters: list[Tensor]) -> list[Tensor]:
        """Update the moments and return the directions of Adam, without decay, for the shards of this process."""
        states = [self._state(parameter) for parameter in parameters]
        gradients = lists.local([parameter.grad for parameter in parameters])
        means, squares = (lists.local([state[key] for state in states]) for key in ("mean", "square"))
        first, second = group["betas"]
        lists.lerp_(means, gradients, 1 - first)
        lists.mul_(squares, second)
        lists.addcmul_(squares, gradients, gradients, 1 - second)
        roots = lists.sqrt(squares)
        lists.div_(roots, [math.sqrt(1 - second ** state["step"]) for state in states])
        lists.add_(roots, group["eps"])
        steps = lists.div(means, [1 - first ** state["step"] for state in states])
        lists.div_(steps, roots)
        return list(steps)

    def _state(self, parameter: Tensor) -> dict[str, Any]:
        """Return the state of a parameter, with its number of steps counted up."""
        state = self.state[parameter]
        if not state:
            state |= {"step": 0, "mean": torch.zeros_like(parameter), "square": torch.zeros_like(parameter)}
        state["step"] += 1
        return state
