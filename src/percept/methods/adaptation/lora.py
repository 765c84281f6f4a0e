"""LoRA: low-rank adapters in the attention of the image tower, trained against the hand-written texts of the classes.

Hu et al. 2021, arXiv:2106.09685; few-shot use as in Zanella and Ben Ayed 2024, arXiv:2405.18541 (CLIP-LoRA), here in the image tower only.
With adapters W + (α / r) B A in place of W and B = 0 at first,

    loss = CE(softmax_c(s cos(f_BA(x), w⁰_c)), y)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from percept.methods.adaptation.contract import Adaptation, Training, Views
from percept.methods.adaptation.texts import TEMPLATE, Base
from percept.nn.lora import LoRALinear, add_lora

ADAPTED = r"^vision\.blocks\.\d+\.attention\.(qkv|out)$"


class LoRA(Adaptation):
    """Adapters on a copy of the image tower."""

    reads = "images"

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Size of the adapters."""

        rank: int = 2
        """Rank of each adapter [r]."""
        alpha: float = 2.0
        """Scale of each adapter times its rank [α]."""

    def __init__(self, config: Config, base: Base, names: Sequence[str], template: str = TEMPLATE) -> None:
        super().__init__(config, base, names, template)
        self.clip = base.copied().clip.requires_grad_(False)
        self.adapted = add_lora(self.clip, ADAPTED, rank=config.rank, alpha=config.alpha)
        self.use(names)

    def declared(self) -> dict[str, int]:
        """Return both factors of every adapter."""
        sizes = {}
        for name in self.adapted:
            linear = cast(nn.Linear, cast(LoRALinear, self.clip.get_submodule(name)).base)
            sizes[f"clip.{name}.down"] = self.config.rank * linear.in_features
            sizes[f"clip.{name}.up"] = self.config.rank * linear.out_features
        return sizes

    def class_vectors(self) -> Float[Tensor, "c d"]:
        """Return the vectors of the template."""
        return self.own_vectors()

    def neutral_twin(self) -> "LoRA":
        """Return new adapters, which change nothing."""
        return LoRA(self.config, self.base, self.names)

    @classmethod
    def recipe(cls, shots: int) -> Training:
        """Return 20 epochs of AdamW with rate 0.0005."""
        return Training(epochs=20, rate=5e-4, optimiser="adamw", weight_decay=0.01)

    @classmethod
    def tiny(cls) -> tuple["LoRA", Views]:
        """Return adapters that are not zero, so that gradients reach both factors."""
        method, batch = super().tiny()
        with torch.no_grad():
            for name, parameter in method.named_parameters():
                if name.endswith(".up"):
                    parameter.normal_(std=0.02)
        return method, batch
