"""What search asks of a model, and the stamp by which an index knows its model again."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from percept.data.transforms import Preprocess
from percept.infer.identity import Identity


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

    def __str__(self) -> str:
        return f"{self.name} ({self.fingerprint[:8]}, {self.dim} numbers)"

    def agrees(self, other: "Stamp") -> bool:
        """Tell whether vectors of both may be compared; a name is only a name."""
        return (self.fingerprint, self.dim, self.preprocess) == (other.fingerprint, other.dim, other.preprocess)


def stamp_of(encoder: Embeds, source: str | None = None) -> Stamp:
    """Return the stamp of an encoder that `percept.load(source)` gave; without a source, its name stands for it."""
    identity = encoder.identity
    source = source or identity.name
    return Stamp(
        name=identity.name,
        fingerprint=identity.fingerprint,
        dim=identity.dim,
        preprocess=encoder.preprocess,
        source=os.path.abspath(source) if Path(source).is_dir() else source,
    )
