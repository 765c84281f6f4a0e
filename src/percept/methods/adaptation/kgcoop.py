"""KgCoOp: CoOp whose class vectors stay near those of a hand-written template.

Yao et al. 2023, arXiv:2303.13283. Reference: htyao89/KgCoOp, trainers/kgcoop.py. With the vectors w⁰ of the template [equations 4 and 5],

    loss = CE + λ mean_c |w_c - w⁰_c|²

Differs from it: its code adds λ (1 - cos), which is half of the published term for unit vectors; the published one is used.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from percept.methods.adaptation.contract import Training, Views
from percept.methods.adaptation.prompts import PHRASE, PromptConfig, Prompted


def knowledge_loss(vectors: Float[Tensor, "c d"], hand: Float[Tensor, "c d"]) -> Float[Tensor, ""]:
    """Return the mean squared distance of the class vectors to those of the template."""
    return (vectors - hand).square().sum(dim=1).mean()


class KgCoOp(Prompted):
    """A learned context that is held near a template."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Paper defaults (section 4): four tokens that start from "a photo of a"."""

        prompt: PromptConfig = field(default_factory=lambda: PromptConfig(context=4, phrase=PHRASE))
        """The learned tokens."""
        weight: float = 8.0
        """Of the distance to the template [λ]."""

    def losses(self, batch: Views) -> dict[str, Tensor]:
        """Return the cross-entropy and the distance to the template."""
        vectors = self.class_vectors()
        logits = self.clip.scale() * self.image_vectors(batch) @ vectors.T
        distance = knowledge_loss(vectors, self.hand_vectors())
        return {
            "cross_entropy": F.cross_entropy(logits, batch.label),
            "knowledge": torch.as_tensor(self.config.weight * distance),
        }

    @classmethod
    def recipe(cls, shots: int) -> Training:
        """Return 100 epochs with batches of 128."""
        return Training(epochs=100, batch=128)
