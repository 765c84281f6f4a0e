"""DetPro: class prompts that are learned on regions, one for each grade of overlap, with background that looks like no class.

Du et al. 2022, arXiv:2203.14940. Reference: dyabel/detpro, prompt/{run,trainer,coop_mini}.py. With unit vectors f of regions, the class
vectors w^g of the prompt of grade g, and p^g(c | f) = softmax_c(cos(f, w^g_c) / 0.01) over the C classes that are trained on:

    a region of class c whose overlap lies in grade g:   -log p^g(c | f), weight N / (C n_c)          (n_c: regions of c in g)
    background interpretation, every grade:              -1/C Σ_c log p^g(c | f), weight N / (2 N_background)
    loss of a grade = Σ weight · term / Σ weight
    context grading: w_c = unit(mean_g unit(w^g_c))

Differs from it: the grades, which the reference trains in separate runs, are trained together; the sum of their losses has the same gradient
for each. N counts the background regions too (a guess: with it, background counts half as much as all classes together). The overlaps of a
grade are closed at the top of the last one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from percept.core.errors import PerceptError
from percept.core.seed import derive
from percept.methods.adaptation.contract import TINY_NAMES, Adaptation, Training, tiny_base
from percept.methods.adaptation.prompts import PromptConfig, SoftPrompt
from percept.methods.adaptation.texts import TEMPLATE, Base
from percept.methods.adaptation.trainer import fit_batches
from percept.methods.detection.regions import BACKGROUND, Regions
from percept.models.clip import unit


class DetPro(Adaptation):
    """A prompt for each grade on frozen towers; it classifies regions, and whole images like any other method."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Paper defaults: eight tokens before the name and five grades."""

        prompt: PromptConfig = field(default_factory=lambda: PromptConfig(context=8))
        """The learned tokens of a grade."""
        grades: tuple[float, ...] = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
        """Limits of the grades of overlap. (0.5, 1.0): one prompt for all regions; (1.0, 1.0): one prompt for exact boxes only."""
        background: Literal["uniform", "learned", "none"] = "uniform"
        """uniform: background looks like no class; learned: like a vector that is trained; none: classes only."""
        temperature: float = 0.01
        """Divides the cosine in training; 1 / 100, the scale of the model that the paper adapts."""

        def __post_init__(self) -> None:
            object.__setattr__(self, "grades", tuple(self.grades))
            if len(self.grades) < 2 or list(self.grades) != sorted(self.grades) or self.temperature <= 0:
                raise PerceptError(
                    f"grades must be at least two increasing limits and temperature above 0, got {self.grades} and {self.temperature}."
                )
            if self.background not in ("uniform", "learned", "none"):
                raise PerceptError(f"background must be uniform, learned or none, got {self.background!r}.")

    def __init__(self, config: Config, base: Base, names: Sequence[str], template: str = TEMPLATE) -> None:
        super().__init__(config, base, names, template)
        count = len(config.grades) - 1
        self.prompts = nn.ModuleList(SoftPrompt(config.prompt, base, self.names) for _ in range(count))
        if config.background == "learned":
            self.elsewhere = nn.Parameter(torch.randn(count, base.text.config.output_dim))
        self.weights: Tensor
        self.register_buffer("weights", torch.ones(count, len(self.names) + 1), persistent=False)
        self.use(names)

    def on_classes(self) -> None:
        """Rebuild the layout of the prompts."""
        for prompt in self.prompts:
            prompt.use(self.names)  # type: ignore[operator]

    def declared(self) -> dict[str, int]:
        """Return M · width values for each grade, and the learned background vectors if there are any."""
        count, text = len(self.prompts), self.base.text.config
        contexts = {f"prompts.{grade}.context": self.config.prompt.context * text.width for grade in range(count)}
        return {"elsewhere": count * text.output_dim} | contexts if self.config.background == "learned" else contexts

    def graded(self) -> Float[Tensor, "g c d"]:
        """Return the unit class vectors of each grade."""
        contexts = torch.stack([prompt.context for prompt in self.prompts])  # type: ignore[arg-type]
        return self.prompts[0].vectors(self.base.text, contexts)  # type: ignore[operator]

    def class_vectors(self) -> Float[Tensor, "c d"]:
        """Return the ensemble of all grades."""
        return unit(self.graded().mean(dim=0))

    def prepare(self, shots: Regions) -> None:  # type: ignore[override]
        """Compute the weights of the classes of each grade and of background from all regions."""
        weights = torch.zeros(len(self.prompts), len(self.names) + 1, device=self.weights.device)
        outside = shots.label == BACKGROUND
        for grade, inside in enumerate(self.members(shots)):
            total = int(inside.sum() + outside.sum())
            counts = torch.bincount(shots.label[inside], minlength=len(self.names)).float()
            weights[grade, :-1] = torch.where(counts > 0, total / (len(self.names) * counts.clamp(min=1)), 0.0)
            weights[grade, -1] = total / (2 * max(1, int(outside.sum())))
        self.weights = weights

    def members(self, batch: Regions) -> Tensor:
        """Return which regions of a class belong to each grade [g, n]."""
        limits = torch.tensor(self.config.grades, device=batch.overlap.device)
        high = limits[1:].clone()
        high[-1] += 1e-3  # closed
        overlap = batch.overlap[None]
        near = limits[:-1, None] - 1e-6
        return (overlap >= near) & (overlap < high[:, None]) & (batch.label != BACKGROUND)

    def losses(self, batch: Regions) -> dict[str, Tensor]:  # type: ignore[override]
        """Return the two terms, each summed over the grades."""
        logits = torch.einsum("nd,gcd->gnc", batch.vector.float(), self.graded()) / self.config.temperature
        if self.config.background == "learned":
            other = torch.einsum("nd,gd->gn", batch.vector.float(), unit(self.elsewhere)) / self.config.temperature
            logits = torch.cat([logits, other[..., None]], dim=-1)
        shares = logits.log_softmax(dim=-1)
        label, outside = batch.label.clamp(min=0), batch.label == BACKGROUND
        named = self.weights[:, label] * self.members(batch)
        empty = self.weights[:, -1:] * outside * (self.config.background != "none")
        of_class = -shares.gather(2, label.expand(len(shares), -1)[..., None])[..., 0]
        of_empty = -shares[..., -1] if self.config.background == "learned" else -shares.mean(dim=-1)
        total = (named + empty).sum(dim=1).clamp(min=1e-9)
        return {
            "classes": ((named * of_class).sum(dim=1) / total).sum(),
            "background": ((empty * of_empty).sum(dim=1) / total).sum(),
        }

    def forward(self, batch: Regions) -> dict[str, Tensor]:  # type: ignore[override]
        """Return the sum of the terms, and each of them."""
        losses = self.losses(batch)
        return {"loss": losses["classes"] + losses["background"], **{name: each.detach() for name, each in losses.items()}}  # fmt: skip

    @classmethod
    def recipe(cls, shots: int) -> Training:
        """Return the paper's: SGD without momentum, 6 epochs of 512 regions, a cosine without warm-up."""
        return Training(epochs=6, batch=512, rate=2e-3, momentum=0.0, warmup=0)

    @classmethod
    def tiny(cls) -> tuple["DetPro", Regions]:  # type: ignore[override]
        """Return a method of a few thousand parameters and regions of all grades."""
        task = cls(cls.Config(prompt=PromptConfig(context=4)), tiny_base(), TINY_NAMES)
        overlap = torch.tensor([0.55, 0.65, 0.75, 0.85, 0.95, 1.0, 0.3, 0.2])
        label = torch.tensor([0, 1, 2, 0, 1, 2, BACKGROUND, BACKGROUND])
        batch = Regions(vector=unit(torch.randn(8, 12)), label=label, overlap=overlap)
        task.prepare(batch)
        return task, batch


def learn(
    method: DetPro, regions: Regions, training: Training, *, seed: int, told: Callable[[int, float], None] = lambda *_: None
) -> DetPro:  # fmt: skip
    """Train the prompts on regions of the classes in use, and put the method in evaluation mode.

    Args:
        method: its classes are those of the labels.
        regions: of all training images.
        training: optimisation; `recipe` has that of the paper.
        seed: of the order of the regions.
        told: called with the epoch and its mean loss.

    Raises:
        PerceptError: no region belongs to any grade.
    """
    if not bool(method.members(regions).any()):
        raise PerceptError(
            "no region overlaps a labelled thing enough for any grade. Give regions with larger overlaps."
        )
    method.prepare(regions)

    def batches(epoch: int) -> list[Regions]:
        dice = torch.Generator().manual_seed(derive(seed, "regions", epoch))
        parts = torch.randperm(len(regions), generator=dice).split(training.batch)
        return [Regions(**{name: value[rows] for name, value in regions.tensors().items()}) for rows in parts]

    fit_batches(method, training, batches, told)
    return method
