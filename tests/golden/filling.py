"""How the reference tensors were made: weights and inputs drawn by a counter-based generator from names and seeds.

The public implementation of the Perception Encoder was filled with `weight(key, shape)` for every published key and run in
float32; nothing depends on trained weights.
"""

import json
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

FOLDER = Path(__file__).parent
START, END = 49_406, 49_407


def weight(key: str, shape: tuple[int, ...]) -> Tensor:
    drawn = np.random.Generator(np.random.Philox(key=zlib.crc32(key.encode()))).standard_normal(shape, dtype=np.float32)
    if len(shape) == 0:
        return torch.tensor(2.6592)
    if len(shape) == 1:
        return torch.from_numpy(1 + 0.1 * drawn if key.endswith(("weight", "gamma")) else 0.02 * drawn)
    if "embedding" in key or key.endswith("probe"):
        return torch.from_numpy(0.5 * drawn)
    inputs = shape[0] if key.endswith(("proj", "text_projection")) else int(np.prod(shape[1:]))
    return torch.from_numpy(drawn * np.float32(inputs**-0.5))


def manifest(name: str) -> dict[str, tuple[int, ...]]:
    shapes = json.loads((FOLDER / "manifests" / f"{name}.json").read_text())
    return {key: tuple(shape) for key, shape in shapes.items()}


def checkpoint(name: str) -> dict[str, Tensor]:
    return {key: weight(key, shape) for key, shape in manifest(name).items()}


def image(seed: int, *shape: int) -> Tensor:
    drawn = np.random.Generator(np.random.Philox(key=seed)).uniform(-1, 1, shape)
    return torch.from_numpy(drawn.astype(np.float32))


def tokens(seed: int, batch: int, context: int) -> Tensor:
    generator = np.random.Generator(np.random.Philox(key=seed))
    ids = np.zeros((batch, context), np.int64)
    for row in ids:
        end = int(generator.integers(3, context - 1))
        row[0] = START
        row[1:end] = generator.integers(1, START - 1, end - 1)
        row[end] = END
    return torch.from_numpy(ids)


def reference(key: str) -> Tensor:
    with np.load(FOLDER / "pe_outputs.npz") as stored:
        return torch.from_numpy(stored[key])
