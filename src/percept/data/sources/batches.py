"""Batches that sources make besides `ImageText` and `Labelled`: videos, views, and batches with plain texts or whole rows."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Bool, Float, Int
from torch import Tensor

from percept.data.batch import Batch
from percept.data.sources.sample import Sample


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoText(Batch):
    """Matching videos and texts."""

    frames: Float[Tensor, "b t 3 y x"]
    """Preprocessed frames in the order of showing."""
    tokens: Int[Tensor, "b n"]
    """Token ids, padded with 0."""


class _WithTuples(Batch):
    """A batch in which tuples count samples too."""

    def _per_sample(self) -> dict[str, Any]:
        return super()._per_sample() | {name: value for name, value in vars(self).items() if isinstance(value, tuple)}


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageCaptions(_WithTuples):
    """Images and their captions as text, for sources without a tokenizer."""

    image: Float[Tensor, "b 3 y x"]
    """Preprocessed images."""
    text: tuple[str, ...]
    """One caption per image."""


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoCaptions(_WithTuples):
    """Videos and their captions as text, for sources without a tokenizer."""

    frames: Float[Tensor, "b t 3 y x"]
    """Preprocessed frames in the order of showing."""
    text: tuple[str, ...]
    """One caption per video."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ViewsText(Batch):
    """Augmented views of images, and matching texts."""

    image: Float[Tensor, "b *v 3 y x"]
    """Preprocessed views of each image; without the axis of views where there is one of each."""
    tokens: Int[Tensor, "b n"]
    """Token ids, padded with 0."""
    hidden: Bool[Tensor, "b *v k"] | None = None
    """True for patches that are hidden, row by row; as many in each view. None without a mask."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ViewsCaptions(_WithTuples):
    """Augmented views of images and their captions as text, for sources without a tokenizer."""

    image: Float[Tensor, "b *v 3 y x"]
    """Preprocessed views of each image; without the axis of views where there is one of each."""
    text: tuple[str, ...]
    """One caption per image."""
    hidden: Bool[Tensor, "b *v k"] | None = None
    """True for patches that are hidden, row by row; as many in each view. None without a mask."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Samples(_WithTuples):
    """Rows as they are, such as conversations."""

    samples: tuple[Sample, ...]
