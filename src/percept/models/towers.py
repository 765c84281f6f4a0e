"""The contract of image towers, and how one is built from its configuration."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from percept.models.config import TowerConfig, kind_of, load_class


@dataclass(frozen=True)
class VisionOut:
    """The result of an image tower."""

    tokens: Float[Tensor, "b n w"]
    """After the last block and the final norm, if the model has one; prefix first, then patches row by row."""
    prefix: int
    """Tokens in front of the patches: the class token and inserted ones."""
    grid: tuple[int, int]
    """Patches down and across, dropped ones included."""
    hidden: dict[int, Float[Tensor, "b m w"]]
    """Residual stream after the requested blocks, without final norm; the keys are the layers as requested."""
    pooled: Float[Tensor, "b d"] | None
    """Pooled and projected vector, not of unit length; None for a model without pooling."""


torch.export.register_dataclass(VisionOut)  # torch.export and FSDP look for the tensors in it


@runtime_checkable
class ImageTower(Protocol):
    """What inference, evaluation, exports and methods may ask of an image tower.

    A tower is a `torch.nn.Module`; it raises a `PerceptError` for an argument or a method that it does not support. Its
    own parts (blocks, pooling head) are reached as attributes, for which this contract promises nothing.
    """

    @property
    def config(self) -> TowerConfig:
        """Its configuration."""
        ...

    def __call__(
        self,
        image: Float[Tensor, "b 3 y x"] | None = None,
        *,
        embeddings: Float[Tensor, "b n w"] | None = None,
        grid: tuple[int, int] | None = None,
        layers: Collection[int] = (),
        extra: Mapping[int, Tensor] | None = None,
        bias: Tensor | None = None,
        keep: Int[Tensor, " k"] | None = None,
        pool: bool = True,
    ) -> VisionOut:
        """Run the tower on images, or on patch embeddings and their grid; see `percept.models.vision.VisionTower`."""
        ...

    def packed(
        self, images: Sequence[Float[Tensor, "_ 3 _ _"]], *, layers: Collection[int] = (), pool: bool = True
    ) -> list[VisionOut]:
        """Run batches of images of different sizes; the results equal those of each batch alone."""
        ...

    def normed(self, tokens: Float[Tensor, "b n w"]) -> Float[Tensor, "b n w"]:
        """Apply the final norm to the tokens of a block."""
        ...

    def pool_weights(self, tokens: Float[Tensor, "b n w"]) -> Float[Tensor, "b h n"]:
        """Return the attention of each pooling head to each normed token."""
        ...

    def cut(self, after: int) -> "ImageTower":
        """Return a tower of the blocks up to and including `after`, which shares the parameters."""
        ...

    def __getattr__(self, name: str) -> Any: ...


def build_tower(config: TowerConfig) -> ImageTower:
    """Build the image tower of a configuration, with new weights.

    Raises:
        PerceptError: the kind of the configuration does not exist.
    """
    return load_class(kind_of(config.kind).tower)(config)
