"""Seeds: one number starts everything, and named streams are derived from it without overlap."""

import hashlib
import random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and PyTorch."""
    import numpy as np  # here, so that processes which only derive seeds start fast
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - libraries outside percept read the global state
    torch.manual_seed(seed)


def random_states(device: "torch.device") -> "dict[str, torch.Tensor]":
    """Return the states of PyTorch's generators that a computation on `device` draws from."""
    return {f"random.{kind}": module.get_rng_state() for kind, module in _generators(device).items()}


def restore_random_states(states: "dict[str, torch.Tensor]", device: "torch.device") -> None:
    """Put the generators back to where `random_states` found them."""
    for kind, module in _generators(device).items():
        module.set_rng_state(states[f"random.{kind}"])


def _generators(device: "torch.device") -> dict[str, Any]:
    import torch

    return {"cpu": torch} if device.type == "cpu" else {"cpu": torch, device.type: torch.get_device_module(device)}


def derive(seed: int, *names: str | int) -> int:
    """Derive a 63-bit seed for a named stream; the same names give the same seed on every machine.

    >>> derive(0, "train", 7) == derive(0, "train", 7) != derive(0, "train", 8)
    True
    """
    text = "/".join(str(name) for name in (seed, *names))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
