"""Elastic weight consolidation on a stream of image-text pairs: weights that mattered before are held where they were. A rival of Mod-X.

Kirkpatrick et al. 2017, arXiv:1612.00796, equation 3. With the weights θ' before a phase and the importance F of each weight,

    loss = contrast + λ/2 Σ F (θ - θ')²,    F: mean over batches of earlier pairs of the squared slope of the contrast

Differs from it: a pair has no likelihood of its own in the contrast, so slopes are those of batches; the importances of all phases are added up, and the
penalty is about the latest weights only (Schwarz et al. 2018, arXiv:1805.06370, section 2.2); they are divided by their mean, so that λ does not depend on the
scale of the loss.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from percept.core.errors import PerceptError
from percept.data.batch import ImageText
from percept.losses.contrastive import info_nce
from percept.methods.adaptation.contract import tiny_base
from percept.methods.adaptation.texts import Base
from percept.methods.continual.contract import copy_weights, drift, frozen, hold_scale, tiny_pairs


class EWC(nn.Module):
    """A dual encoder that is trained on one phase of a stream after the other, with a penalty for each weight."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Weight of the penalty."""

        strength: float = 1.0
        """Of the penalty [λ], for importances whose mean is 1."""

        def __post_init__(self) -> None:
            if not self.strength >= 0:
                raise PerceptError(f"strength={self.strength} is not a weight. Use at least 0.")

    def __init__(self, config: Config, base: Base) -> None:
        """Copy the towers; all of them is trained."""
        super().__init__()
        self.config = config
        self.clip = base.copied().clip.requires_grad_(True)
        self.start, self.importance = frozen(self.clip), frozen(self.clip)
        for each in self.importance.parameters():
            each.zero_()

    def begin(self) -> None:
        """Begin a phase: the weights as they are become those to stay at."""
        copy_weights(self.start, self.clip)

    def weigh(self, batches: Iterable[ImageText]) -> None:
        """Add the importance of the weights for some pairs, which should be those of the phase that ended, or of the pretraining."""
        sums, count = [torch.zeros_like(each) for each in self.clip.parameters()], 0
        for batch in batches:
            slopes = torch.autograd.grad(self.contrast(batch), list(self.clip.parameters()))
            for total, slope in zip(sums, slopes, strict=True):
                total += slope.square()
            count += 1
        if not count:
            raise PerceptError("there is no batch to weigh weights by. Give at least one.")
        mean = sum(float(each.sum()) for each in sums) / sum(each.numel() for each in sums)
        with torch.no_grad():
            for total, own in zip(sums, self.importance.parameters(), strict=True):
                own += total / max(mean, torch.finfo(torch.float32).tiny)

    def contrast(self, batch: ImageText) -> Float[Tensor, ""]:
        """Return the contrast of the pairs of a batch."""
        return info_nce(self.clip.embed_image(batch.image), self.clip.embed_text(batch.tokens), self.clip.scale())

    def forward(self, batch: ImageText) -> dict[str, Tensor]:
        """Return the loss, and the penalty in it."""
        penalty = self.config.strength / 2 * drift(self.clip, self.start, self.importance)
        return {"loss": self.contrast(batch) + penalty, "penalty": penalty.detach()}

    def after_step(self) -> None:
        """Keep the scale at most 100, as the reference of Mod-X does."""
        hold_scale(self.clip)

    @classmethod
    def tiny(cls) -> tuple["EWC", ImageText]:
        """Return a model of a few thousand parameters that has moved since the phase began, and pairs."""
        base = tiny_base()
        method, batch = cls(cls.Config(), base), tiny_pairs(base)
        method.weigh([batch])
        with torch.no_grad():
            for parameter in method.start.parameters():
                parameter.add_(0.01 * torch.randn_like(parameter))
        return method, batch
