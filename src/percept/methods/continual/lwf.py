"""Learning without Forgetting for dual encoders: the model before the task stays the teacher of its own answers on the new images.

Li and Hoiem 2017, arXiv:1606.09282, as a baseline of ZSCL (arXiv:2303.06628). With the texts of all earlier tasks, or of the present one
while there is no other, and the model before the task as teacher,

    loss = CE + λ T² CE(softmax(s f' w'ᵀ / T), s f wᵀ / T)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from percept.methods.adaptation.texts import Base
from percept.methods.continual.contract import (
    CommonConfig,
    Continual,
    Task,
    TaskBatch,
    copy_weights,
    frozen,
    soft_cross_entropy,
)


class LwF(Continual):
    """Both towers, with the previous model as teacher on the images of the task."""

    reads = ("names of earlier tasks",)

    @dataclass(frozen=True, kw_only=True)
    class Config(CommonConfig):
        """Defaults of the baseline in ZSCL."""

        weight: float = 1.0
        """Of the distillation [λ]."""
        temperature: float = 2.0
        """Softens both sides [T]."""

    def __init__(self, config: Config, base: Base) -> None:
        super().__init__(config, base)
        self.teacher = frozen(self.clip)
        self.earlier: Sequence[str] = ()

    def begin(self, task: Task) -> None:
        """Take the model as it is as the teacher."""
        copy_weights(self.teacher, self.clip)

    def losses(self, batch: TaskBatch) -> dict[str, Tensor]:
        """Return the cross-entropy and the distillation."""
        image, scale = self.clip.embed_image(batch.image), self.clip.scale()
        tokens = self.tokens(self.earlier) if self.earlier else batch.texts
        with torch.no_grad():
            target = scale * self.teacher.embed_image(batch.image) @ self.teacher.embed_text(tokens).T
        student = scale * image @ self.clip.embed_text(tokens).T
        logits = scale * image @ self.clip.embed_text(batch.texts).T
        kept = soft_cross_entropy(target, student, self.config.temperature)
        return {
            "cross_entropy": self.cross_entropy(logits, batch.label),
            "distillation": self.config.weight * kept,
        }

    def end(self, task: Task) -> None:
        """Remember the texts of the task."""
        self.earlier = (*self.earlier, *task.texts)
