"""Batches: frozen dataclasses of tensors. Each source or method declares its own; `core` and `train` know no field of them."""

from dataclasses import dataclass, fields, replace
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

B = TypeVar("B", bound="Batch")


SHARED = {"shared": True}
"""Metadata of a field that belongs to the whole batch rather than to each sample, so that it is never split."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """The samples of one step. The first axis of every tensor counts samples, except in fields with the metadata SHARED."""

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors by field name, without fields that are None."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}

    def to(self: B, device: torch.device | str, dtype: torch.dtype | None = None) -> B:
        """Move every tensor to `device`; convert floating-point tensors to `dtype`."""
        moved = {
            name: value.to(device, dtype if value.is_floating_point() else None, non_blocking=True)
            for name, value in self.tensors().items()
        }
        return replace(self, **moved)

    def rows(self: B, part: slice) -> B:
        """Return the samples of a slice; shared fields stay whole."""
        return replace(self, **{name: value[part] for name, value in self._per_sample().items()})

    def first(self: B, count: int) -> B:
        """Return the first `count` samples."""
        return self.rows(slice(count))

    def __len__(self) -> int:
        """Return the number of samples."""
        return next((len(value) for value in self._per_sample().values()), 0)

    def _per_sample(self) -> dict[str, Tensor]:
        common = {each.name for each in fields(self) if each.metadata.get("shared")}
        return {name: value for name, value in self.tensors().items() if name not in common}


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageText(Batch):
    """Matching images and texts."""

    image: Float[Tensor, "b 3 y x"]
    """Preprocessed images."""
    tokens: Int[Tensor, "b n"]
    """Token ids, padded with 0."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Labelled(Batch):
    """Images and the class of each."""

    image: Float[Tensor, "b 3 y x"]
    """Preprocessed images."""
    label: Int[Tensor, " b"]
    """Class numbers."""
