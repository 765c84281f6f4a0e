"""Optimisation of a model in bfloat16 with parameters and moments in float32, the same in every process of a run."""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from percept.core import dist
from percept.optim.build import Build

NUMBER = "number."
"""Prefix of state entries that are Python numbers."""
FOLLOWS = ("params", "names", "lr", "trust")
"""Entries of a group that are not settings of an optimiser; `trust` follows from the model."""


class MasterWeights:
    """Wrap optimisers: gradients are converted to float32, the step is taken in float32, and the result is rounded back.

    Without it, steps smaller than 1/256 of a weight would be lost in bfloat16. A float32 parameter is its own master.
    With several processes gradients are averaged over them, as in distributed data parallel training; the gradients of
    sharded parameters (FSDP2) are averaged already.
    """

    def __init__(self, groups: list[dict[str, Any]], build: Build) -> None:
        """Take groups with `params` and their `names`; `build` gets the same groups with masters in place of parameters.

        The learning rates that the optimisers have then are the bases that `step` multiplies.
        """
        self.pairs: dict[str, tuple[Tensor, Tensor]] = {}
        wide = []
        for group in groups:
            masters = [_master(parameter) for parameter in group["params"]]
            self.pairs.update(zip(group["names"], zip(group["params"], masters, strict=True), strict=True))
            wide.append({**group, "params": masters})
        self.optimisers = list(build(wide))
        self._bases = {id(group): float(group["lr"]) for each in self.optimisers for group in each.param_groups}
        self._owners = {
            id(master): (optimiser, group)
            for optimiser in self.optimisers
            for group in optimiser.param_groups
            for master in group["params"]
        }
        unowned = [name for name, (_, master) in self.pairs.items() if id(master) not in self._owners]
        assert not unowned, f"no optimiser takes {unowned[:3]}"

    @torch.no_grad()
    def collect(self) -> Tensor:
        """Take the gradients from the model, average them over all processes and return their norm."""
        for parameter, master in self.pairs.values():
            if parameter is not master and parameter.grad is not None:
                master.grad = parameter.grad.float()
                parameter.grad = None
        self._average()
        gradients = [master.grad for _, master in self.pairs.values() if master.grad is not None]
        whole = [gradient for gradient in gradients if not _is_sharded(gradient)]
        parts = [gradient for gradient in gradients if _is_sharded(gradient)]
        if not parts:
            return get_total_norm(whole)
        sharded = cast(Any, get_total_norm(parts)).full_tensor()
        return torch.stack([sharded, get_total_norm(whole).to(sharded)]).norm() if whole else sharded

    def _average(self) -> None:
        """Average the gradients of parameters that every process holds; a missing gradient counts as 0 if any process has one."""
        if dist.world_size() == 1:
            return
        masters = [master for _, master in self.pairs.values() if not _is_sharded(master)]
        present = dist.any_true(*(master.grad is not None for master in masters))
        for master, needed in zip(masters, present, strict=True):
            if needed and master.grad is None:
                master.grad = torch.zeros_like(master)
        dist.average_([master.grad for master in masters if master.grad is not None])

    @torch.no_grad()
    def step(self, factor: float, *, norm: Tensor, clip: float) -> None:
        """Clip gradients of the given norm to at most `clip`, then step with `factor` times each group's learning rate."""
        clip_grads_with_norm_([master for _, master in self.pairs.values()], clip, norm)
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = self._bases[id(group)] * factor
            optimiser.step()
        self.clear()
        self.write()

    def clear(self) -> None:
        """Drop the gradients."""
        for parameter, master in self.pairs.values():
            parameter.grad = master.grad = None

    @torch.no_grad()
    def write(self) -> None:
        """Round the masters into the model."""
        for parameter, master in self.pairs.values():
            if parameter is not master:
                parameter.copy_(master)

    def tensors(self) -> dict[str, Tensor]:
        """Return masters as "master.NAME" and the optimisers' state as "state.NAME KEY", for a checkpoint."""
        stored = {f"master.{name}": master.detach() for name, (_, master) in self.pairs.items()}
        for name, (_, master) in self.pairs.items():
            optimiser, *_ = self._owners[id(master)]
            for key, value in optimiser.state.get(master, {}).items():
                if isinstance(value, Tensor):
                    stored[f"state.{name} {key}"] = value
                elif isinstance(value, int | float):
                    stored[f"state.{name} {NUMBER}{key}"] = torch.tensor(value, dtype=torch.float64)
        return stored

    def description(self) -> dict[str, dict[str, Any]]:
        """Return the optimiser class and settings of every trainable parameter by name, as plain data."""
        described = {}
        for name, (_, master) in self.pairs.items():
            optimiser, group = self._owners[id(master)]
            settings = {key: _plain(value) for key, value in group.items() if key not in FOLLOWS}
            described[name] = {"class": type(optimiser).__name__, "lr": self._bases[id(group)], **settings}
        return described

    @torch.no_grad()
    def restore(self, values: Mapping[str, Tensor], stored: Mapping[str, Tensor], *, skip: frozenset[str]) -> None:
        """Set masters and optimiser state, and write the model's weights.

        Args:
            values: the value of every parameter by name.
            stored: what `tensors` returned.
            skip: parameters whose state starts anew.
        """
        states: dict[str, dict[str, Any]] = {}
        for key, value in stored.items():
            if key.startswith("state."):
                name, entry = key.removeprefix("state.").split(" ", 1)
                states.setdefault(name, {})[entry] = value
        for name, (_, master) in self.pairs.items():
            master.copy_(values[name])
            optimiser, *_ = self._owners[id(master)]
            if name in states and name not in skip:
                optimiser.state[master] = dict(_entry(*item, master) for item in states[name].items())
        self.write()


def _master(parameter: Tensor) -> Tensor:
    return parameter if parameter.dtype == torch.float32 else parameter.detach().float().requires_grad_()


def _is_sharded(tensor: Tensor) -> bool:
    return hasattr(tensor, "full_tensor")


def _plain(value: Any) -> Any:
    """Return a setting as it is after a round trip through json."""
    if isinstance(value, tuple | list):
        return [_plain(element) for element in value]
    return value if isinstance(value, str | int | float | bool | None) else repr(value)


def _entry(key: str, value: Tensor, master: Tensor) -> tuple[str, Any]:
    """Return a state entry; PyTorch counts steps on the CPU, wherever the moments are."""
    if key.startswith(NUMBER):
        number = float(value)
        return key.removeprefix(NUMBER), int(number) if number.is_integer() else number
    return key, value.cpu().clone() if key == "step" else value.to(master.device)
