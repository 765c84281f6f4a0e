"""A method like MulKI: two teachers, the initial model and the one before the task, agree by their confidence on what is kept.

"Multi-Stage Knowledge Integration of Vision-Language Models for Continual Learning", arXiv:2411.06764. No code is published and only the
abstract was read: it names four stages, prototypes, relations within and between modalities, and two teachers that are weighted anew. All
formulas are ours, so results carry the name "mulki-like". With image prototypes P (the normalised mean vector of each class by the initial
model) and text prototypes Q (the class texts by the initial model) of all tasks seen, and a relation K(x; Z) = softmax(x Zᵀ / τ):

    eliciting ideas       L₁ = CE(softmax(s w P_tᵀ), diagonal), the classes of the task among their own prototypes
    adding new ideas      L₂ = mean over x in {f, w} and Z in {P, Q} of KL(K_T(x) ‖ K(x))
    distinguishing ideas  K_T = β K_initial + (1 - β) K_previous, β = e^c₀ / (e^c₀ + e^c₁), c: the greatest cosine of a teacher's vector
                          to the prototypes
    making connections    L₃ = KL as in L₂ for the class texts of earlier tasks
    loss = CE + λ₁ L₁ + λ₂ L₂ + λ₃ L₃

Prototypes take d numbers per class and modality; no image is stored and nothing outside of the tasks is read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from percept.core.errors import PerceptError
from percept.methods.adaptation.texts import Base
from percept.methods.continual.contract import (
    CommonConfig,
    Continual,
    Task,
    TaskBatch,
    bytes_of,
    copy_weights,
    frozen,
    image_vectors,
    prototypes,
)
from percept.models.clip import CLIP

TEACHERS = ("adaptive", "fixed", "initial", "previous")


class MulKILike(Continual):
    """Both towers, with two teachers and prototypes."""

    reads = ("prototypes and names of earlier tasks",)

    @dataclass(frozen=True, kw_only=True)
    class Config(CommonConfig):
        """All values are ours."""

        eliciting: float = 0.1
        """Weight of the loss between class texts and image prototypes [λ₁]."""
        relations: float = 1.0
        """Weight of the relations of the images and texts of the task [λ₂]; 0 leaves the second and third stage out."""
        connections: float = 1.0
        """Weight of the relations of the texts of earlier tasks [λ₃]."""
        teachers: Literal["adaptive", "fixed", "initial", "previous"] = "adaptive"
        """Both teachers, weighted by confidence or equally, or one of them alone."""
        temperature: float = 0.05
        """Of the relations [τ]."""

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.teachers not in TEACHERS or self.temperature <= 0:
                raise PerceptError(
                    f"teachers={self.teachers!r} and temperature={self.temperature}: teachers must be one of {', '.join(TEACHERS)}, and temperature "
                    "positive."
                )

    def __init__(self, config: Config, base: Base) -> None:
        super().__init__(config, base)
        self.initial, self.previous = frozen(self.clip), frozen(self.clip)
        width = self.clip.config.vision.output_dim or 0
        self.image_prototypes: Tensor
        self.text_prototypes: Tensor
        self.register_buffer("image_prototypes", torch.zeros(0, width))
        self.register_buffer("text_prototypes", torch.zeros(0, width))
        self.classes = 0
        """Classes of the task; their prototypes are the last ones."""
        self.earlier: Sequence[str] = ()

    @torch.no_grad()
    def begin(self, task: Task) -> None:
        """Keep the model before the task, and add the prototypes of the task."""
        copy_weights(self.previous, self.clip)
        shots = task.shots
        assert shots.pixels is not None
        pixels = shots.pixels
        vectors = image_vectors(self.initial, lambda rows: pixels(rows, None), len(shots))
        self.classes = len(shots.names)
        found = prototypes(vectors, shots.label.to(vectors.device), self.classes)
        self.image_prototypes = torch.cat([self.image_prototypes.to(found), found])
        texts = self.initial.embed_text(self.tokens(task.texts))
        self.text_prototypes = torch.cat([self.text_prototypes.to(texts), texts])

    def losses(self, batch: TaskBatch) -> dict[str, Tensor]:
        """Return the cross-entropy and the losses of the stages that are on."""
        config, scale = self.config, self.clip.scale()
        image, text = self.clip.embed_image(batch.image), self.clip.embed_text(batch.texts)
        found = {"cross_entropy": self.cross_entropy(scale * image @ text.T, batch.label)}
        if config.eliciting:
            own = self.image_prototypes[-self.classes :]
            target = torch.arange(len(text), device=text.device)
            found["eliciting"] = config.eliciting * F.cross_entropy(scale * text @ own.T, target)
        if config.relations:
            kept = (self._kept(image, batch.image, "image") + self._kept(text, batch.texts, "text")) / 2
            found["relations"] = config.relations * kept
        if config.connections and self.earlier:
            tokens = self.tokens(self.earlier)
            found["connections"] = config.connections * self._kept(self.clip.embed_text(tokens), tokens, "text")
        return found

    def _kept(self, student: Float[Tensor, "b d"], given: Tensor, side: Literal["image", "text"]) -> Float[Tensor, ""]:
        """Return the mean divergence of the student's relations to both kinds of prototypes from those of the teachers."""
        with torch.no_grad():
            seen = [_embed(teacher, given, side) for teacher in (self.initial, self.previous)]
            share = self._share(*seen)
        parts = []
        for bank in (self.image_prototypes, self.text_prototypes):
            first, second = ((vectors @ bank.T / self.config.temperature).softmax(dim=1) for vectors in seen)
            target = share * first + (1 - share) * second
            relation = (student @ bank.T / self.config.temperature).log_softmax(dim=1)
            parts.append(F.kl_div(relation, target, reduction="batchmean"))
        return torch.stack(parts).mean()

    def _share(self, first: Float[Tensor, "b d"], second: Float[Tensor, "b d"]) -> Float[Tensor, "b 1"]:
        """Return the weight of the initial model for each sample [β]."""
        fixed = {"fixed": 0.5, "initial": 1.0, "previous": 0.0}.get(self.config.teachers)
        if fixed is not None:
            return first.new_full((len(first), 1), fixed)
        banks = torch.cat([self.image_prototypes, self.text_prototypes])
        sure = torch.stack([(vectors @ banks.T).amax(dim=1) for vectors in (first, second)], dim=1)
        return sure.softmax(dim=1)[:, :1]

    def kept(self) -> dict[str, int]:
        """Return the bytes of the prototypes, and of the initial model unless the previous one is the only teacher."""
        found = {"prototypes": bytes_of(self.image_prototypes, self.text_prototypes)}
        if self.config.teachers != "previous":
            found["initial model"] = bytes_of(*self.initial.parameters())
        return found

    def end(self, task: Task) -> None:
        """Remember the texts of the task."""
        self.earlier = (*self.earlier, *task.texts)


def _embed(clip: CLIP, given: Tensor, side: Literal["image", "text"]) -> Float[Tensor, "b d"]:
    return clip.embed_image(given) if side == "image" else clip.embed_text(given)
