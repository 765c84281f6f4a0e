"""Losses and gradients of open_clip, computed by benchmarks/oracle_losses.py with one process and with two."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

FILE = Path(__file__).parents[1] / "golden" / "losses.npz"
SCALES = (1.0, 14.3, 100.0)
BIAS = -10.0


def inputs() -> tuple[Tensor, Tensor]:
    """Return unit vectors of images and of texts."""
    with np.load(FILE) as stored:
        return torch.from_numpy(stored["image"]), torch.from_numpy(stored["text"])


def reference(form: str, scale: float, world_size: int, rank: int) -> dict[str, Tensor]:
    """Return loss and gradients by name."""
    start = f"{'siglip' if form == 'sigmoid' else 'clip'} {scale} {world_size} {rank} "
    with np.load(FILE) as stored:
        return {key.removeprefix(start): torch.from_numpy(stored[key]) for key in stored.files if key.startswith(start)}


def check(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Compare the loss to 1e-6, and gradients to 1e-5: a logit of 100 is rounded by 4e-6, which its exponential shows.

    Both are relative to the largest value if that is above 1.
    """
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        bound = (1e-6 if name == "loss" else 1e-5) * max(1.0, float(value.abs().max()))
        assert float((found[name] - value).abs().max()) <= bound, name
