"""Replay: keep a few images of every earlier class, and train on them with the new ones.

The rehearsal baseline of continual learning (Rebuffi et al. 2017, iCaRL, arXiv:1611.07725; here with the classifier of the texts and images
drawn in order instead of herding):

    loss = CE on the task + λ CE on as many stored images, each among the names of its own task
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from percept.core.errors import PerceptError
from percept.core.seed import derive
from percept.methods.adaptation.texts import Base
from percept.methods.continual.contract import CommonConfig, Continual, Task, TaskBatch, bytes_of


class Replay(Continual):
    """Both towers, with a memory of images."""

    reads = ("images and names of earlier tasks",)

    @dataclass(frozen=True, kw_only=True)
    class Config(CommonConfig):
        """Size of the memory."""

        images: int = 2
        """Images kept of every class."""
        weight: float = 1.0
        """Of the loss on stored images [λ]."""

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.images < 1:
                raise PerceptError(f"images={self.images} keeps nothing. Use at least 1.")

    def __init__(self, config: Config, base: Base) -> None:
        super().__init__(config, base)
        self.memory: list[TaskBatch] = []

    def losses(self, batch: TaskBatch) -> dict[str, Tensor]:
        """Return the cross-entropy on the task and on one earlier task, the tasks by turns."""
        found = super().losses(batch)
        if self.memory:
            kept = self.memory[self.step % len(self.memory)]
            dice = torch.Generator().manual_seed(derive(0, "replay", self.step))
            rows = torch.randperm(len(kept), generator=dice)[: len(batch)]
            part = TaskBatch(image=kept.image[rows], label=kept.label[rows], texts=kept.texts)
            found["replay"] = self.config.weight * self.cross_entropy(self.logits(part), part.label)
        return found

    def end(self, task: Task) -> None:
        """Store the first images of every class."""
        label = task.shots.label
        rows = torch.cat([(label == number).nonzero()[: self.config.images, 0] for number in label.unique()])
        self.memory.append(task.batch(rows.tolist(), None, self.tokens(task.texts)))

    def kept(self) -> dict[str, int]:
        """Return the bytes of the stored images."""
        return {"images of earlier tasks": bytes_of(*(each.image for each in self.memory))}
