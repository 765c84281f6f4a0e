"""Models of a few thousand parameters for the tests of this folder and of training."""

from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from percept.models.clip import CLIP
from percept.models.config import ClipConfig, TextConfig, VisionConfig

VISION = VisionConfig(image_size=16, patch_size=4, width=16, layers=3, heads=2, pool_heads=2, output_dim=12)
TEXT = TextConfig(context=10, vocabulary=40, width=16, layers=2, heads=2, output_dim=12)
START, END = 38, 39


def clip(**changes: Any) -> CLIP:
    """A model in evaluation mode; `changes` are of the vision tower."""
    return CLIP(ClipConfig(vision=replace(VISION, **changes), text=TEXT)).eval()


def images(count: int = 3, height: int = 16, width: int = 16) -> Tensor:
    return torch.randn(count, 3, height, width)


def texts(count: int = 3) -> Tensor:
    """Rows of different lengths, in no order."""
    ids = torch.zeros(count, TEXT.context, dtype=torch.int64)
    for row in range(count):
        end = 2 + (5 * row + 3) % (TEXT.context - 2)
        ids[row, 0], ids[row, end] = START, END
        ids[row, 1:end] = torch.randint(1, START, (end - 1,))
    return ids


def linear(module: nn.Module, name: str) -> nn.Linear:
    return cast(nn.Linear, module.get_submodule(name))
