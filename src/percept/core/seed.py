"""Seeds: independent named random streams are derived from one number."""

import hashlib
import random


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and PyTorch."""
    import numpy as np  # here, so that processes which only derive seeds start fast
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - libraries outside percept read the global state
    torch.manual_seed(seed)


def derive(seed: int, *names: str | int) -> int:
    """Derive a 63-bit seed for a named stream; the same names give the same seed on every machine.

    >>> derive(0, "train", 7) == derive(0, "train", 7) != derive(0, "train", 8)
    True
    """
    text = "/".join(str(name) for name in (seed, *names))
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big") >> 1
