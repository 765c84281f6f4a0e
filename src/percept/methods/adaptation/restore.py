"""RESTORE: MaPLe whose towers are kept at equal feature shifts, with a feed-forward adapter ("surgery") on the vector of each.

Yang et al. 2024, arXiv:2403.06136, section 4. Reference: Yaphabates/RESTORE_, trainers/maple_fsa.py. With the shifts S of `shift`,

    f̃ = f + r_v FFN_v(LN f),  w̃ = w + r_t FFN_t(LN w),  FFN: width → 2048 → width with QuickGELU
    loss = CE(softmax_c(s cos(f̃, w̃_c)), y) + λ Σ_{i=2..J} (Sᵗ_i - Sᵛ_i)²

The shares r are not trained: after a third of the epochs, r_t grows by 0.02 Ḡ_t and r_v by 0.005 Ḡ_v once, Ḡ the mean norm of
the Gram matrices of the deep tokens. Differs from it: the first norms of the Gram matrices, which the shift is divided by, are stored, so
that a saved method goes on with the same ones; runs that are measured on other data sets have the settings for base and new classes too,
where the paper trains for 2 epochs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from percept.core.errors import PerceptError
from percept.methods.adaptation.adapters import FeatureAdapter
from percept.methods.adaptation.contract import Training, Views
from percept.methods.adaptation.deep import DeepConfig, DeepPrompted, words_only
from percept.methods.adaptation.shift import Shift, embedding_shift, gram
from percept.methods.adaptation.texts import TEMPLATE, Base


class RESTORE(DeepPrompted):
    """Coupled tokens with equal shifts, and adapters."""

    first_text: Tensor
    first_image: Tensor
    shares: Tensor

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Defaults of the reference; its scripts change `shares` by data set, from 0.01 to 0.15."""

        prompts: DeepConfig = field(default_factory=DeepConfig)
        """The learned tokens."""
        weight: float = 1.0
        """Of the squared differences of the shifts [λ]; 0 leaves the consistency out."""
        shift: Literal["gram", "embedding"] = "gram"
        """gram: as in the code of the reference; embedding: as the paper defines it, in a form that is ours (`shift`), at twice the cost."""
        surgery: bool = True
        """Adapters on both vectors."""
        hidden: int = 2048
        """Units of an adapter."""
        shares: tuple[float, float] = (0.05, 0.05)
        """Of the adapters of images and texts at first [r_v, r_t]."""
        rises: tuple[float, float] = (0.005, 0.02)
        """What a share grows by, times the mean norm of the Gram matrices."""

        def __post_init__(self) -> None:
            object.__setattr__(self, "shares", tuple(self.shares))
            object.__setattr__(self, "rises", tuple(self.rises))
            if self.shift not in ("gram", "embedding"):
                raise PerceptError(f"shift must be gram or embedding, got {self.shift!r}.")
            if self.weight and self.prompts.towers in ("text", "image"):
                raise PerceptError("equal shifts need learned tokens in both towers. Use weight=0 for tokens in one.")

    def __init__(self, config: Config, base: Base, names: Sequence[str], template: str = TEMPLATE) -> None:
        super().__init__(config, base, names, template)
        length = base.text.config.output_dim
        made = [
            FeatureAdapter(length, config.hidden, activation="quick_gelu", norm=True) if config.surgery else None
            for _ in range(2)
        ]
        self.image_adapter, self.text_adapter = made
        self.register_buffer("shares", torch.tensor(config.shares))
        both = config.prompts.towers in ("coupled", "free")
        for name, tokens in (("text", self.prompts.text_tokens()), ("image", self.prompts.image_tokens())):
            self.register_buffer(f"first_{name}", gram(tokens).detach() if both else torch.ones(0))

    def declared(self) -> dict[str, int]:
        """Return the tokens and the adapters."""
        sizes, length = super().declared(), self.base.text.config.output_dim
        for name in ("image_adapter", "text_adapter") if self.config.surgery else ():
            sizes |= FeatureAdapter.sizes(name, length, self.config.hidden, norm=True)
        return sizes

    def text_features(self) -> Float[Tensor, "c d"]:
        """Return the vectors of the prompts after surgery."""
        vectors = super().text_features().float()
        return vectors if self.text_adapter is None else vectors + self.shares[1] * self.text_adapter(vectors)

    def image_features(self, image: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b d"]:
        """Return the vectors of images after surgery."""
        vectors = super().image_features(image).float()
        return vectors if self.image_adapter is None else vectors + self.shares[0] * self.image_adapter(vectors)

    def shifts(self, image: Float[Tensor, "b 3 y x"]) -> Shift:
        """Return the shift of both towers by the chosen measure; those of Gram matrices are 1 at first."""
        if self.config.shift == "embedding":
            return embedding_shift(self, image)
        text, vision = self.prompts.text_tokens(), self.prompts.image_tokens()
        return Shift(text=gram(text) / self.first_text, image=gram(vision) / self.first_image)

    def losses(self, batch: Views) -> dict[str, Tensor]:
        """Return the cross-entropy and the squared differences of the shifts of deep blocks."""
        losses = super().losses(batch)
        if self.config.weight:
            assert batch.image is not None
            found = self.shifts(batch.image)
            losses["consistency"] = self.config.weight * (found.text - found.image)[1:].square().sum()
        return losses

    @torch.no_grad()
    def on_epoch(self, epoch: int) -> None:
        """Raise the shares once, after a third of the epochs."""
        if epoch == self.epochs // 3 + 1 and self.config.prompts.towers in ("coupled", "free"):
            sides = (self.prompts.image_tokens(), self.prompts.text_tokens())
            for side, (tokens, rise) in enumerate(zip(sides, self.config.rises, strict=True)):
                self.shares[side] += rise * gram(tokens)[1:].mean() if len(tokens) > 1 else 0.0

    def neutral_twin(self) -> "RESTORE":
        """Return the words of the template, without surgery."""
        return RESTORE(replace(self.config, prompts=words_only(), weight=0.0, surgery=False), self.base, self.names)

    @classmethod
    def recipe(cls, shots: int) -> Training:
        """Return that for base and new classes: 10 epochs with rate 0.0035 and batches of 4."""
        return Training(epochs=10, batch=4, rate=3.5e-3)
