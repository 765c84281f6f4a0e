"""Mixture of prompts: several learned contexts, of which a router picks two for every image.

Du et al. 2024, "Mixture of Prompt Learning for Vision Language Models". Reference: dyabel/mocoop, prompting/moe.py and losses.py.
Templates are divided into groups g = 1…G. An expert is a context around the class name that starts from the first template of
its group; p_gc is the unit mean of the frozen text vectors of class c over the templates of group g. With the image vector f,

    r = W f + b,  γ = softmax of the two largest entries of r, 0 elsewhere
    w_c(x) = Σ_g γ_g w_gc,                       p(c | x) = softmax_c(s f · w_c(x))
    text = mean_gc CE(softmax_k(w_gc · p_gk), c)
    gate = CE(softmax(r), softmax(z)),           z_g = f · p_gy, plus 10 for the two largest
    loss = CE(p, y) + 5 text + gate

Differs from it: the default groups are ours, because its lists belong to its data sets; every expert is computed in every step, where
the reference sets those that no image of a batch uses to 0 in the text loss; its optional shift of text vectors and tuning of
layer norms are left out. The reference aligns the names of new classes too; that is `more_names`, and recorded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from percept.core.errors import PerceptError
from percept.data.tokenizers import Tokenizer
from percept.methods.adaptation.contract import Adaptation, Training, Views
from percept.methods.adaptation.prompts import PromptConfig, SoftPrompt
from percept.methods.adaptation.texts import TEMPLATE, Base, averaged_vectors
from percept.models.clip import unit

GROUPS = (
    ("a photo of a {}.", "a picture of a {}."),
    ("a drawing of a {}.", "a drawing of the {} in black and white."),
    ("a dark picture of a {}.", "a picture of a {} in the fog."),
    ("an image with a {}.", "one {}.", "there is a {}."),
)
RAISED = 10.0
"""Added to the similarity of the nearest groups, so that the target of the router is about one half for each of two."""


def split_template(template: str, tokenizer: Tokenizer) -> PromptConfig:
    """Return learned tokens that start from the words of a template around the class name.

    Raises:
        PerceptError: the template has no {} or no words besides it.
    """
    before, found, after = template.rstrip(".").partition("{}")
    words = f"{before.strip()} {after.strip()}".strip()
    if not found or not words:
        raise PerceptError(f"the template {template!r} needs {{}} for the class name and words around it.")
    return PromptConfig(
        context=len(tokenizer.encode(words)), phrase=words, position=len(tokenizer.encode(before.strip()))
    )


def gates(scores: Float[Tensor, "b g"], count: int) -> Float[Tensor, "b g"]:
    """Return the softmax over the `count` largest scores of every row, and 0 for the others."""
    best = scores.topk(count, dim=1)
    return torch.zeros_like(scores).scatter(1, best.indices, best.values.softmax(dim=1))


def text_loss(experts: Float[Tensor, "g c d"], prototypes: Float[Tensor, "g c d"]) -> Float[Tensor, ""]:
    """Return the mean cross-entropy of recognising a class among the prototypes of its group; cosines are not scaled."""
    cosines = experts @ prototypes.mT
    label = torch.arange(cosines.shape[1], device=cosines.device).expand(len(cosines), -1)
    return F.cross_entropy(cosines.flatten(0, 1), label.flatten())


def gate_loss(
    scores: Float[Tensor, "b g"], near: Float[Tensor, "b g"], count: int, raised: float = RAISED
) -> Float[Tensor, ""]:
    """Return the cross-entropy of the router with the similarity of images to the prototypes of their class."""
    target = near.scatter_add(1, near.topk(count, dim=1).indices, torch.full_like(near[:, :count], raised))
    return F.cross_entropy(scores, target.softmax(dim=1))


class MoCoOp(Adaptation):
    """Several contexts and a router."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Weights of the reference; the groups of templates are ours."""

        groups: tuple[tuple[str, ...], ...] = GROUPS
        """Templates of each expert, with {} for the class name; the first is the start of its context."""
        best: int = 2
        """Experts that are used for an image."""
        router: Literal["learned", "uniform", "random"] = "learned"
        """uniform: every expert with equal weight; random: a router that is not trained."""
        router_scale: float = 10.0
        """Length of the image vectors that the router reads. Ours: with unit vectors it hardly moves in the steps of the recipe."""
        text_weight: float = 5.0
        """Of the alignment of experts with their templates; 0 to leave it out."""
        gate_weight: float = 1.0
        """Of the supervision of the router; 0 to leave it out."""
        clip: float = 1.0
        """Largest norm of the gradient."""
        more_names: tuple[str, ...] = ()
        """Further class names that are aligned in training, as the reference does with new classes; none of their images is read."""

        def __post_init__(self) -> None:
            object.__setattr__(self, "groups", tuple(tuple(group) for group in self.groups))
            object.__setattr__(self, "more_names", tuple(self.more_names))
            if not self.groups or not all(self.groups):
                raise PerceptError(f"groups must hold at least one template each, got {self.groups}.")
            if self.best < 1 or min(self.text_weight, self.gate_weight) < 0 or min(self.clip, self.router_scale) <= 0:
                raise PerceptError(
                    f"best must be at least 1, weights at least 0, clip and router_scale above 0, got best={self.best}, text_weight={self.text_weight}, "
                    f"gate_weight={self.gate_weight}, clip={self.clip}, router_scale={self.router_scale}."
                )

    def __init__(self, config: Config, base: Base, names: Sequence[str], template: str = TEMPLATE) -> None:
        super().__init__(config, base, names, template)
        starts = [split_template(group[0], base.tokenizer) for group in config.groups]
        self.experts = nn.ModuleList(SoftPrompt(start, base, self.names) for start in starts)
        self.router = nn.Linear(base.text.config.output_dim, len(starts))
        self.router.requires_grad_(config.router == "learned")
        self.leaks = ("names of further classes",) if config.more_names else ()
        self.use(names)

    @property
    def prompts(self) -> list[SoftPrompt]:
        """The contexts of the experts."""
        return [cast(SoftPrompt, each) for each in self.experts]

    def on_classes(self) -> None:
        """Rebuild the layout of the prompts."""
        self.aligned = (*self.names, *(name for name in self.config.more_names if name not in self.names))
        for prompt in self.prompts:
            prompt.use(self.aligned)

    def declared(self) -> dict[str, int]:
        """Return the contexts, and the router if it is trained."""
        sizes = {f"experts.{place}.context": prompt.count for place, prompt in enumerate(self.prompts)}
        if self.config.router == "learned":
            count = len(self.experts)
            sizes |= {"router.weight": count * self.base.text.config.output_dim, "router.bias": count}
        return sizes

    def aligned_vectors(self) -> Float[Tensor, "g c d"]:
        """Return the unit vectors of every expert for the classes and `more_names`."""
        return torch.stack([prompt.vectors(self.base.text) for prompt in self.prompts])

    def expert_vectors(self) -> Float[Tensor, "g c d"]:
        """Return the unit vectors of the classes by every expert."""
        if self.training or torch.is_grad_enabled():
            return self.aligned_vectors()[:, : len(self.names)]
        return self.constant("experts", self.aligned_vectors)[:, : len(self.names)]

    def class_vectors(self) -> Float[Tensor, "c d"]:
        """Return the unit mean over the experts; the logits weight them by image instead."""
        return unit(self.expert_vectors().mean(dim=0))

    def scores(self, vector: Float[Tensor, "b d"]) -> Float[Tensor, "b g"]:
        """Return the scores of the router [r]."""
        return self.router(self.config.router_scale * vector.to(self.router.weight.dtype)).float()

    def routes(self, batch: Views) -> Float[Tensor, "b g"]:
        """Return the weight of every expert for every image [γ]."""
        if self.config.router == "uniform":
            return torch.full((len(batch), len(self.experts)), 1 / len(self.experts), device=batch.vector.device)
        return gates(self.scores(batch.vector), self.used)

    @property
    def used(self) -> int:
        """Experts that are used for an image."""
        return min(self.config.best, len(self.experts))

    def mixed(self, batch: Views, experts: Float[Tensor, "g c d"]) -> Float[Tensor, "b c"]:
        """Return logits by the mixture of the experts."""
        cosines = torch.einsum("bd,gcd->bgc", self.image_vectors(batch), experts)
        return self.clip.scale() * torch.einsum("bg,bgc->bc", self.routes(batch), cosines)

    def logits(self, batch: Views) -> Float[Tensor, "b c"]:
        """Return the cosines with the class vectors of each image's own mixture."""
        return self.mixed(batch, self.expert_vectors())

    def prototypes(self) -> Float[Tensor, "g c d"]:
        """Return the frozen vectors of the groups of templates [p]."""
        return self.constant(
            "prototypes",
            lambda: torch.stack([averaged_vectors(self.base, self.aligned, group) for group in self.config.groups]),
        )

    def losses(self, batch: Views) -> dict[str, Tensor]:
        """Return the cross-entropy, the alignment of the experts and the supervision of the router."""
        config, experts = self.config, self.aligned_vectors()
        found = {"cross_entropy": F.cross_entropy(self.mixed(batch, experts[:, : len(self.names)]), batch.label)}
        if config.text_weight:
            found["text"] = config.text_weight * text_loss(experts, self.prototypes())
        if config.gate_weight and config.router == "learned":
            near = torch.einsum("bd,gbd->bg", batch.vector.float(), self.prototypes()[:, batch.label])
            found["gate"] = config.gate_weight * gate_loss(self.scores(batch.vector), near, self.used)
        return found

    def after_backward(self) -> None:
        """Clip the gradient."""
        nn.utils.clip_grad_norm_([each for each in self.parameters() if each.requires_grad], self.config.clip)

    def neutral_twin(self) -> "MoCoOp":
        """Return a single expert that starts from the template."""
        return MoCoOp(self.Config(groups=((TEMPLATE,),)), self.base, self.names)

    @classmethod
    def recipe(cls, shots: int) -> Training:
        """Return 50 epochs with rate 0.032, of which 5 warm up."""
        return Training(epochs=50, rate=0.032, warmup=5)

    @classmethod
    def tiny_config(cls) -> Config:
        """Return three experts."""
        return cls.Config(groups=(("a photo of a {}.",), ("an old {} book.", "the {}."), ("a red {}.",)))
