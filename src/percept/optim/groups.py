"""Which parameters decay, and which optimiser takes which."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from percept.core.errors import unknown_name
from percept.optim.muon import Muon

OPTIMISERS = ("adamw", "muon")
NEVER_DECAYED = ("positions", "class_token", "embedding", "probe")
"""Parameters that are tables or single tokens, by the last parts of their names."""
OUTER = ("patch", "projection", "head")
"""Parts of names of parameters that face pixels or answers: they decay, but are no inner matrices of the model.

Names are compared whole: heads of labels that only help training, such as `kind_head`, count as inner ones.
"""


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Split the trainable parameters into matrices, which decay, and vectors, scalars and embeddings, which do not.

    The groups also tell `inner` matrices, those between the first and the last layer, from outer ones.
    """
    inner, outer, kept = [], [], []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        parts = set(name.split("."))
        if parameter.dim() < 2 or parts & set(NEVER_DECAYED):
            kept.append(parameter)
        elif parameter.dim() == 2 and not parts & set(OUTER):
            inner.append(parameter)
        else:
            outer.append(parameter)
    groups = [
        {"params": inner, "weight_decay": weight_decay, "inner": True},
        {"params": outer, "weight_decay": weight_decay, "inner": False},
        {"params": kept, "weight_decay": 0.0, "inner": False},
    ]
    return [group for group in groups if group["params"]]


def build_optimisers(
    groups: Sequence[dict[str, Any]], name: str, *, rate: float, betas: tuple[float, float]
) -> list[torch.optim.Optimizer]:
    """Return AdamW for all groups of `decay_groups`; with "muon", Muon for the inner matrices and AdamW for the rest.

    Muon makes the steps of a matrix orthogonal (Jordan et al. 2024); scaled by 0.2 sqrt(longer side), they are as large
    as those of AdamW, so both take one learning rate (Liu et al. 2025, arXiv:2502.16982, section 2.2).

    Raises:
        PerceptError: no such optimiser.
    """
    if name not in OPTIMISERS:
        raise unknown_name("optimiser", name, OPTIMISERS)
    orthogonal = [group for group in groups if name == "muon" and group["inner"]]
    rest = [group for group in groups if not any(group is one for one in orthogonal)]
    built: list[torch.optim.Optimizer] = []
    if orthogonal:
        built.append(Muon(orthogonal, lr=rate))
    if rest:
        built.append(torch.optim.AdamW(rest, lr=rate, betas=betas))
    return built
