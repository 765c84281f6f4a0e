"""An optimiser for a model in bfloat16 that keeps its parameters and moments in float32."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm


class MasterWeights:
    """Wraps an optimiser: gradients go up to float32, the step is taken there, the result is rounded back.

    Without it, steps smaller than 1/256 of a weight would be lost in bfloat16. A float32 parameter is its own master.
    """

    def __init__(
        self, groups: list[dict[str, Any]], build: Callable[[list[dict[str, Any]]], Sequence[torch.optim.Optimizer]]
    ) -> None:
        """Take parameter groups; `build` gets the same groups of masters and divides them among one or several optimisers."""
        self.pairs: list[tuple[Tensor, Tensor]] = []
        wide = []
        for group in groups:
            masters = [self._master(parameter) for parameter in group["params"]]
            self.pairs += list(zip(group["params"], masters, strict=True))
            wide.append({**group, "params": masters})
        self.optimisers = build(wide)

    @staticmethod
    def _master(parameter: Tensor) -> Tensor:
        return parameter if parameter.dtype == torch.float32 else parameter.detach().float().requires_grad_()

    def _of(self, master: Tensor) -> torch.optim.Optimizer:
        """Return the optimiser that steps a master."""
        return next(
            one for one in self.optimisers for group in one.param_groups for other in group["params"] if other is master
        )

    @torch.no_grad()
    def collect(self) -> Tensor:
        """Take the gradients from the model and return their norm; the model's own are cleared."""
        for parameter, master in self.pairs:
            if parameter is not master and parameter.grad is not None:
                master.grad = parameter.grad.float()
                parameter.grad = None
        return get_total_norm([master.grad for _, master in self.pairs if master.grad is not None])

    @torch.no_grad()
    def step(self, rate: float, *, norm: Tensor, clip: float) -> None:
        """Scale gradients of the given norm down to at most `clip`, step at learning rate `rate`, write the model's weights."""
        clip_grads_with_norm_([master for _, master in self.pairs], clip, norm)
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.step()
        self.clear()
        self.write()

    def clear(self) -> None:
        """Forget the gradients."""
        for parameter, master in self.pairs:
            parameter.grad = master.grad = None

    @torch.no_grad()
    def write(self) -> None:
        """Round the masters into the model."""
        for parameter, master in self.pairs:
            if parameter is not master:
                parameter.copy_(master)

    def tensors(self) -> dict[str, Tensor]:
        """Return masters and moments under flat names, for a checkpoint."""
        found = {}
        for index, (_, master) in enumerate(self.pairs):
            found[f"master.{index}"] = master.detach()
            for name, value in self._of(master).state.get(master, {}).items():
                found[f"state.{index}.{name}"] = value
        return found

    @torch.no_grad()
    def restore(self, stored: dict[str, Tensor]) -> None:
        """Take masters and moments back from a checkpoint and write the model's weights."""
        for index, (_, master) in enumerate(self.pairs):
            master.copy_(stored[f"master.{index}"])
            start = f"state.{index}."
            kept = {key.removeprefix(start): value for key, value in stored.items() if key.startswith(start)}
            # PyTorch counts steps on the CPU, wherever the moments are.
            self._of(master).state[master] = {
                name: value if name == "step" else value.to(master.device) for name, value in kept.items()
            }
        self.write()
