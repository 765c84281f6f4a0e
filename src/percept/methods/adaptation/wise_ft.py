"""WiSE-FT: fine-tune the whole image tower on the shots, then average its weights with those of the start.

Wortsman et al. 2022, arXiv:2109.01903, equation 1. With the class texts of the template as a fixed head,

    loss = CE(softmax_c(s cos(f_θ(x), w⁰_c)), y),  θ = (1 - a) θ⁰ + a θ¹ after training

a = 1 is plain fine-tuning. Differs from it: the head is not trained, so that other classes can be named.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from percept.core.errors import PerceptError
from percept.methods.adaptation.contract import Adaptation, Training
from percept.methods.adaptation.texts import TEMPLATE, Base


class WiSEFT(Adaptation):
    """A fine-tuned copy of the image tower."""

    reads = "images"

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Paper default (section 4): half way."""

        share: float = 0.5
        """Weight of the fine-tuned weights in the result [a]; 1 for plain fine-tuning."""

        def __post_init__(self) -> None:
            if not 0 <= self.share <= 1:
                raise PerceptError(
                    f"share must be from 0 to 1, got {self.share}. 1 gives the fine-tuned weights alone."
                )

    def __init__(self, config: Config, base: Base, names: Sequence[str], template: str = TEMPLATE) -> None:
        super().__init__(config, base, names, template)
        self.clip = base.copied().clip.requires_grad_(False)
        self.clip.get_submodule("vision").requires_grad_(True)
        self.use(names)

    def declared(self) -> dict[str, int]:
        """Return all parameters of the image tower."""
        vision = self.clip.get_submodule("vision")
        return {f"clip.vision.{name}": each.numel() for name, each in vision.named_parameters()}

    def class_vectors(self) -> Float[Tensor, "c d"]:
        """Return the vectors of the template."""
        return self.own_vectors()

    @torch.no_grad()
    def finish(self) -> None:
        """Average the weights."""
        before = self.base.clip.get_submodule("vision").state_dict()
        for name, value in self.clip.get_submodule("vision").state_dict().items():
            value.lerp_(before[name].to(value), 1 - self.config.share)

    def neutral_twin(self) -> "WiSEFT":
        """Return a copy that was not trained."""
        return WiSEFT(self.config, self.base, self.names)

    @classmethod
    def recipe(cls, shots: int) -> Training:
        """Return 10 epochs of AdamW with rate 0.00003."""
        return Training(epochs=10, rate=3e-5, optimiser="adamw", weight_decay=0.1)
