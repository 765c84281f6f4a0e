"""GRAM: meta-learn where a prompt starts and how its gradients are changed, from image-text pairs without labels.

Li et al. 2023, arXiv:2303.06571. No code and no full text were at hand, so only the idea is the paper's; the rest is ours. Pairs are clustered
at two levels by [f⁰; t⁰]. An episode takes a support and a query set from different clusters; the captions of a set are its classes.
For the loss L of any prompt method with trained values θ, and a function M_φ of gradients [equations of the skeleton]

    g = ∇_θ L(θ; support),  θ' = θ - α M_φ(g),  min over θ and φ of the mean of L(θ'; query)

Then θ is the start of few-shot training, whose gradients M_φ changes too. M_φ, the identity at first, is

    scale  2 sigmoid(a) g + b |g|, with two numbers for each trained tensor
    mlp    g + |g| W₂ tanh(W₁ [g / |g|, θ]), element by element

with the root mean square |g| of a tensor, so that no gradient gives no step.

Every choice of the configuration is a guess of ours; it works for any method whose trained values do not depend on the classes.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from percept.core.config import from_dict
from percept.core.errors import PerceptError, unknown_name
from percept.core.report import track
from percept.core.seed import derive
from percept.methods.adaptation import ADAPTATIONS
from percept.methods.adaptation.contract import Adaptation, Shots, Training, Views
from percept.methods.adaptation.pairs import Pairs, episode, world_pairs
from percept.methods.adaptation.texts import TEMPLATE, Base
from percept.models.clip import CLIP

HIDDEN = 8
"""Hidden units of the element-wise network."""
_learned: "WeakKeyDictionary[nn.Module, dict[Any, Any]]" = WeakKeyDictionary()
"""Starts that were made for a pair of towers in this process, by configuration and seed, and the pairs that were drawn last."""


@dataclass(frozen=True, kw_only=True)
class MetaConfig:
    """Meta-learning. All of it is ours."""

    learn: Literal["gram", "maml", "pretraining", "nothing"] = "gram"
    """gram: start and regulation; maml: the start only; pretraining: the start by plain training on the same pairs; nothing: the method's own start."""
    regulation: Literal["scale", "mlp"] = "scale"
    """Form of the regulating function [M]."""
    pairs: int = 4000
    """Image-text pairs."""
    shown: float = 0.4
    """Largest share of its image that a pair shows; whole images are too easy for a model that was trained on the labelled world."""
    top: int = 8
    """Clusters of the first level."""
    leaf: int = 8
    """Clusters within each of them."""
    leaves: int = 4
    """Clusters in a support or query set."""
    each: int = 4
    """Pairs of each of them."""
    episodes: int = 300
    inner_rate: float = 0.02
    """Rate of the step on the support set [α]."""
    outer_rate: float = 1e-3
    """Rate of Adam for the start."""
    regulation_rate: float = 1e-2
    """Rate of Adam for the regulation."""
    second_order: bool = True
    """Differentiate through the gradient of the inner step too."""

    def __post_init__(self) -> None:
        if self.learn not in ("gram", "maml", "pretraining", "nothing") or self.regulation not in ("scale", "mlp"):
            raise PerceptError(
                f"learn must be gram, maml, pretraining or nothing and regulation scale or mlp, got {self.learn!r} and {self.regulation!r}."
            )
        if min(self.pairs, self.top, self.leaf, self.leaves, self.each) < 1 or self.top < 2 or self.episodes < 0:
            raise PerceptError("top must be at least 2, the other counts at least 1 and episodes at least 0.")
        if not 0 < self.shown <= 1 or min(self.inner_rate, self.outer_rate, self.regulation_rate) <= 0:
            raise PerceptError(f"shown must be above 0 and at most 1 and rates above 0, got shown={self.shown}.")


class Regulation(nn.Module):
    """The function that changes gradients [M_φ]; the identity at first."""

    def __init__(self, kind: str, tensors: int) -> None:
        super().__init__()
        self.kind = kind
        if kind == "scale":
            self.gain, self.shift = nn.Parameter(torch.zeros(tensors)), nn.Parameter(torch.zeros(tensors))
        if kind == "mlp":
            self.hidden, self.out = nn.Linear(2, HIDDEN), nn.Linear(HIDDEN, 1)
            nn.init.zeros_(self.out.weight)
            nn.init.zeros_(self.out.bias)

    def forward(self, place: int, gradient: Float[Tensor, "*n"], value: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """Change the gradient of a tensor.

        Args:
            place: number of the tensor.
            value: of the tensor.
        """
        size = gradient.detach().square().mean().sqrt().clamp(min=1e-12)
        if self.kind == "scale":
            return 2 * self.gain[place].sigmoid() * gradient + self.shift[place] * size
        if self.kind == "mlp":
            found = self.out(torch.tanh(self.hidden(torch.stack([gradient / size, value], dim=-1))))
            return gradient + size * found[..., 0]
        return gradient


@dataclass(frozen=True, kw_only=True, eq=False)
class Start:
    """The result of meta-learning."""

    values: dict[str, Tensor]
    """Of every trained parameter."""
    regulation: Regulation
    losses: tuple[float, ...]
    """On the query sets, episode by episode."""


def loss_of(method: Adaptation, values: dict[str, Tensor], pairs: Pairs, rows: list[int]) -> Float[Tensor, ""]:
    """Return the loss of a method with other values of its trained parameters, among the captions of some pairs."""
    shots = pairs.shots(rows)
    method.use(shots.names)
    method.prepare(shots)
    return functional_call(method, values, (pairs.views(rows, images=method.reads == "images"),))["loss"]


def inner_step(
    method: Adaptation, values: dict[str, Tensor], pairs: Pairs, rows: list[int], regulation: Regulation, config: MetaConfig
) -> dict[str, Tensor]:  # fmt: skip
    """Return the trained values after one step on a support set [θ']."""
    loss = loss_of(method, values, pairs, rows)
    gradients = torch.autograd.grad(
        loss, list(values.values()), create_graph=config.second_order, allow_unused=True, materialize_grads=True
    )
    return {
        name: value - config.inner_rate * regulation(place, gradient, value)
        for place, ((name, value), gradient) in enumerate(zip(values.items(), gradients, strict=True))
    }


def meta_learn(method: Adaptation, pairs: Pairs, config: MetaConfig, *, seed: int = 0) -> Start:
    """Learn the start of a method's trained values, and the regulation of their gradients.

    Args:
        method: is changed; its trained values are the start of meta-learning.
        seed: of the episodes.
    """
    from torch.nn.attention import SDPBackend, sdpa_kernel

    method.train()
    trained = {name: each for name, each in method.named_parameters() if each.requires_grad}
    values = {name: each.detach().clone().requires_grad_() for name, each in trained.items()}
    regulation = Regulation(config.regulation if config.learn == "gram" else "none", len(values)).to(
        pairs.vectors.device
    )
    groups = [{"params": list(values.values())}, {"params": regulation.parameters(), "lr": config.regulation_rate}]
    optimiser = torch.optim.Adam(groups, lr=config.outer_rate)
    losses = []
    for number in track(range(config.episodes), f"meta-learning, {config.learn}", config.episodes):
        rng = random.Random(derive(seed, "episode", number))
        support, query = episode(pairs, rng, leaves=config.leaves, each=config.each)
        with sdpa_kernel(SDPBackend.MATH):  # other kernels have no second derivative
            if config.learn == "pretraining":
                loss = (
                    loss_of(method, values, pairs, support).div(2).add(loss_of(method, values, pairs, query), alpha=0.5)
                )
            else:
                own = inner_step(method, values, pairs, support, regulation, config)
                loss = loss_of(method, own, pairs, query)
            optimiser.zero_grad()
            loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    return Start(
        values={name: each.detach() for name, each in values.items()},
        regulation=regulation.requires_grad_(False),
        losses=tuple(losses),
    )


def method_of(name: str) -> type[Adaptation]:
    """Return the class of the method that gets a start.

    Raises:
        PerceptError: unknown name, or GRAM itself.
    """
    known = {each: target for each, target in ADAPTATIONS.items() if each != "gram"}
    if name not in known:
        raise unknown_name("adaptation method", name, known)
    module, _, attribute = known[name].partition(":")
    return getattr(import_module(module), attribute)


class Gram(Adaptation):
    """A prompt method with a learned start and regulated gradients."""

    base_parts = ("inner.clip",)
    leaks = ("unlabelled image-text pairs of the labelled world",)

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The method that is started, and how its start is learned."""

        method: str = "coop"
        """Name of the method."""
        settings: dict[str, Any] = field(default_factory=dict)
        """Fields of its configuration that are not the defaults, as plain data."""
        meta: MetaConfig = field(default_factory=MetaConfig)
        """How the start is learned."""

    def __init__(self, config: Config, base: Base, names: Sequence[str], template: str = TEMPLATE) -> None:
        super().__init__(config, base, names, template)
        kind = method_of(config.method)
        own = from_dict(kind.Config, config.settings)  # type: ignore[attr-defined]
        del self._modules["clip"]
        self.inner = kind(own, base, self.names, self.template)
        if not self.inner.other_classes or not self.inner.declared():
            raise PerceptError(
                f"{config.method} trains nothing, or values that belong to its classes, so it can have no learned start. Choose a prompt method."
            )
        self.reads, self.second_view = self.inner.reads, self.inner.second_view
        self.rules = tuple((pattern.replace("^", r"^inner\."), action) for pattern, action in self.inner.rules)
        self.zero_at_first = tuple(f"inner.{name}" for name in self.inner.zero_at_first)
        self.leaks = (*self.inner.leaks, *(() if config.meta.learn == "nothing" else type(self).leaks))
        self.start: Start | None = None
        self.use(names)

    @property
    def clip(self) -> CLIP:  # type: ignore[override]
        """The towers of the method."""
        return self.inner.clip

    def prepare(self, shots: Shots) -> None:
        """Learn the start, once for each pair of towers and seed of a training, and take it."""
        self.inner.epochs, self.inner.seed = self.epochs, self.seed
        if self.config.meta.learn != "nothing":
            self.start = self.learned_start()
            for name, parameter in self.inner.named_parameters():
                if name in self.start.values:
                    parameter.data.copy_(self.start.values[name])
        self.inner.prepare(shots)

    def learned_start(self) -> Start:
        """Return the start for the method on its towers and for its seed; it is computed once in a process."""
        from percept.core.config import to_dict

        known, key = _learned.setdefault(self.base.clip, {}), (repr(to_dict(self.config)), self.seed)
        if key not in known:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(derive(self.seed, "start"))
                inner = type(self.inner)(self.inner.config, self.base, self.names)
                known[key] = meta_learn(inner, self._pairs(known), self.config.meta, seed=self.seed)
        return known[key]

    def _pairs(self, known: dict[Any, Any]) -> Pairs:
        """Return the pairs of the seed; only those that were drawn last are kept, as their images need much memory."""
        meta = self.config.meta
        drawn = (meta.pairs, meta.shown, meta.top, meta.leaf, self.seed)
        if known.get("pairs", (None,))[0] != drawn:
            for each in _learned.values():
                each.pop("pairs", None)
            found = world_pairs(self.base, meta.pairs, top=meta.top, leaf=meta.leaf, seed=self.seed, shown=meta.shown)
            known["pairs"] = drawn, found
        return known["pairs"][1]

    def after_backward(self) -> None:
        """Regulate the gradients."""
        if self.start is not None:
            trained = [each for each in self.inner.parameters() if each.requires_grad]
            for place, each in enumerate(trained):
                if each.grad is not None:
                    each.grad = self.start.regulation(place, each.grad, each.detach())
        self.inner.after_backward()

    def fold(self) -> None:
        """Remove the start and what the method needs for training only."""
        self.start = None
        self.inner.fold()

    # everything else is the method's own

    def on_classes(self) -> None:
        """Tell the method."""
        self.inner.use(self.names, self.template)

    def declared(self) -> dict[str, int]:
        """Return the parameters of the method."""
        return {f"inner.{name}": count for name, count in self.inner.declared().items()}

    def class_vectors(self) -> Float[Tensor, "c d"]:
        """Return the class vectors of the method."""
        return self.inner.class_vectors()

    def image_vectors(self, batch: Views) -> Float[Tensor, "b d"]:
        """Return the image vectors of the method."""
        return self.inner.image_vectors(batch)

    def logits(self, batch: Views) -> Float[Tensor, "b c"]:
        """Return the logits of the method."""
        return self.inner.logits(batch)

    def losses(self, batch: Views) -> dict[str, Tensor]:
        """Return the losses of the method."""
        return self.inner.losses(batch)

    def on_epoch(self, epoch: int) -> None:
        """Tell the method."""
        self.inner.on_epoch(epoch)

    def after_step(self, step: int) -> None:
        """Tell the method."""
        self.inner.after_step(step)

    def finish(self) -> None:
        """Tell the method."""
        self.inner.finish()

    def neutral_twin(self) -> Adaptation | None:
        """Return the neutral twin of the method."""
        return self.inner.neutral_twin()

    @classmethod
    def recipe(cls, shots: int) -> Training:
        """Return the optimisation of CoOp, the default method."""
        return method_of("coop").recipe(shots)

    @classmethod
    def recipe_of(cls, config: Config, shots: int) -> Training:
        """Return the optimisation of the method that gets a start."""
        return method_of(config.method).recipe(shots)

    @classmethod
    def tiny_config(cls) -> Config:
        """Return a short context and a few episodes."""
        meta = MetaConfig(pairs=12, top=2, leaf=2, leaves=2, each=2, episodes=2, outer_rate=0.1)
        return cls.Config(settings={"prompt": {"context": 4}}, meta=replace(meta, regulation="mlp"))
