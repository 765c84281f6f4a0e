"""Plain fine-tuning of both towers on one task after the other, with the cheap ways to forget less.

The baselines of ZSCL (Zheng et al. 2023, arXiv:2303.06628, table 1): fine-tuning; an L2 penalty; and WiSE-FT (Wortsman et al. 2022,
arXiv:2109.01903), which averages the weights after a task with those before it. With the weights θ' before the task:

    loss = CE + μ Σ (θ - θ')²,    θ ← (1 - a) θ' + a θ after the task
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from percept.core.errors import PerceptError
from percept.methods.adaptation.texts import Base
from percept.methods.continual.contract import CommonConfig, Continual, Task, TaskBatch, copy_weights, drift, frozen


class FineTuning(Continual):
    """Both towers, trained without a teacher."""

    @dataclass(frozen=True, kw_only=True)
    class Config(CommonConfig):
        """Plain fine-tuning."""

        penalty: float = 0.0
        """Of the squared distance to the weights before the task, summed over all of them [μ]."""
        share: float = 1.0
        """Weight of the new weights after a task [a]; below 1 for WiSE-FT."""

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.penalty < 0 or not 0 <= self.share <= 1:
                raise PerceptError(
                    f"penalty must be at least 0 and share from 0 to 1, got penalty={self.penalty} and share={self.share}."
                )

    def __init__(self, config: Config, base: Base) -> None:
        super().__init__(config, base)
        self.anchor = frozen(self.clip) if config.penalty or config.share < 1 else None

    def begin(self, task: Task) -> None:
        """Keep the weights before the task."""
        if self.anchor is not None:
            copy_weights(self.anchor, self.clip)

    def losses(self, batch: TaskBatch) -> dict[str, Tensor]:
        """Return the cross-entropy, and the penalty if there is one."""
        found = super().losses(batch)
        if self.config.penalty and self.anchor is not None:
            found["drift"] = self.config.penalty * drift(self.clip, self.anchor)
        return found

    @torch.no_grad()
    def end(self, task: Task) -> None:
        """Average the weights."""
        if self.anchor is not None and self.config.share < 1:
            for one, other in zip(self.clip.parameters(), self.anchor.parameters(), strict=True):
                one.lerp_(other, 1 - self.config.share)

    @classmethod
    def tiny_config(cls) -> Config:
        """Return a penalty that counts."""
        return cls.Config(penalty=0.1, share=0.5)
