"""ZSCL: protect what a dual encoder knows while it learns one task after the other, in feature space and in parameter space.

Zheng et al. 2023, arXiv:2303.06628. Reference: Thunderbeee/ZSCL, mtil/src/models/finetune.py. With reference images and texts that are neither
labelled nor matched and have nothing to do with the tasks, R = s F T^T for image vectors F and text vectors T of them, and the initial model as
teacher [equations 2 to 4]:

    loss = CE + T² CE(softmax(R⁰ / T), R / T) over rows + the same over columns + μ Σ (θ - θ')²

with θ' the weights before the task. The result of a task is a running mean of its weights: after the steps 0, I, 2 I, … [equation 6]
θ̄ ← (n θ̄ + θ) / (n + 1) with n = 1, 2, …, which begins with the weights before the task.

Differs from it: nothing by default. In the reference the text vectors of the references are those of the initial model on both sides, so the
second distillation trains the image tower alone; `text_student="current"` takes the trained text tower, which the paper's words suggest.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from percept.core.errors import PerceptError
from percept.core.seed import derive
from percept.methods.adaptation.contract import tiny_base
from percept.methods.adaptation.texts import Base
from percept.methods.continual.contract import (
    CommonConfig,
    Continual,
    Task,
    TaskBatch,
    bytes_of,
    copy_weights,
    drift,
    frozen,
    soft_cross_entropy,
    tiny_task,
)

PART = 64
"""References that are encoded together."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """What the model must go on seeing as before: images and texts, unrelated to each other."""

    image: Float[Tensor, "r 3 y x"]
    """Preprocessed images."""
    texts: Sequence[str]


class ZSCL(Continual):
    """Both towers, with the initial model as teacher on references."""

    reads = ("unlabelled reference images and sentences",)

    @dataclass(frozen=True, kw_only=True)
    class Config(CommonConfig):
        """Defaults of the reference for the multi-domain benchmark."""

        images: float = 1.0
        """Weight of the distillation over the texts of each reference image; 0 switches it off."""
        sentences: float = 1.0
        """Weight of the distillation over the images of each reference text; 0 switches it off."""
        temperature: float = 2.0
        """Softens both sides [T]."""
        penalty: float = 1.0
        """Of the squared distance to the weights before the task, summed over all of them [μ]; depends on their number."""
        every: int = 100
        """Steps between two weights of the mean [I]; 0 to keep the last weights."""
        batch: int = 64
        """Reference images of a step."""
        text_student: Literal["initial", "current"] = "initial"
        """Text tower that gives the student's vectors of the reference texts."""

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.text_student not in ("initial", "current") or self.every < 0 or self.batch < 1:
                raise PerceptError(
                    f"text_student={self.text_student!r}, every={self.every} and batch={self.batch}: text_student must be initial or current, every at "
                    "least 0 and batch at least 1."
                )

    def __init__(self, config: Config, base: Base, reference: Reference | None = None) -> None:
        """Copy the towers.

        Args:
            reference: images and texts; give it before the first task if it is None here.
        """
        super().__init__(config, base)
        self.initial, self.previous, self.mean = (frozen(self.clip) for _ in range(3))
        self.counted = 0
        self.reference_images: Tensor
        self.reference_texts: Tensor
        for name in ("reference_images", "reference_texts"):
            self.register_buffer(name, torch.zeros(0, self.clip.config.vision.output_dim or 0))
        self.reference: Reference | None = None
        if reference is not None:
            self.refer(reference)

    @torch.no_grad()
    def refer(self, reference: Reference) -> None:
        """Take references, and compute the vectors that the initial model gives them."""
        if not len(reference.image) or not reference.texts:
            raise PerceptError("the reference needs at least one image and one text.")
        device = next(self.clip.parameters()).device
        self.reference = replace(reference, image=reference.image.to(device))
        self.reference_images = torch.cat([self.initial.embed_image(part) for part in self.reference.image.split(PART)])
        self.reference_texts = self.initial.embed_text(self.tokens(reference.texts))

    def begin(self, task: Task) -> None:
        """Keep the weights before the task.

        Raises:
            PerceptError: there is no reference.
        """
        if self.reference is None and (self.config.images or self.config.sentences):
            raise PerceptError("ZSCL needs reference images and sentences. Give reference=.")
        copy_weights(self.previous, self.clip)
        copy_weights(self.mean, self.clip)
        self.counted = 0

    def losses(self, batch: TaskBatch) -> dict[str, Tensor]:
        """Return the cross-entropy, both distillations and the penalty."""
        config = self.config
        found = {"cross_entropy": self.cross_entropy(self.logits(batch), batch.label)}
        if self.reference is not None and (config.images or config.sentences):
            student, teacher = self._relations()
            found["images"] = config.images * soft_cross_entropy(teacher, student, config.temperature)
            found["sentences"] = config.sentences * soft_cross_entropy(teacher.T, student.T, config.temperature)
        if config.penalty:
            found["drift"] = config.penalty * drift(self.clip, self.previous)
        return found

    def _relations(self) -> tuple[Float[Tensor, "r t"], Float[Tensor, "r t"]]:
        """Return the scaled cosines of reference images and texts, by the student and by the teacher [R, R⁰]."""
        assert self.reference is not None
        dice = torch.Generator().manual_seed(derive(0, "reference", self.step))
        rows = torch.randperm(len(self.reference.image), generator=dice)[: self.config.batch]
        scale = self.clip.scale()
        texts = self.reference_texts
        if self.config.text_student == "current":
            texts = self.clip.embed_text(self.tokens(self.reference.texts))
        teacher = scale.detach() * self.reference_images[rows] @ self.reference_texts.T
        return scale * self.clip.embed_image(self.reference.image[rows]) @ texts.T, teacher

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """Add the weights to the mean."""
        if self.config.every and step % self.config.every == 0:
            self.counted += 1
            for mean, value in zip(self.mean.parameters(), self.clip.parameters(), strict=True):
                mean.lerp_(value, 1 / (self.counted + 1))

    def end(self, task: Task) -> None:
        """Go on with the mean."""
        if self.config.every:
            copy_weights(self.clip, self.mean)

    def kept(self) -> dict[str, int]:
        """Return the bytes of the initial model and of the reference, with the text vectors in place of the sentences; nothing without a reference."""
        if self.reference is None:
            return {}
        return {
            "initial model": bytes_of(*self.initial.parameters()), "reference images": bytes_of(self.reference.image),
            "reference texts": bytes_of(self.reference_texts),
        }  # fmt: skip

    @classmethod
    def tiny_config(cls) -> Config:
        """Return settings for a few steps."""
        return cls.Config(every=1, batch=3)

    @classmethod
    def tiny(cls) -> tuple["ZSCL", TaskBatch]:
        """Return the method with four reference images."""
        image = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(9))
        method = cls(cls.tiny_config(), tiny_base(), Reference(image=image, texts=("a cup", "an old photo", "red")))
        task = tiny_task(method, 0)
        method.begin(task)
        return method, task.batch(range(4), None, method.tokens(task.texts))
