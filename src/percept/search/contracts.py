"""What search asks of a model, and the stamp by which an index knows its model again."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Protocol, TypeAlias, runtime_checkable

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from percept.core.errors import PerceptError
from percept.data.transforms import Preprocess
from percept.infer.identity import Identity
from percept.models.zoo import ZOO


@runtime_checkable
class Embeds(Protocol):
    """An encoder: `percept.load` gives one."""

    @property
    def identity(self) -> Identity:
        """Name, fingerprint and vector length."""
        ...

    @property
    def preprocess(self) -> Preprocess:
        """What is done to a picture before the model sees it."""
        ...

    def image(self, images: list[Image.Image], /) -> Float[Tensor, "n d"]:
        """Return unit-length vectors of pictures."""
        ...

    def text(self, texts: list[str], /) -> Float[Tensor, "n d"]:
        """Return unit-length vectors of texts."""
        ...


@dataclass(frozen=True, kw_only=True)
class Stamp:
    """Everything that has to be equal for two vectors to be comparable, and where the model came from."""

    name: str
    fingerprint: str
    dim: int
    preprocess: Preprocess
    source: str
    """What `percept.load` was given, so that it can be loaded again: a name, or an absolute folder."""
    weights: str | None = None
    """The local weight file it was given, absolute."""
    tokenizer: str | None = None
    """The tokenizer.json it was given, absolute."""

    def __str__(self) -> str:
        height, width = self.preprocess.shape
        patches = self.preprocess.tokens
        side = f"{height} × {width} pixels" if patches is None else f"{patches} patches"
        return f"{self.name} ({self.fingerprint[:8]}, {self.dim} numbers, {self.preprocess.resize} to {side})"

    def agrees(self, other: "Stamp") -> bool:
        """Tell whether vectors of both may be compared; a name is only a name."""
        return (self.fingerprint, self.dim, self.preprocess) == (other.fingerprint, other.dim, other.preprocess)

    @property
    def options(self) -> str:
        """What a person types to load the model again."""
        return _typed({"--model": self.source, "--weights": self.weights, "--tokenizer": self.tokenizer})

    @property
    def sizing(self) -> str:
        """What a person types to bring pictures to size in the same way."""
        return _typed({"--resize": self.preprocess.resize, "--tokens": self.preprocess.tokens})

    def differences(self, other: "Stamp") -> str:
        """Name what of the preprocessing is another one in `other`; nothing for another model."""
        if (self.fingerprint, self.dim) != (other.fingerprint, other.dim):
            return ""
        pairs = [(one.name, getattr(self.preprocess, one.name), getattr(other.preprocess, one.name))
                 for one in fields(Preprocess) if one.compare]  # fmt: skip
        return ", ".join(f"{name} {theirs} instead of {ours}" for name, ours, theirs in pairs if ours != theirs)

    def differs_by(self, other: "Stamp") -> str:
        """Return what a person types to get this instead of `other`, which does not agree."""
        same_model = self.fingerprint == other.fingerprint
        return self.sizing if same_model and self.sizing != other.sizing else self.options


def _typed(given: Mapping[str, object]) -> str:
    return " ".join(f"{option} {value}" for option, value in given.items() if value is not None)


Given: TypeAlias = str | os.PathLike[str] | None


def stamp_of(encoder: Embeds, source: str | None = None, *, weights: Given = None, tokenizer: Given = None) -> Stamp:
    """Return the stamp of an encoder that `percept.load` gave for the same arguments; its name stands for no source.

    Raises:
        PerceptError: the model gives tokens only, so there is nothing to compare.
    """
    identity = encoder.identity
    if not identity.dim:
        raise PerceptError(
            f"{identity.name} gives tokens, not vectors that can be searched; use 'nano' or a PE-Core model"
        )
    return Stamp(
        name=identity.name,
        fingerprint=identity.fingerprint,
        dim=identity.dim,
        preprocess=encoder.preprocess,
        source=lasting(source or identity.name),
        weights=None if weights is None else os.path.abspath(weights),
        tokenizer=None if tokenizer is None else os.path.abspath(tokenizer),
    )


def lasting(source: str) -> str:
    """Return a name as it is and a folder by its absolute path; as for `percept.load`, a known name is never a folder."""
    named = source in ZOO or source.startswith("hf://") or not os.path.exists(source)
    return source if named else os.path.abspath(source)
