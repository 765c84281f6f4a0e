"""A tiny encoder and sets of noise, on which the benchmarks of adaptation run in seconds."""

from collections.abc import Sequence

import numpy as np
import torch

from percept.data.transforms import Preprocess
from percept.infer.encoder import Encoder
from percept.methods.adaptation.contract import tiny_base
from percept.methods.adaptation.few import LabelledSet


def tiny_encoder(seed: int = 0) -> Encoder:
    """Return an encoder of a few thousand random parameters for images of 16 pixels."""
    torch.manual_seed(seed)
    base = tiny_base()
    return Encoder(base.clip, preprocess=Preprocess(size=16), tokenizer=base.tokenizer, name=f"tiny {seed}")


def noise(
    name: str, classes: Sequence[str], seed: int, *, pool: int = 16, test: int = 4, read: list[int] | None = None
) -> LabelledSet:
    """Return images of noise, `pool` of each class to train on and `test` to test on; rows that are read are added to `read`."""
    each = pool + test
    pixels = np.random.default_rng(seed).integers(0, 255, (len(classes) * each, 16, 16, 3), dtype=np.uint8)
    labels, inside = np.repeat(np.arange(len(classes)), each), np.tile(np.arange(each), len(classes)) < pool
    rows: list[int] = [] if read is None else read

    def image(row: int) -> np.ndarray:
        rows.append(row)
        return pixels[row]

    return LabelledSet(
        name=name, classes=tuple(classes), image=image, labels=labels, keys=tuple(f"{name}/{row}" for row in range(len(pixels))),
        pool=np.flatnonzero(inside), test=np.flatnonzero(~inside), looks=np.arange(len(pixels)),
    )  # fmt: skip
