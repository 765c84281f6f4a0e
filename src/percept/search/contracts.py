"""The protocol of encoders for an index, and the stamp that identifies the model of an index."""

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Protocol, TypeAlias, runtime_checkable

from percept.core.errors import PerceptError
from percept.data.transforms import Preprocess
from percept.infer.contracts import Embeds
from percept.models.zoo import ZOO
from percept.weights.locate import lasting


@runtime_checkable
class ImageEncoder(Embeds, Protocol):
    """An `Embeds` whose preprocessing is known: an index reads files at the size the model needs."""

    @property
    def preprocess(self) -> Preprocess:
        """How images are resized and normalised before the model."""
        ...


@dataclass(frozen=True, kw_only=True)
class Stamp:
    """The identity of the model that made an index, and how to load it again."""

    name: str
    image: str
    """Identity of image vectors, see `percept.infer.identity`."""
    dim: int
    preprocess: Preprocess
    source: str
    """Argument of `percept.load`: a name, or an absolute path."""
    weights: str | None = None
    """Absolute path of a local weight file."""
    tokenizer: str | None = None
    """Absolute path of a tokenizer.json."""
    image_size: int | None = None
    """Side in pixels that the model was resized to."""
    dtype: str | None = None
    """Number type, if one was requested."""

    def __str__(self) -> str:
        height, width = self.preprocess.shape
        patches = self.preprocess.tokens
        size = f"{height} × {width} pixels" if patches is None else f"{patches} patches"
        return f"{self.name} ({self.image[:8]}, {self.dim} numbers, {self.preprocess.resize} to {size})"

    def agrees(self, other: "Stamp") -> bool:
        """True if vectors of both can be compared; the names may differ."""
        return (self.image, self.dim) == (other.image, other.dim)

    @property
    def options(self) -> str:
        """Options that load the model again, ready to be pasted into a shell."""
        return _typed(
            {
                "--model": self.source,
                "--weights": self.weights,
                "--tokenizer": self.tokenizer,
                "--image-size": self.image_size,
                "--dtype": self.dtype,
            }
        )

    @property
    def sizing(self) -> str:
        """Options that resize images in the same way, ready to be pasted into a shell."""
        return _typed({"--resize": self.preprocess.resize, "--tokens": self.preprocess.tokens})

    def differences(self, other: "Stamp") -> str:
        """Return the settings of the preprocessing that differ; empty for a model of a different name."""
        if (self.name, self.dim) != (other.name, other.dim):
            return ""
        names = [field.name for field in fields(Preprocess) if field.compare]
        values = [(name, getattr(self.preprocess, name), getattr(other.preprocess, name)) for name in names]
        return ", ".join(f"{name} {theirs} instead of {ours}" for name, ours, theirs in values if ours != theirs)

    def remedy(self, other: "Stamp") -> str:
        """Return the options that select this stamp instead of `other`, which does not agree, or how to change the index."""
        if self.name == other.name and self.sizing != other.sizing:
            return self.sizing
        if self.name == other.name == self.source and not self.weights and not self.differences(other):
            return f"{self.options} if that still loads the former weights, or percept index upgrade --to MODEL"
        return self.options


def _typed(options: Mapping[str, object]) -> str:
    return " ".join(f"{option} {shlex.quote(str(value))}" for option, value in options.items() if value is not None)


OptionalPath: TypeAlias = str | os.PathLike[str] | None


def stamp_of(
    encoder: ImageEncoder,
    source: str | None = None,
    *,
    weights: OptionalPath = None,
    tokenizer: OptionalPath = None,
    image_size: int | None = None,
    dtype: str | None = None,
) -> Stamp:
    """Return the stamp of an encoder that `percept.load` returned for these arguments; its name is the default source.

    Raises:
        PerceptError: the model produces tokens only and no vectors.
    """
    identity = encoder.identity
    if not identity.dim:
        raise PerceptError(
            f"{identity.name} produces tokens, not vectors that can be searched. Use 'nano' or a PE-Core model."
        )
    return Stamp(
        name=identity.name,
        image=identity.image,
        dim=identity.dim,
        preprocess=encoder.preprocess,
        source=lasting(source or identity.name),
        weights=None if weights is None else os.path.abspath(weights),
        tokenizer=None if tokenizer is None else os.path.abspath(tokenizer),
        image_size=image_size,
        dtype=dtype,
    )


def is_remote(source: str) -> bool:
    """True if the model may have to be fetched from the hub."""
    name = source.partition("@")[0]
    return source.startswith("hf://") or (name in ZOO and ZOO[name].config is not None)
