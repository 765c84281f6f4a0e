"""Checkpoints: everything a resume needs in one file, written whole or not at all.

No random state is among it: batches and random numbers of a step follow from the seed and the step's number.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from percept.core.errors import PerceptError
from percept.core.io import load_metadata, load_tensors, save_tensors
from percept.optim.master import MasterWeights

CHECKPOINT = "checkpoint.safetensors"


@dataclass(kw_only=True)
class Progress:
    """Where a run stands."""

    step: int = 0
    samples: int = 0
    seconds: float = 0.0
    """Spent training, over all sittings."""
    skipped: int = 0
    """Steps left out because their loss or gradient was not finite."""
    changes: list[dict[str, Any]] = field(default_factory=list)
    """Where the configuration was changed on the way: {"step": last step of the one before, "before": its changed parts}."""


def save_checkpoint(
    folder: Path, model: nn.Module, optimiser: MasterWeights, progress: Progress, config: dict[str, Any]
) -> None:
    """Write masters, moments and the model's buffers; progress and configuration are texts in the same file."""
    texts = {"progress": json.dumps(asdict(progress)), "config": json.dumps(config)}
    save_tensors(folder / CHECKPOINT, optimiser.tensors() | _buffers(model), texts)


def _buffers(model: nn.Module) -> dict[str, Tensor]:
    """Return what a model keeps beside its parameters: running means, queues, a teacher's centre."""
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    return {f"buffer.{name}": value for name, value in model.state_dict().items() if name not in parameters}


def load_checkpoint(
    folder: Path, model: nn.Module, optimiser: MasterWeights, config: dict[str, Any], *, replan: bool = False
) -> Progress | None:
    """Take up a run where it stopped; None in a folder without a checkpoint.

    Args:
        replan: go on with another configuration; the change is noted in the progress, and so in the finished model.

    Raises:
        PerceptError: the folder holds a run of another configuration, or the file is broken.
    """
    path = folder / CHECKPOINT
    if not path.is_file():
        return None
    texts = load_metadata(path)
    if not {"progress", "config"} <= texts.keys():
        raise PerceptError(f"{path} is not a checkpoint of this version of percept; give another folder, or delete it")
    stored = json.loads(texts["config"])
    progress = Progress(**json.loads(texts["progress"]))
    if changed := sorted(key for key in config.keys() | stored.keys() if stored.get(key) != config.get(key)):
        if not replan:
            names = ", ".join(changed)
            raise PerceptError(
                f"{folder} holds a run with another {names}; give another folder, delete it, or go on from its step "
                f"{progress.step} with the new one: --replan"
            )
        progress.changes.append({"step": progress.step, "before": {key: stored.get(key) for key in changed}})
    stored_tensors = load_tensors(path)
    optimiser.restore(stored_tensors)
    with torch.no_grad():
        for name, value in _buffers(model).items():
            value.copy_(stored_tensors[name])
    return progress
