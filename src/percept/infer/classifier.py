"""A trained classifier with everything around it that a user needs: images in, class logits out."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from percept.core.errors import PerceptError
from percept.infer.encoder import Encoder
from percept.infer.identity import Identity
from percept.infer.images import as_iterable, prepared
from percept.infer.setting import Setting
from percept.weights.fingerprint import hash_tensors, joined_hash


@runtime_checkable
class Head(Protocol):
    """What a `Classifier` runs: a module that computes class logits of preprocessed images."""

    def class_logits(self, image: Float[Tensor, "b 3 y x"], /) -> Float[Tensor, "b c"]:
        """Return one logit per image and class."""
        ...


class Classifier:
    """A method that classifies, with the preprocessing, device and batches of its base encoder.

    `percept.load` makes one from the folder of such a method. It is a `percept.infer.contracts.Classifies`, so evaluations
    measure it; to measure a method while it is trained, wrap the task.
    """

    def __init__(self, method: Head, encoder: Encoder, *, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Wrap a method.

        Args:
            method: computes the logits, on the device and in the number type of the encoder.
            encoder: the base model.
            name: what the method was loaded as.
            tensors: what the method adds to its base model; part of its identity.
        """
        self.method, self.encoder, self.name, self._tensors = method, encoder, name, tensors

    def __repr__(self) -> str:
        return f"Classifier({self.name}, {type(self.method).__name__} on {self.encoder.name}, {self.setting})"

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes in the order of the logits; empty for a method whose classes have no names."""
        return tuple(getattr(self.method, "names", ()))

    @property
    def setting(self) -> Setting:
        """Where and how it computes."""
        return self.encoder.setting

    @property
    def identity(self) -> Identity:
        """Identity of the logits; a classifier has no vectors, so their length is 0."""
        own = joined_hash(hash_tensors(self._tensors))
        image = joined_hash({"base": self.encoder.identity.image, "method": own})
        return Identity(name=self.name, image=image, text=None, dim=0)

    def class_logits(self, images: Any, /) -> Float[Tensor, "n c"]:
        """Return one logit per image and class, in float32.

        Args:
            images: anything `Encoder.image` takes.

        Raises:
            PerceptError: there are no images, or one cannot be read.
        """
        encoder = self.encoder
        stream = prepared(as_iterable(images), encoder.preprocess, encoder.patch)
        rows = [row.float() for _, row in encoder.runner.run(stream, self._logits)]
        if not rows:
            raise PerceptError("no images were given. Give at least one.")
        return torch.stack(rows)

    def _logits(self, group: list[Tensor]) -> list[Tensor]:
        return [row for images in group for row in self.method.class_logits(images)]
