"""Pretraining on the generated world and on captioned pictures at once: one contrast over all of them.

The losses of `percept.methods.pretraining.nano` that need labels see the generated images alone; the words of captions are
labels of every image.
"""

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from percept.data.batch import SHARED
from percept.losses.words import word_loss, word_targets
from percept.methods.contrast import contrast, encode_texts
from percept.methods.pretraining.nano import Pretraining, Read, Seen
from percept.world.batch import WorldBatch


@dataclass(frozen=True, kw_only=True, eq=False)
class JoinedBatch(WorldBatch):
    """Generated images with their labels, and further pictures with captions."""

    pictures: Float[Tensor, "r 3 y x"] | None = field(default=None, metadata=SHARED)
    """Preprocessed, of the same size as `image`."""
    captions: Int[Tensor, "r n"] | None = field(default=None, metadata=SHARED)
    """Token ids, padded with 0."""


class Joined(Pretraining):
    """Pretraining of nano whose contrast includes captioned pictures."""

    def contrast(self, batch: WorldBatch, tokens: Int[Tensor, "b n"], seen: Seen, text: Read) -> dict[str, Tensor]:
        """Return the loss over generated images and pictures together, and the words of the pictures as labels."""
        if not isinstance(batch, JoinedBatch) or batch.pictures is None or batch.captions is None:
            return super().contrast(batch, tokens, seen, text)
        pictures = self.see(replace(batch, image=batch.pictures, cover=None, things=None, names=None)).image
        captions = encode_texts(self.clip, batch.captions, self.config.micro_tokens)
        together = contrast(
            self.clip, torch.cat([seen.image, pictures]), torch.cat([text.caption, captions]), torch.cat([tokens, batch.captions])
        )  # fmt: skip
        words = word_loss(self.head(pictures), word_targets(batch.captions, self.weights))
        with torch.no_grad():
            alone = contrast(self.clip, pictures, captions, batch.captions)["batch_accuracy"]
        return {**together, "loss": together["loss"] + words, "picture_accuracy": alone}
