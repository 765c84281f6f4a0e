"""Checkpoints: everything a resume needs, written whole or not at all."""

from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from percept.core.errors import PerceptError
from percept.core.io import load_tensors, read_json, save_tensors, write_json
from percept.optim.master import MasterWeights


@dataclass(kw_only=True)
class Progress:
    """Where a run stands."""

    step: int = 0
    samples: int = 0
    seconds: float = 0.0
    """Spent training, over all sittings."""
    skipped: int = 0
    """Steps left out because their loss or gradient was not finite."""


def save_checkpoint(folder: Path, optimiser: MasterWeights, progress: Progress, config: dict) -> None:
    """Write `checkpoint.safetensors` and then `checkpoint.json`, which names it as complete."""
    tensors = optimiser.tensors() | {"random": torch.get_rng_state()}
    save_tensors(folder / "checkpoint.safetensors", tensors, {"step": str(progress.step)})
    write_json(folder / "checkpoint.json", {"progress": asdict(progress), "config": config})


def load_checkpoint(folder: Path, optimiser: MasterWeights, config: dict) -> Progress:
    """Take up a run where it stopped; a folder without checkpoint starts at step 0.

    Raises:
        PerceptError: the folder holds a run of another configuration.
    """
    if not (folder / "checkpoint.json").is_file():
        return Progress()
    stored = read_json(folder / "checkpoint.json")
    if stored["config"] != config:
        changed = [key for key in config if stored["config"].get(key) != config[key]]
        raise PerceptError(f"{folder} holds a run with another {', '.join(changed)}; give another folder, or delete it")
    tensors = load_tensors(folder / "checkpoint.safetensors")
    torch.set_rng_state(tensors.pop("random"))
    optimiser.restore(tensors)
    return Progress(**stored["progress"])
