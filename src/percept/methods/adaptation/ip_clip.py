"""IP-CLIP: prompts from the style and content of an image, that work in an authorised domain and fail in all others.

Wang et al. 2025, arXiv:2503.02393. Reference: LyWang12/IP-CLIP, {Target_Specified,...}/trainers/ipclip_vitB16.py; the losses of the paper are
taken from notes about it. With the tokens h_l of all L blocks of the frozen image tower, their mean μ_l and deviation σ_l over tokens:

    domain token l = U_l V_l (μ_l + σ_l) / 2           content token = mix(W_1 μ_1, …, W_L μ_L)
    context        = [domain tokens, the same again, content token × 4],   w_c(x) = Text(context, name of c)
    style enhancement: F_D(f) = unit(f + out(softmax(0.1 q(f) k(bank_D)ᵀ) v(bank_D))),  bank_D: for each class the mean of the vectors
        that the frozen model is surest of, K of domain D                              (D: a authorised, u unauthorised)
    loss = CE_a - CE_u + CE_ia - CE_iu - KL - λ₁ MSE + λ₂ H
        CE_i: of the enhanced vectors; KL, MSE: between the domains' answers and domain tokens; H: entropy on authorised images

A term with a minus sign stops where it reaches `cap`. Guesses: an enhanced vector of an image uses the bank of its own domain (self-enhanced)
or of the other one (cross-domain), and CE_i is the mean of both; pairs of KL and MSE are images of one class. The release has -CE_ia where
the unauthorised domain is given and +CE_ia otherwise, takes KL over classes of the text vectors and entropy over the batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from percept.core.errors import PerceptError
from percept.methods.adaptation.contract import TINY_NAMES, Adaptation, Training, Views, tiny_base
from percept.methods.adaptation.ip_domains import Domain, Pairs, pair_batches
from percept.methods.adaptation.prompts import PromptConfig, SoftPrompt
from percept.methods.adaptation.texts import TEMPLATE, Base
from percept.methods.adaptation.trainer import fit_batches
from percept.models.clip import unit

TEXTS = 512
"""Prompts that go through the text tower together outside of training."""


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Factors of the terms of the loss; 0 removes one. The signs of the paper, the sizes of the release where the unauthorised domain is given."""

    authorised: float = 1.0
    """Of CE_a."""
    unauthorised: float = -1.0
    """Of CE_u."""
    enhanced_authorised: float = 1.0
    """Of CE_ia; -1 in the release where the unauthorised domain is given."""
    enhanced_unauthorised: float = -1.0
    """Of CE_iu."""
    answers: float = -1.0
    """Of KL."""
    tokens: float = -0.1
    """Of MSE [-λ₁]; -5 in the release where the unauthorised domain is not given."""
    entropy: float = 0.01
    """Of H [λ₂]; 1 in the release where the unauthorised domain is not given."""


class StyleContent(nn.Module):
    """Projects what an image is like into tokens of the text tower; 8,666,125 values for ViT-B/16."""

    def __init__(self, layers: int, width: int, hidden: int, text: int) -> None:
        super().__init__()
        self.style = nn.ModuleList(nn.Sequential(nn.Linear(width, hidden), nn.Linear(hidden, text)) for _ in range(layers))  # fmt: skip
        self.content = nn.ModuleList(nn.Linear(width, text) for _ in range(layers))
        self.mix = nn.Linear(layers, 1)

    def domain_tokens(self, style: Float[Tensor, "b l w"]) -> Float[Tensor, "b l t"]:
        """Return a token for every block."""
        return torch.stack([one(each) for one, each in zip(self.style, style.unbind(1), strict=True)], dim=1)

    def content_token(self, content: Float[Tensor, "b l w"]) -> Float[Tensor, "b 1 t"]:
        """Return one token of all blocks."""
        each = torch.stack([one(part) for one, part in zip(self.content, content.unbind(1), strict=True)], dim=-1)
        return self.mix(each).transpose(1, 2)


class Interaction(nn.Module):
    """Attention of an image vector to the classes of a bank."""

    def __init__(self, length: int, hidden: int = 64) -> None:
        super().__init__()
        self.project = nn.Sequential(
            nn.Linear(length, hidden), nn.BatchNorm1d(hidden), nn.ReLU(),
            nn.Linear(hidden, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, 3 * length),
        )  # fmt: skip
        self.out = nn.Linear(length, length)

    def forward(
        self, vector: Float[Tensor, "b d"], bank: Float[Tensor, "c d"], there: Bool[Tensor, " c"]
    ) -> Float[Tensor, "b d"]:
        """Return enhanced unit vectors; classes without vectors in the bank take no part."""
        query, (_, key, value) = self.project(vector).chunk(3, dim=-1)[0], self.project(bank).chunk(3, dim=-1)
        logits = (0.1 * query @ key.T).masked_fill(~there, float("-inf"))
        return unit(vector + self.out(logits.softmax(dim=-1) @ value))


class IPCLIP(Adaptation):
    """The prompt generator and the style-enhancement branch, which only training needs."""

    reads = "images"
    leaks = ("labelled images of the unauthorised domain, if it is given",)

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Defaults of the release."""

        hidden: int = 256
        """Width of the projection of domain tokens."""
        style: bool = True
        """Use domain tokens."""
        content: bool = True
        """Use content tokens."""
        domain_copies: int = 2
        """How often the domain tokens stand in the context."""
        content_copies: int = 4
        """How often the content token stands in the context."""
        free: int = 4
        """Learned tokens of a context without style and content: a plain CoOp prompt."""
        self_enhanced: bool = True
        """Enhance a vector by the bank of its own domain."""
        cross_domain: bool = True
        """Enhance a vector by the bank of the other domain. Without both, there is no enhancement branch."""
        bank: int = 5
        """Vectors of each class in a bank [K]."""
        train_interaction: bool = False
        """Train the attention of the branch, which the release leaves at its random start."""
        weights: Weights = field(default_factory=Weights)
        """Factors of the terms."""
        cap: float = 5.0
        """Value at which a term with a minus sign stops."""

        def __post_init__(self) -> None:
            if min(self.hidden, self.free, self.bank, self.domain_copies, self.content_copies) < 1 or self.cap <= 0:
                raise PerceptError("sizes, copies and cap must be above 0. Use style=False or content=False to leave tokens out.")  # fmt: skip

    authorised_bank: Tensor
    authorised_there: Tensor
    unauthorised_bank: Tensor
    unauthorised_there: Tensor

    def __init__(self, config: Config, base: Base, names: Sequence[str], template: str = TEMPLATE) -> None:
        super().__init__(config, base, names, template)
        vision, text = base.clip.config.vision, base.text.config
        self.generator = StyleContent(vision.layers, vision.width, config.hidden, text.width)
        self.generator.style.requires_grad_(config.style)
        self.generator.content.requires_grad_(config.content)
        self.generator.mix.requires_grad_(config.content)
        count = config.style * vision.layers * config.domain_copies + config.content * config.content_copies
        self.prompt = SoftPrompt(PromptConfig(context=count or config.free), base, self.names)
        self.prompt.context.requires_grad_(not count)
        self.interaction = Interaction(text.output_dim).requires_grad_(config.train_interaction and self.enhanced)
        self.use(names)

    @property
    def enhanced(self) -> bool:
        """Whether there is a style-enhancement branch."""
        return self.config.self_enhanced or self.config.cross_domain

    def on_classes(self) -> None:
        """Rebuild the layout of the prompts, and empty the banks of a different number of classes."""
        self.prompt.use(self.names)
        count, device = len(self.names), self.prompt.context.device
        for domain in ("authorised", "unauthorised"):
            if len(getattr(self, f"{domain}_there", ())) != count:
                vectors = torch.zeros(count, self.base.text.config.output_dim, device=device)
                self.register_buffer(f"{domain}_bank", vectors)
                self.register_buffer(f"{domain}_there", torch.zeros(count, dtype=torch.bool, device=device))

    def declared(self) -> dict[str, int]:
        """Return the parts of the generator that are used, or the free context, and the interaction if it is trained."""
        parts = {"generator.style": self.config.style, "generator.content": self.config.content}
        parts |= {"generator.mix": self.config.content, "interaction": self.config.train_interaction and self.enhanced}
        used = tuple(f"{name}." for name, there in parts.items() if there)
        counts = {name: each.numel() for name, each in self.named_parameters() if name.startswith(used)} if used else {}
        return counts if self.config.style or self.config.content else counts | {"prompt.context": self.prompt.count}

    def train(self, mode: bool = True) -> "IPCLIP":
        """Set the mode of what is trained; a random interaction keeps its first statistics."""
        super().train(mode)
        self.interaction.train(mode and self.config.train_interaction)
        return self

    def class_vectors(self) -> Float[Tensor, "c d"]:
        """Return the vectors of the template: the method has none that hold for all images."""
        return self.hand_vectors()

    @torch.no_grad()
    def see(self, image: Float[Tensor, "b 3 y x"], label: Int[Tensor, " b"]) -> Domain:
        """Return what the frozen tower says about preprocessed images."""
        layers = range(self.clip.config.vision.layers)
        out = self.clip.vision(image, layers=layers)
        hidden = torch.stack([out.hidden[layer].float() for layer in layers], dim=1)
        mean, deviation = hidden.mean(dim=2), hidden.std(dim=2)
        assert out.pooled is not None
        return Domain(vector=unit(out.pooled), style=(mean + deviation) / 2, content=mean, label=label)

    def context(self, batch: Domain) -> Float[Tensor, "b m t"]:
        """Return the context of each image."""
        parts: list[Tensor] = []
        if self.config.style:
            parts += [self.generator.domain_tokens(batch.style)] * self.config.domain_copies
        if self.config.content:
            parts += [self.generator.content_token(batch.content)] * self.config.content_copies
        return torch.cat(parts, dim=1) if parts else self.prompt.context.expand(len(batch), -1, -1)

    def answers(self, batch: Domain, *vectors: Float[Tensor, "b d"]) -> list[Float[Tensor, "b c"]]:
        """Return the logits of the images' own vectors, and of further vectors, with the prompts of the images."""
        named = self.prompt.vectors(self.base.text, self.context(batch).to(self.prompt.context.dtype))
        return [self.clip.scale() * torch.einsum("bd,bcd->bc", each, named) for each in (batch.vector, *vectors)]

    def logits(self, batch: Views) -> Float[Tensor, "b c"]:
        """Return the logits of preprocessed images."""
        assert batch.image is not None
        return self.seen_logits(self.see(batch.image, batch.label))

    def seen_logits(self, batch: Domain) -> Float[Tensor, "b c"]:
        """Return the logits of images that the frozen tower has seen, in parts."""
        size = max(1, TEXTS // len(self.names))
        return torch.cat([self.answers(batch.rows(slice(start, start + size)))[0] for start in range(0, len(batch), size)])  # fmt: skip

    # training

    def prepare(self, shots: tuple[Domain, Domain]) -> None:  # type: ignore[override]
        """Fill the banks: of authorised images those that the frozen model gets right, of the others by its answers."""
        for domain, batch in zip(("authorised", "unauthorised"), shots, strict=True):
            best = (self.clip.scale() * batch.vector @ self.hand_vectors().T).softmax(dim=1).max(dim=1)
            sure = best.values if domain == "unauthorised" else best.values * (best.indices == batch.label)
            bank, there = getattr(self, f"{domain}_bank"), getattr(self, f"{domain}_there")
            for number in range(len(self.names)):
                chosen = torch.where(best.indices == number, sure, 0.0).topk(min(self.config.bank, len(sure)))
                rows = chosen.indices[chosen.values > 0]
                there[number] = len(rows) > 0
                bank[number] = batch.vector[rows].mean(dim=0) if len(rows) else 0.0

    def enhance(self, batch: Domain, own: str, other: str) -> list[Float[Tensor, "b d"]]:
        """Return the self-enhanced and the cross-domain vectors, as far as they are used and the bank is not empty."""
        wanted = {own: self.config.self_enhanced, other: self.config.cross_domain}
        banks = {name: (getattr(self, f"{name}_bank"), getattr(self, f"{name}_there")) for name in wanted}
        return [self.interaction(batch.vector, *banks[name]) for name, used in wanted.items() if used and bool(banks[name][1].any())]  # fmt: skip

    def losses(self, batch: Pairs) -> dict[str, Tensor]:  # type: ignore[override]
        """Return the terms that are used, weighted."""
        one, other = batch.split()
        own, *inside = self.answers(one, *self.enhance(one, "authorised", "unauthorised"))
        far, *outside = self.answers(other, *self.enhance(other, "unauthorised", "authorised"))
        shares = own.log_softmax(dim=1)
        terms = {
            "authorised": F.cross_entropy(own, one.label),
            "unauthorised": F.cross_entropy(far, other.label),
            "answers": F.kl_div(far.log_softmax(dim=1), shares, log_target=True, reduction="batchmean"),
            "entropy": -(shares.exp() * shares).sum(dim=1).mean(),
        }
        if inside and outside:
            terms["enhanced_authorised"] = torch.stack([F.cross_entropy(each, one.label) for each in inside]).mean()
            terms["enhanced_unauthorised"] = torch.stack(
                [F.cross_entropy(each, other.label) for each in outside]
            ).mean()
        if self.config.style:
            near, distant = (self.generator.domain_tokens(each.style) for each in (one, other))
            terms["tokens"] = F.mse_loss(near, distant)
        factors = {name: getattr(self.config.weights, name) for name in terms}
        bounded = {name: value if factors[name] > 0 else value.clamp(max=self.config.cap) for name, value in terms.items()}  # fmt: skip
        return {name: factors[name] * value for name, value in bounded.items() if factors[name]}

    def forward(self, batch: Pairs) -> dict[str, Tensor]:  # type: ignore[override]
        """Return the sum of the terms, and each of them."""
        losses = self.losses(batch)
        return {"loss": torch.stack(list(losses.values())).sum(), **{name: each.detach() for name, each in losses.items()}}  # fmt: skip

    @classmethod
    def recipe(cls, shots: int) -> Training:
        """Return the release's: Adam, 50 epochs of 8 + 8 images, rate 0.01 (1e-5 in notes about the paper)."""
        return Training(epochs=50, batch=8, rate=1e-2, optimiser="adamw", weight_decay=0.0)

    @classmethod
    def tiny(cls) -> tuple["IPCLIP", Pairs]:  # type: ignore[override]
        """Return a method of a few thousand parameters and a batch for it."""
        task = cls(cls.Config(hidden=8, domain_copies=1, content_copies=1), tiny_base(), TINY_NAMES)
        label = torch.tensor([0, 1, 2, 1])
        batch = Pairs.of(*(task.see(torch.randn(4, 3, 16, 16), label) for _ in range(2)))
        task.prepare(batch.split())
        return task, batch


def protect(
    method: IPCLIP, authorised: Domain, unauthorised: Domain, training: Training, *, seed: int, told: Callable[[int, float], None] = lambda *_: None
) -> IPCLIP:  # fmt: skip
    """Train the prompts on pairs of images of one class, and put the method in evaluation mode.

    Args:
        method: its classes are those of the labels.
        authorised: images that the model shall recognise.
        unauthorised: images that it shall not recognise, of the same classes; `percept.methods.adaptation.ip_domains` makes some.
        training: optimisation; `recipe` has that of the release.
        seed: of the order and of the pairs.
        told: called with the epoch and its mean loss.

    Raises:
        PerceptError: a class of the authorised images has no unauthorised image.
    """
    missing = set(authorised.label.tolist()) - set(unauthorised.label.tolist())
    if missing:
        raise PerceptError(
            f"the class {method.names[min(missing)]} has no unauthorised image. Give one of every class."
        )
    method.prepare((authorised, unauthorised))
    fit_batches(method, training, pair_batches(authorised, unauthorised, training.batch, seed), told)
    return method
