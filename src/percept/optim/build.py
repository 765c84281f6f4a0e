"""Optimisers by name. For any other optimiser pass a function from parameter groups to optimisers."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch

from percept.core.errors import unknown_name
from percept.optim.muon import Muon

OPTIMISERS = ("adamw", "muon")
Build: TypeAlias = Callable[[list[dict[str, Any]]], Sequence[torch.optim.Optimizer]]
"""Function from the groups of `percept.optim.rules.parameter_groups` to one or more optimisers."""


def build_optimisers(
    groups: Sequence[dict[str, Any]], name: str, *, betas: tuple[float, float]
) -> list[torch.optim.Optimizer]:
    """Return AdamW for all groups; with "muon", Muon for the groups marked `inner` and AdamW for the others.

    Muon makes the steps of a matrix orthogonal (Jordan et al. 2024); scaled by 0.2 sqrt(longer side), they are as large
    as those of AdamW, so both take one learning rate (Liu et al. 2025, arXiv:2502.16982, section 2.2).

    Raises:
        PerceptError: unknown name.
    """
    if name not in OPTIMISERS:
        raise unknown_name("optimiser", name, OPTIMISERS)
    orthogonal = [group for group in groups if name == "muon" and group["inner"]]
    elementwise = [group for group in groups if name != "muon" or not group["inner"]]
    built: list[torch.optim.Optimizer] = []
    if orthogonal:
        built.append(Muon(orthogonal))
    if elementwise:
        built.append(torch.optim.AdamW(elementwise, betas=betas))
    return built
