"""Linear classification of pooled features: multinomial logistic regression by L-BFGS, its weight decay chosen on held-out samples."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from percept.eval.probes.head import Head
from percept.eval.probes.outcome import Outcome, right
from percept.eval.probes.probe import Setup, held_out
from percept.eval.probes.stream import pooled
from percept.eval.zeroshot import hits

DECAYS = (1.0, 0.1, 0.01, 0.001)
"""Weight decays that are tried, strongest first: each starts from the weights of the one before."""
STEPS = 40
"""Most iterations of L-BFGS for one weight decay."""


class Standardise(nn.Module):
    """Subtract a mean and divide by a standard deviation, per channel of the last axis."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))

    @classmethod
    def of(cls, features: Float[Tensor, "n d"]) -> "Standardise":
        """Return the layer with the statistics of these features."""
        layer = cls(features.shape[-1])
        layer.mean = features.mean(dim=0)
        layer.deviation = (features - layer.mean).square().mean(dim=0).sqrt().clamp(min=1e-6)
        return layer

    def forward(self, features: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
        """Return standardised features."""
        return (features - self.mean) / self.deviation


class Linear(nn.Module):
    """Standardised features through one linear layer; takes vectors [n, d], or maps [b, d, y, x]."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.standardise = Standardise(width)
        self.linear = nn.Linear(width, outputs)

    def forward(self, features: Tensor) -> Tensor:
        """Return one output per class, in place of the channels."""
        if features.dim() == 4:
            return self.linear(self.standardise(features.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        return self.linear(self.standardise(features))


def logistic(
    features: Float[Tensor, "n d"],
    targets: Int[Tensor, " n"] | Float[Tensor, "n c"],
    classes: int,
    decay: float,
    *,
    start: tuple[Tensor, Tensor] | None = None,
    offset: Float[Tensor, "n c"] | None = None,
    steps: int = STEPS,
) -> tuple[Float[Tensor, "c d"], Float[Tensor, " c"]]:
    """Return weight and bias that minimise mean cross-entropy + decay / 2 · |weight|².

    scikit-learn's `LogisticRegression(C=1 / (n * decay))` minimises the same function.

    Args:
        features: one row per sample.
        targets: classes, or a share of each class per sample.
        classes: number of classes.
        decay: weight decay; the bias does not decay.
        start: weight and bias to start from; zeros if None.
        offset: logits that are added, such as those of a classifier that is to be improved.
        steps: most iterations.
    """
    weight, bias = start or (features.new_zeros(classes, features.shape[1]), features.new_zeros(classes))
    weight, bias = weight.clone().requires_grad_(), bias.clone().requires_grad_()

    def loss() -> Tensor:
        logits = F.linear(features, weight, bias)
        logits = logits if offset is None else logits + offset
        return F.cross_entropy(logits, targets) + decay / 2 * weight.square().sum()

    minimise([weight, bias], loss, steps)
    return weight.detach(), bias.detach()


def minimise(parameters: list[Tensor], loss: Callable[[], Tensor], steps: int) -> None:
    """Minimise a smooth function by L-BFGS, in place."""
    optimiser = torch.optim.LBFGS(
        parameters, max_iter=steps, history_size=10, tolerance_grad=1e-5, tolerance_change=1e-8, line_search_fn="strong_wolfe"
    )  # fmt: skip

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = loss()
        value.backward()
        return value

    with torch.enable_grad():
        optimiser.step(closure)  # pyright: ignore[reportArgumentType] - it returns the tensor, as documented


def fit_linear(
    features: Float[Tensor, "n d"],
    targets: Int[Tensor, " n"] | Float[Tensor, "n c"],
    classes: int,
    *,
    groups: Int[np.ndarray, " n"] | None = None,
    seed: int,
) -> Linear:
    """Return a linear layer whose weight decay has the least cross-entropy on a quarter of the samples.

    Args:
        features: one row per sample.
        targets: as for `logistic`.
        classes: number of classes.
        groups: samples of a group (the patches of an image) stay together; every sample is a group of its own if None.
        seed: of the choice of that quarter.
    """
    model = Linear(features.shape[1], classes)
    model.standardise = Standardise.of(features)
    scaled = model.standardise(features)
    train, rest = _parts(len(features), groups, seed)
    decay = _best_decay(scaled, targets, classes, train, rest)
    weight, bias = logistic(scaled, targets, classes, decay)
    model.linear.weight.data, model.linear.bias.data = weight, bias
    return model.requires_grad_(False)


def _parts(count: int, groups: Int[np.ndarray, " n"] | None, seed: int) -> tuple[Tensor, Tensor]:
    groups = np.arange(count) if groups is None else groups
    names = np.unique(groups)
    train, rest = held_out(len(names), seed)
    return torch.from_numpy(np.isin(groups, names[train])), torch.from_numpy(np.isin(groups, names[rest]))


def _best_decay(scaled: Tensor, targets: Tensor, classes: int, train: Tensor, rest: Tensor) -> float:
    """Return the decay with the least loss on `rest`; the search ends when a weaker decay is worse."""
    best, least, start = DECAYS[1], float("inf"), None
    if not rest.any():
        return best
    for decay in DECAYS:
        start = logistic(scaled[train], targets[train], classes, decay, start=start)
        loss = float(F.cross_entropy(F.linear(scaled[rest], *start), targets[rest]))
        if loss >= least:
            break
        best, least = decay, loss
    return best


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedClasses:
    """A trained linear classifier."""

    model: Linear
    setup: Setup

    def judge(self, features: Sequence[Tensor], targets: Sequence[int]) -> Mapping[str, Outcome]:
        """Return whether the best class of each sample is the true one; a tie is wrong."""
        found = hits(self.model(torch.stack(list(features)).to(self.setup.device)).cpu(), torch.tensor(targets), 1)
        return {"linear top-1": right(found.numpy())}

    def head(self, layer: int) -> Head:
        """Return the classifier as a head."""
        width = self.model.linear.in_features
        return Head(
            task="classes", kind="linear", layer=layer, width=width, classes=self.setup.classes, module=self.model
        )  # fmt: skip


class Classes:
    """Top-1 accuracy of logistic regression on the class token and the mean of the patches."""

    trains, whole = True, False

    def __init__(self, setup: Setup) -> None:
        self.setup = setup

    def reduce(self, tokens: Float[Tensor, "b n w"], prefix: int, grid: tuple[int, int]) -> Float[Tensor, "b d"]:
        """Return pooled features."""
        return pooled(tokens, prefix, grid)

    def thin(self, features: dict[int, Tensor], target: Any, rng: np.random.Generator) -> tuple[dict[int, Tensor], Any]:
        """Return the sample as it is."""
        return features, target

    def fit(self, features: Sequence[Tensor], targets: Sequence[int], *, seed: int) -> FittedClasses:
        """Train the classifier."""
        stacked, device = torch.stack(list(features)).to(self.setup.device), self.setup.device
        classes = len(self.setup.classes)
        model = fit_linear(stacked, torch.tensor(targets, device=device), classes, seed=seed)
        return FittedClasses(model=model, setup=self.setup)
