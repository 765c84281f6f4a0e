"""What train, eval and search ask of a model: small contracts, several of them, and the batch they pass around."""

from dataclasses import dataclass, fields, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One step's worth of samples. What a data source does not have is None."""

    image: Float[Tensor, "b 3 y x"] | None = None
    """Preprocessed pictures."""
    tokens: Int[Tensor, "b n"] | None = None
    """Token ids, padded with 0."""
    words: Int[Tensor, "b n"] | None = None
    """Token ids that label each picture, padded with 0."""
    label: Int[Tensor, " b"] | None = None
    """Class numbers."""
    cover: Int[Tensor, "b p"] | None = None
    """Which of the sample's things covers each patch, row by row; -1 where none does."""
    things: Int[Tensor, "b k 2"] | None = None
    """Category and colour of each thing; -1 where there is none, or none that shows."""
    names: Int[Tensor, "b k n"] | None = None
    """Token ids of what each thing is called, padded with 0; all 0 where nothing is to be learned from it."""
    claims: Int[Tensor, "b c"] | None = None
    """Numbers of what each sample shows, padded with 0."""
    contrary: Int[Tensor, "b m 2 n"] | None = None
    """Token ids of pairs of a right and a wrong text for the sample, padded with 0."""
    said: Int[Tensor, "b m 2 s"] | None = None
    """Numbers of what each of these texts claims, padded with 0."""
    keep: Int[Tensor, " q"] | None = None
    """Patches that the model is to see; all where None. The same for all samples."""

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> "Batch":
        """Move every tensor to `device`; floating tensors also to `dtype`."""
        moved = {
            name: value.to(device, dtype if value.is_floating_point() else None, non_blocking=True)
            for name, value in self.tensors().items()
        }
        return replace(self, **moved)

    def tensors(self) -> dict[str, Tensor]:
        """Return the fields that are there, by name."""
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name)) is not None}

    def first(self, count: int) -> "Batch":
        """Return the first `count` samples."""
        return replace(self, **{name: v if name == "keep" else v[:count] for name, v in self.tensors().items()})

    def __len__(self) -> int:
        """Return the number of samples."""
        return next((len(value) for name, value in self.tensors().items() if name != "keep"), 0)


@runtime_checkable
class Trainable(Protocol):
    """What `train.fit` needs; everything else in a method is its own."""

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        """Return {"loss": scalar, other scalars to log}."""
        ...


@runtime_checkable
class Embeds(Protocol):
    """What retrieval, zero-shot classification and search need."""

    def embed_image(self, image: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b d"]:
        """Return unit-length vectors of preprocessed pictures."""
        ...

    def embed_text(self, tokens: Int[Tensor, "b n"]) -> Float[Tensor, "b d"]:
        """Return unit-length vectors of token ids."""
        ...


@runtime_checkable
class Classifies(Protocol):
    """A model with a fixed list of classes."""

    def class_logits(self, image: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b c"]:
        """Return one logit per class."""
        ...
