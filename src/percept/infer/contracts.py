"""What evaluation, search and methods ask of a model: three small contracts.

An `Encoder` is an `Embeds`; a trained classifier is a `Classifies`; an assistant is a `Generates`. Images are whatever
`Encoder.image` takes: paths, bytes, PIL images, uint8 arrays [y, x, 3] and uint8 tensors [3, y, x].
"""

from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from percept.infer.identity import Identity


@runtime_checkable
class Embeds(Protocol):
    """A model that maps images and texts to unit vectors of one space."""

    @property
    def identity(self) -> Identity:
        """Which model computes the vectors, and their length."""
        ...

    def image(self, images: Any, /) -> Float[Tensor, "n d"]:
        """Return one unit vector per image."""
        ...

    def text(self, texts: Any, /) -> Float[Tensor, "n d"]:
        """Return one unit vector per text."""
        ...


@runtime_checkable
class Classifies(Protocol):
    """A model with a fixed list of classes."""

    def class_logits(self, images: Any, /) -> Float[Tensor, "n c"]:
        """Return one logit per image and class."""
        ...


@runtime_checkable
class Generates(Protocol):
    """A model that answers questions about images in words."""

    def ask(self, images: Any, question: Any, /) -> Any:
        """Return the answer, or one answer per question of a list."""
        ...
