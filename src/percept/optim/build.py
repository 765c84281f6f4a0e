"""Optimisers by name. For any other optimiser pass a function from parameter groups to optimisers."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch

from percept.core.errors import PerceptError, unknown_name
from percept.optim.lamb import Lamb
from percept.optim.lion import Lion
from percept.optim.muon import Muon

BETAS: Mapping[str, tuple[float, float] | None] = {
    "adamw": (0.9, 0.95), "lamb": (0.9, 0.95), "lion": (0.9, 0.99), "adafactor": None, "muon": (0.9, 0.95),
}  # fmt: skip
"""Default decay rates of every optimiser; None if it takes none. Those of LAMB are those of the Perception Encoder."""
OPTIMISERS = tuple(BETAS)
Build: TypeAlias = Callable[[list[dict[str, Any]]], Sequence[torch.optim.Optimizer]]
"""Function from the groups of `percept.optim.rules.parameter_groups` to one or more optimisers."""


def check_optimiser(name: str, betas: tuple[float, float] | None, *, shard: bool = False) -> None:
    """Raise a PerceptError if an optimiser is unknown, or does not take `betas` or sharded parameters."""
    if name not in OPTIMISERS:
        raise unknown_name("optimiser", name, OPTIMISERS)
    if shard and name == "adafactor":
        raise PerceptError(
            "adafactor cannot step parameters that are sharded. Choose a different optimiser, or do not shard."
        )
    if betas is not None and BETAS[name] is None:
        raise PerceptError(f"betas={betas}, but {name} has none. Leave betas out.")
    if betas is not None and not all(0 <= beta < 1 for beta in betas):
        raise PerceptError(f"betas={betas}; each must be at least 0 and below 1")


def build_optimisers(
    groups: Sequence[dict[str, Any]], name: str, *, betas: tuple[float, float] | None = None
) -> list[torch.optim.Optimizer]:
    """Return the named optimiser for all groups; with "muon", Muon for the groups marked `inner` and AdamW for the others.

    Muon makes the steps of a matrix orthogonal (Jordan et al. 2024); scaled by 0.2 sqrt(longer side), they are as large
    as those of AdamW, so both take one learning rate (Liu et al. 2025, arXiv:2502.16982, section 2.2).

    Args:
        groups: of `percept.optim.rules.parameter_groups`.
        name: adamw, lamb, lion, adafactor or muon.
        betas: decay rates of the optimiser's running means; of AdamW's with muon. None for those of `BETAS`.

    Raises:
        PerceptError: unknown name, or betas that the optimiser does not take.
    """
    check_optimiser(name, betas)
    used: Any = betas or BETAS[name]
    if name == "lamb":
        return [Lamb(groups, betas=used)]
    if name == "lion":
        return [Lion(groups, betas=used)]
    if name == "adafactor":
        return [torch.optim.Adafactor(groups)]
    orthogonal = [group for group in groups if name == "muon" and group["inner"]]
    elementwise = [group for group in groups if name != "muon" or not group["inner"]]
    built: list[torch.optim.Optimizer] = []
    if orthogonal:
        built.append(Muon(orthogonal))
    if elementwise:
        built.append(torch.optim.AdamW(elementwise, betas=used))
    return built
