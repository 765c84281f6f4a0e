"""CoCoOp: a context that a small network shifts for every image.

Zhou et al. 2022, arXiv:2203.05557. Reference: KaiyangZhou/CoOp, trainers/cocoop.py. With the image vector f [equation 3],

    v_m(x) = v_m + π(f),  π(f) = W₂ relu(W₁ f),  |W₁ f| = E / 16
    p(c | x) = softmax_c(s cos(f, w_c(x))),  loss = CE(p, y)

Every image has class vectors of its own, so the text tower runs once for each image and class.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from percept.methods.adaptation.contract import Training, Views
from percept.methods.adaptation.prompts import PHRASE, PromptConfig, Prompted
from percept.methods.adaptation.texts import TEMPLATE, Base

TEXTS = 512
"""Prompts that go through the text tower together."""


class CoCoOp(Prompted):
    """A learned context plus a shift that depends on the image."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Paper defaults (section 4): four tokens that start from "a photo of a"."""

        prompt: PromptConfig = field(default_factory=lambda: PromptConfig(context=4, phrase=PHRASE))
        """The learned tokens."""
        reduction: int = 16
        """The hidden layer has 1 / reduction of the length of a vector."""

    def __init__(self, config: Config, base: Base, names: Sequence[str], template: str = TEMPLATE) -> None:
        super().__init__(config, base, names, template)
        length, width = base.text.config.output_dim, base.text.config.width
        hidden = max(1, length // config.reduction)
        self.meta = nn.Sequential(nn.Linear(length, hidden), nn.ReLU(), nn.Linear(hidden, width))

    def declared(self) -> dict[str, int]:
        """Return the context and the two layers of the network."""
        text = self.base.text.config
        length, width, hidden = text.output_dim, text.width, max(1, text.output_dim // self.config.reduction)
        return {
            **super().declared(),
            "meta.0.weight": length * hidden,
            "meta.0.bias": hidden,
            "meta.2.weight": hidden * width,
            "meta.2.bias": width,
        }

    def logits(self, batch: Views) -> Float[Tensor, "b c"]:
        """Return the cosines of every image with class vectors of its own, in parts."""
        parts = batch.vector.split(max(1, TEXTS // len(self.names)))
        return torch.cat([self._logits(part) for part in parts])

    def _logits(self, vector: Float[Tensor, "b d"]) -> Float[Tensor, "b c"]:
        shift = self.meta(vector.to(self.prompt.context.dtype))[:, None]
        own = self.prompt.vectors(self.base.text, self.prompt.context + shift)
        return self.clip.scale() * torch.einsum("bd,bcd->bc", vector.float(), own)

    def neutral_twin(self) -> "Prompted | None":
        """Return the words of the template as the context, without a shift."""
        twin = super().neutral_twin()
        assert isinstance(twin, CoCoOp)
        for each in (twin.meta[2].weight, twin.meta[2].bias):
            torch.nn.init.zeros_(each)  # type: ignore[arg-type]
        return twin

    @classmethod
    def recipe(cls, shots: int) -> Training:
        """Return 10 epochs of single images."""
        return Training(epochs=10, batch=1)

    @classmethod
    def tiny_config(cls) -> Config:
        """Return a network with three hidden units."""
        return cls.Config(prompt=PromptConfig(context=4), reduction=4)
