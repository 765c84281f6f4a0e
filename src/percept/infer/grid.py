"""Run an encoder on a finer grid of patches than it was trained on, as dense tasks need, and choose the layer."""

import copy
from dataclasses import replace
from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from percept.core.errors import PerceptError
from percept.infer.dense import Layer
from percept.nn.stack import resolve_layer

if TYPE_CHECKING:
    from percept.infer.encoder import Encoder

PATCHES = 32
"""Patches along the longer side, as in the dense evaluations of the Perception Encoder (arXiv:2504.13181, sec. 4)."""
MOST = 256
"""Most patches along the longer side."""


def with_grid(encoder: "Encoder", patches: int = PATCHES) -> "Encoder":
    """Return the same model, weights shared, for images of `patches` patches along the longer side; the aspect ratio is kept.

    Raises:
        PerceptError: the number is not from 2 to 256, or an export, whose graph has a fixed size.
    """
    if not 2 <= patches <= MOST:
        raise PerceptError(f"the grid must have 2 to {MOST} patches along the longer side, got {patches}.")
    if encoder.setting.backend != "torch" and patches * encoder.patch != max(encoder.preprocess.shape):
        own = max(encoder.preprocess.shape) // encoder.patch
        raise PerceptError(f"an export computes images of one size. Use a grid of {own} patches, or the model itself.")
    other = copy.copy(encoder)
    size = patches * encoder.patch
    other.preprocess = replace(encoder.preprocess, size=size, resize="keep", patch=encoder.patch, tokens=None)
    return other


def dense_layer(encoder: "Encoder", layer: Layer | None) -> int:
    """Return a layer counted from 0; without one, the block at two thirds of the depth.

    There the local features of contrastive encoders are best: 32 of 50 blocks of PE-Core-G, 17 of 24 of CLIP-L, 15 of 27 of
    SigLIP 2 (arXiv:2504.13181, table 14).
    """
    blocks = encoder.model.config.vision.layers
    return max(0, round(2 * blocks / 3) - 1) if layer is None else resolve_layer(int(layer), blocks)


def unit_map(features: Float[Tensor, "y x w"]) -> Float[Tensor, "y x w"]:
    """Scale every feature vector of a map to unit length."""
    return F.normalize(features.float(), dim=-1)
