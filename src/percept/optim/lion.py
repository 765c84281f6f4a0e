"""Lion (Chen et al. 2023, arXiv:2302.06675): the sign of a mixture of gradient and momentum."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from percept.optim import lists


class Lion(lists.ListOptimizer):
    """Every element moves by the learning rate, up or down; the state is one tensor per parameter.

    With gradient g and momentum m (algorithm 2; decay is decoupled and comes first, as in the reference):

        p <- (1 - lr decay) p
        p <- p - lr sign(b1 m + (1 - b1) g)
        m <- b2 m + (1 - b2) g

    The authors use learning rates 3 to 10 times smaller than those of AdamW, with a weight decay larger by the same factor. Where the mixture is
    exactly 0 an element only decays. Tensors sharded by FSDP2 need no communication.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-4,
        *,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    def step_list(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        """Step parameters of one group, device and type."""
        (mixing, keeping), rate = group["betas"], group["lr"]
        for parameter in parameters:
            if "momentum" not in self.state[parameter]:
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)
        values, gradients = lists.local(parameters), lists.local([parameter.grad for parameter in parameters])
        momenta = lists.local([self.state[parameter]["momentum"] for parameter in parameters])
        if group["weight_decay"]:
            lists.mul_(values, 1 - rate * group["weight_decay"])
        steps = lists.lerp(momenta, gradients, 1 - mixing)
        lists.sign_(steps)
        lists.add_(values, steps, alpha=-rate)
        lists.lerp_(momenta, gradients, 1 - keeping)
