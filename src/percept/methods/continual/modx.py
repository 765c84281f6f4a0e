"""Mod-X: contrastive pretraining on a stream of pairs that keeps the similarities the model before had right.

Ni et al. 2023, arXiv:2305.07437. Reference: ZixuanNi/Mod-X, ModX_Training/continue_train_model.py. With the cosines M = I Tᵀ of a batch and
those of the model before the phase M_o, whose row i is replaced by that of M if its greatest value is not at i [equation 8],

    loss = ½ [CE(s M) + CE(s Mᵀ)] + α ½ [KL(softmax M_o ‖ softmax M) + the same for the transposed], summed over all entries

Replaced rows add nothing. The name says off-diagonal, but whole rows take part. Without a temperature the softmax of cosines is almost flat,
which is why α is 20 and the sum is taken; `scaled` multiplies the cosines of the second term by s instead. `kept` = "all" leaves the filter out.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from percept.core.errors import PerceptError
from percept.data.batch import ImageText
from percept.losses.contrastive import info_nce
from percept.methods.adaptation.contract import tiny_base
from percept.methods.adaptation.texts import Base
from percept.methods.continual.contract import copy_weights, frozen, hold_scale, tiny_pairs

BATCH = 280
"""Pairs of a step of the reference; the weight of the alignment suits this many."""


class ModX(nn.Module):
    """A dual encoder that is trained on one phase of a stream after the other."""

    shown = ("kept",)

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Defaults of the reference."""

        weight: float = 20.0
        """Of the alignment with the model before [α], for batches of `BATCH` pairs; 0 for plain continued training."""
        kept: Literal["right", "all"] = "right"
        """Rows that are aligned: those in which the model before finds the right partner, or all."""
        scaled: bool = False
        """Multiply cosines by the scale of the logits before the softmax of the alignment."""

        @classmethod
        def of_batch(cls, batch: int, *, weight: float = 20.0, **fields: Any) -> "ModX.Config":
            """Return a weight of the reference for batches of another size: the alignment is a sum over rows, the contrast a mean.

            >>> ModX.Config.of_batch(280).weight, ModX.Config.of_batch(56).weight
            (20.0, 100.0)
            """
            return cls(weight=weight * BATCH / batch, **fields)

        def __post_init__(self) -> None:
            if self.kept not in ("right", "all") or self.weight < 0:
                raise PerceptError(
                    f"kept={self.kept!r} and weight={self.weight}: kept must be right or all, and weight at least 0."
                )

    def __init__(self, config: Config, base: Base) -> None:
        """Copy the towers; all of them is trained."""
        super().__init__()
        self.config = config
        self.clip = base.copied().clip.requires_grad_(True)
        self.previous = frozen(self.clip)

    def train(self, mode: bool = True) -> "ModX":
        """Set the mode of what is trained; the model before stays in evaluation mode."""
        super().train(mode)
        self.previous.eval()
        return self

    def begin(self) -> None:
        """Begin a phase: the model as it is becomes the one to agree with."""
        copy_weights(self.previous, self.clip)

    def forward(self, batch: ImageText) -> dict[str, Tensor]:
        """Return the loss, and the share of the rows that are kept."""
        image, text = self.clip.embed_image(batch.image), self.clip.embed_text(batch.tokens)
        contrast = info_nce(image, text, self.clip.scale())
        if not self.config.weight:
            return {"loss": contrast, "kept": contrast.new_zeros(())}
        with torch.no_grad():
            before = self.previous.embed_image(batch.image) @ self.previous.embed_text(batch.tokens).T
        factor = self.clip.scale().detach() if self.config.scaled else 1.0
        similar = image @ text.T
        parts = [
            aligned(side, old, right_only=self.config.kept == "right", factor=factor)
            for side, old in ((similar, before), (similar.T, before.T))
        ]
        kept = (parts[0][1] + parts[1][1]) / 2
        return {"loss": contrast + self.config.weight * (parts[0][0] + parts[1][0]) / 2, "kept": kept}

    def after_step(self) -> None:
        """Keep the scale at most 100, as the reference does."""
        hold_scale(self.clip)

    @classmethod
    def tiny(cls) -> tuple["ModX", ImageText]:
        """Return a model of a few thousand parameters whose partner differs from it, and pairs."""
        base = tiny_base()
        method = cls(cls.Config(kept="all"), base)
        with torch.no_grad():
            for parameter in method.previous.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        return method, tiny_pairs(base)


def aligned(
    similar: Float[Tensor, "b b"],
    before: Float[Tensor, "b b"],
    *,
    right_only: bool = True,
    factor: Tensor | float = 1.0,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Return the divergence of the rows of cosines from those of the model before, summed, and the share of rows that count.

    Args:
        similar: cosines with gradients.
        before: cosines of the model before.
        right_only: leave out rows of `before` whose greatest value is not on the diagonal.
        factor: multiplies the cosines.
    """
    places = torch.arange(len(before), device=before.device)
    right = before.argmax(dim=1) == places if right_only else torch.ones_like(places, dtype=torch.bool)
    divergence = F.kl_div(
        (factor * similar).log_softmax(dim=1), (factor * before).softmax(dim=1), reduction="none"
    ).sum(dim=1)
    return torch.where(right, divergence, 0.0).sum(), right.float().mean()
