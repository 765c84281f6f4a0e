"""Which parameters decay."""

from typing import Any

from torch import nn

NEVER_DECAYED = ("positions", "class_token", "embedding", "probe")
"""Parameters that are tables or single tokens, by the last parts of their names."""


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Split the trainable parameters into matrices, which decay, and vectors, scalars and embeddings, which do not."""
    decayed, kept = [], []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        table = any(part in NEVER_DECAYED for part in name.split("."))
        (kept if parameter.dim() < 2 or table else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": kept, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
