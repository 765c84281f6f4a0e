"""Where and how an encoder computes."""

from dataclasses import dataclass

import torch
from torch import nn

from percept import fast
from percept.core.errors import PerceptError
from percept.core.machine import total_memory
from percept.models.clip import CLIP

PACKED_SHARE = 1 / 8
"""On a CPU the weights of the image tower are kept a second time, in the order its products want, if they take at most this
share of the memory."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Where and how a model computes."""

    device: torch.device
    dtype: torch.dtype
    reason: str = ""
    """Why this number type."""
    batch: int = 32
    """Images per pass."""
    backend: str = "torch"
    """What computes: torch, or onnxruntime and its number type."""
    compile: bool = False
    """The blocks go through `torch.compile`; see `percept.load`."""

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise PerceptError(f"batch must be at least 1, got {self.batch}")

    def __str__(self) -> str:
        kind = str(self.dtype).removeprefix("torch.") if self.backend == "torch" else self.backend
        return f"{self.device}, {kind}{', compiled' if self.compile else ''}"


def packs(module: nn.Module, setting: Setting) -> bool:
    """True if the weights of a frozen module are to be kept a second time in the order that the products of a CPU want."""
    return setting.device.type == "cpu" and fast.packed_bytes(module) <= PACKED_SHARE * total_memory()


def prepare_towers(model: CLIP, setting: Setting) -> None:
    """Give the frozen towers of a model their inference forms, in place."""
    fast.adopt(model, pack=False)
    vision = model.get_submodule("vision")
    if setting.compile:
        for name in ("vision", "text") if model.text is not None else ("vision",):
            model.get_submodule(name).compile()
    elif packs(vision, setting):
        fast.adopt(vision, pack=True)
