"""BiomedCoOp: CoOp with two regularisers from several sentences about each class.

Koleilat et al. 2024, arXiv:2411.15232. Reference: HealthX-Lab/BiomedCoOp, trainers/BiomedCoOp. With the frozen vectors E_cs of sentence
s about class c, the frozen image vector f⁰ and N = images × classes of a batch,

    score_s = mean_b max_c s f⁰_b · E_cs,           K = {s: |score_s - mean| / std ≤ τ}
    consistency = mean over c and d of (w_c - unit(mean_s E_cs))²
    distillation = KL(softmax_c(s f⁰ · unit(mean_{s in K} E_cs)) ‖ softmax_c(s f · w_c)) / N
    loss = CE + λ₁ consistency + λ₂ distillation

The reference first scales scores by median and median deviation, which changes nothing: K is the same for any a · score + b with a > 0.
A sentence is selected by its place for all classes together, so one wrong sentence of one class cannot be rejected alone.

Differs from it: works on any text tower; data sets without sentences get the written ones of `sentences`; λ and τ are one choice for
all data sets (the reference has one for each); repeated sentences of a class with fewer count once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from percept.core.errors import PerceptError
from percept.methods.adaptation.contract import Shots, Training, Views
from percept.methods.adaptation.prompts import PHRASE, PromptConfig, Prompted
from percept.methods.adaptation.sentences import SentenceBank, sentences_of
from percept.methods.adaptation.texts import TEMPLATE, Base


def sentence_scores(logits: Float[Tensor, "b c s"]) -> Float[Tensor, " s"]:
    """Return the mean over images of the largest logit of any class, for every place of a sentence."""
    return logits.amax(dim=1).mean(dim=0)


def usual(scores: Float[Tensor, " s"], threshold: float) -> Bool[Tensor, " s"]:
    """Return which scores are at most `threshold` standard deviations from their mean; all of them if none is or all are equal."""
    kept = (scores - scores.mean()).abs() <= threshold * scores.std(correction=0)
    return kept if bool(kept.any()) else torch.ones_like(kept)


def distillation_loss(student: Float[Tensor, "b c"], teacher: Float[Tensor, "b c"]) -> Float[Tensor, ""]:
    """Return KL(teacher ‖ student) of logits, summed and divided by images × classes."""
    found = F.kl_div(student.log_softmax(dim=1), teacher.log_softmax(dim=1), log_target=True, reduction="sum")
    return found / student.numel()


class BiomedCoOp(Prompted):
    """A learned context that sentences about the classes regularise."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Four tokens that start from "a photo of a"; weights of the reference for its brain images (BTMRI) with few shots of all classes.

        For base and new classes of the same images it has consistency 0.5, distillation 0.5, threshold 1.25 and 50 epochs.
        """

        prompt: PromptConfig = field(default_factory=lambda: PromptConfig(context=4, phrase=PHRASE))
        """The learned tokens."""
        consistency: float = 0.5
        """Weight of the distance to the mean sentence [λ₁]; 0 to leave it out."""
        distillation: float = 0.25
        """Weight of the predictions by selected sentences [λ₂]; 0 to leave it out."""
        threshold: float = 1.5
        """Standard deviations within which a sentence is selected [τ]."""
        select: bool = True
        """Distil from the selected sentences; otherwise from all."""
        memory: float = 0.0
        """Share of the scores of earlier batches in those of a batch, from 0 to below 1. Ours: a batch of few images is noisy; 0 is the paper."""

        def __post_init__(self) -> None:
            if min(self.consistency, self.distillation) < 0 or not self.threshold > 0 or not 0 <= self.memory < 1:
                raise PerceptError(
                    f"consistency and distillation must be at least 0, threshold above 0 and memory from 0 to below 1, got {self.consistency}, "
                    f"{self.distillation}, {self.threshold} and {self.memory}."
                )

    def __init__(self, config: Config, base: Base, names: Sequence[str], template: str = TEMPLATE) -> None:
        super().__init__(config, base, names, template)
        self.fold()

    def prepare(self, shots: Shots) -> None:
        """Read the sentences."""
        self.fold()
        self.bank = SentenceBank(self.base, sentences_of(shots))

    def fold(self) -> None:
        """Remove the sentences and what is known of their selection."""
        self.bank: SentenceBank | None = None
        self._scores: Tensor | None = None
        self._kept: Tensor | int = 0
        self._steps = 0

    @property
    def kept_share(self) -> Float[Tensor, " s"]:
        """Share of the steps in which each place of a sentence was selected; only after training with a selection."""
        return torch.as_tensor(self._kept / self._steps)

    @torch.no_grad()
    def selected(self, vector: Float[Tensor, "b d"]) -> Bool[Tensor, " s"]:
        """Return which places of sentences are selected for a batch [K]."""
        assert self.bank is not None
        scores = sentence_scores(self.clip.scale() * torch.einsum("bd,csd->bcs", vector.float(), self.bank.vectors))
        if self._scores is not None:
            scores = torch.lerp(scores, self._scores, self.config.memory)
        self._scores, kept = scores, usual(scores, self.config.threshold)
        self._kept, self._steps = self._kept + kept.float(), self._steps + 1
        return kept

    def losses(self, batch: Views) -> dict[str, Tensor]:
        """Return the cross-entropy, the consistency and the distillation."""
        assert self.bank is not None, "prepare reads the sentences"
        config, vectors = self.config, self.class_vectors()
        logits = self.clip.scale() * self.image_vectors(batch) @ vectors.T
        found = {"cross_entropy": F.cross_entropy(logits, batch.label)}
        if config.consistency:
            found["consistency"] = config.consistency * F.mse_loss(vectors, self.bank.mean())
        if config.distillation:
            kept = self.selected(batch.vector) if config.select else None
            teacher = (self.clip.scale() * batch.vector.float() @ self.bank.mean(kept).T).detach()
            found["distillation"] = config.distillation * distillation_loss(logits, teacher)
        return found

    @classmethod
    def recipe(cls, shots: int) -> Training:
        """Return that for few shots of all classes: 100 epochs of batches of four images with rate 0.0025."""
        return Training(epochs=100, batch=4, rate=2.5e-3)
