"""Linear probes on patches: segmentation by logistic regression, depth by ridge regression.

As the linear evaluations of Oquab et al. 2023 (DINOv2), arXiv:2304.07193: one linear layer on the standardised patches of one layer, its
output upsampled to the labels. Differs from it: the label of a patch in training is the share of each class, or the mean depth, of its
labelled pixels, which makes training a convex problem with one solution; and depth is regressed, not classified into bins.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from percept.core.errors import PerceptError
from percept.eval.probes.head import Head, upsampled
from percept.eval.probes.linear import Linear, Standardise, fit_linear
from percept.eval.probes.outcome import Outcome, Sums, ratio
from percept.eval.probes.probe import Setup, held_out
from percept.eval.probes.stream import Frame, OnPatches
from percept.eval.segmentation import Overlap, outcome_of, overlap

IGNORED = -1
"""Class of pixels without a label."""
DECAYS = (1.0, 1e-1, 1e-2, 1e-3, 1e-4)
NEAREST = 1e-3
"""Least depth that is predicted."""


def fitted_labels(labels: np.ndarray, size: tuple[int, int]) -> Tensor:
    """Return labels [y, x] at a size in pixels; the value of a pixel is that of the nearest one, never a mixture."""
    values = torch.from_numpy(np.ascontiguousarray(labels))
    rows, columns = (
        ((torch.arange(new) + 0.5) * old / new).floor().long().clamp(max=old - 1)
        for new, old in zip(size, values.shape, strict=True)
    )
    return values[rows][:, columns]


def in_patches(labels: Tensor, frame: Frame) -> Float[Tensor, "n p"]:
    """Return the pixels [y, x] of each patch, row by row."""
    return F.unfold(labels[None, None].float(), frame.patch, stride=frame.patch)[0].T


def class_shares(labels: Int[Tensor, "y x"], frame: Frame, classes: int) -> Float[Tensor, "n c"]:
    """Return the share of each class among the labelled pixels of each patch; zeros where there are none."""
    inside = in_patches(labels, frame).long()
    counts = torch.zeros(len(inside), classes + 1).scatter_add_(
        1, torch.where(inside >= 0, inside, classes), torch.ones(inside.shape)
    )[:, :classes]
    return counts / counts.sum(dim=1, keepdim=True).clamp(min=1)


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedMasks:
    """A trained linear segmentation head."""

    model: Linear
    setup: Setup

    def judge(self, features: Sequence[Tensor], targets: Sequence[np.ndarray]) -> Mapping[str, Outcome]:
        """Return intersections and unions at the size of the model's input."""
        return {"mIoU": outcome_of([self._one(*pair) for pair in zip(features, targets, strict=True)])}

    def _one(self, features: Float[Tensor, "w y x"], target: np.ndarray) -> Overlap:
        size = self.setup.frame.size
        guess = upsampled(self.model(features[None].to(self.setup.device)), size)[0].argmax(dim=0).cpu().numpy()
        return overlap(guess, fitted_labels(target, size).numpy(), len(self.setup.classes), ignored=IGNORED)

    def head(self, layer: int) -> Head:
        """Return the trained head."""
        width = self.setup.frame.width
        return Head(
            task="masks", kind="linear", layer=layer, width=width, classes=self.setup.classes, module=self.model
        )  # fmt: skip


class Masks(OnPatches):
    """Mean IoU of a linear layer on patches. Targets are classes [y, x], `IGNORED` where there is no label."""

    def thin(
        self, features: dict[int, Tensor], target: np.ndarray, rng: np.random.Generator
    ) -> tuple[dict[int, Tensor], Any]:
        """Return some labelled patches and the share of each class in them."""
        frame = self.setup.frame
        shares = class_shares(fitted_labels(target, frame.size), frame, len(self.setup.classes))
        chosen = chosen_patches(shares.sum(dim=1) > 0, self.setup.tokens, rng)
        return picked(features, chosen), shares[chosen]

    def fit(self, features: Sequence[Tensor], targets: Sequence[Tensor], *, seed: int) -> FittedMasks:
        """Train on the chosen patches of all images.

        Raises:
            PerceptError: no image has a labelled pixel.
        """
        groups = np.repeat(np.arange(len(targets)), [len(part) for part in targets])
        if not len(groups):
            raise PerceptError(
                f"none of the {len(targets)} training images has a labelled pixel: all are ignored. Check the mask files."
            )
        tokens, shares = (torch.cat(list(parts)).to(self.setup.device) for parts in (features, targets))
        model = fit_linear(tokens, shares, len(self.setup.classes), groups=groups, seed=seed)
        return FittedMasks(model=model, setup=self.setup)


def chosen_patches(usable: Tensor, count: int, rng: np.random.Generator) -> Int[Tensor, " k"]:
    """Return the numbers of at most `count` usable patches in random order; all of them if `count` is 0."""
    numbers = usable.nonzero()[:, 0]
    order = torch.from_numpy(rng.permutation(len(numbers)))
    return numbers[order[:count] if count else order]


def picked(features: dict[int, Tensor], chosen: Int[Tensor, " k"]) -> dict[int, Tensor]:
    """Return the chosen patches [k, w] of maps [w, y, x]."""
    return {layer: maps.flatten(1)[:, chosen].T.contiguous() for layer, maps in features.items()}


class DepthLinear(nn.Module):
    """Depth by one linear layer; takes maps [b, w, y, x] and returns [b, 1, y, x]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = Linear(width, 1)

    def forward(self, features: Float[Tensor, "b w y x"]) -> Float[Tensor, "b 1 y x"]:
        """Return depth, at least `NEAREST`."""
        return self.inner(features).clamp(min=NEAREST)


def ridge(
    features: Float[Tensor, "n d"], values: Float[Tensor, " n"], decay: float
) -> tuple[Float[Tensor, " d"], Float[Tensor, ""]]:
    """Return weight and bias that minimise the mean squared error + decay · |weight|²; the bias does not decay.

    scikit-learn's `Ridge(alpha=n * decay)` minimises the same function.
    """
    middle, mean = features.mean(dim=0), values.mean()
    centred = (features - middle).double()
    gram = centred.T @ centred / len(features) + decay * torch.eye(features.shape[1], device=features.device)
    weight = torch.linalg.solve(gram, centred.T @ (values - mean).double() / len(features)).float()
    return weight, mean - middle @ weight


def depth_errors(predicted: Float[Tensor, "y x"], depth: Float[Tensor, "y x"]) -> tuple[float, float, int]:
    """Return RMSE and share of pixels with max(p / d, d / p) < 1.25 (δ1), and 1; zeros for an image without depth.

    Pixels whose depth is 0 or not finite have no label.
    """
    valid = depth.isfinite() & (depth > 0)
    if not valid.any():
        return 0.0, 0.0, 0
    guess, truth = predicted[valid].double(), depth[valid].double()
    within = torch.maximum(guess / truth, truth / guess) < 1.25
    return float((guess - truth).square().mean().sqrt()), float(within.double().mean()), 1


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedDepth:
    """A trained depth head."""

    model: nn.Module
    kind: str
    setup: Setup

    def judge(self, features: Sequence[Tensor], targets: Sequence[np.ndarray]) -> Mapping[str, Outcome]:
        """Return RMSE and δ1, means over images, at the size of the model's input."""
        rows = np.array([self._one(*pair) for pair in zip(features, targets, strict=True)], np.float64)
        unit = "m" if self.setup.unit == "m" else ""
        return {
            "RMSE": Sums(sums=rows[:, [0, 2]], measure=ratio, unit=unit, better="less"),
            "δ1": Sums(sums=rows[:, [1, 2]], measure=ratio),
        }

    def _one(self, features: Float[Tensor, "w y x"], target: np.ndarray) -> tuple[float, float, int]:
        size = self.setup.frame.size
        with torch.no_grad():
            predicted = upsampled(self.model(features[None].to(self.setup.device)), size)[0, 0].cpu()
        return depth_errors(predicted, fitted_labels(target, size))

    def head(self, layer: int) -> Head:
        """Return the trained head."""
        width, unit = self.setup.frame.width, self.setup.unit
        return Head(task="depth", kind=self.kind, layer=layer, width=width, unit=unit, module=self.model)


class Depth(OnPatches):
    """RMSE and δ1 of a linear layer on patches. Targets are depths [y, x]; 0 or NaN where there is none."""

    def thin(
        self, features: dict[int, Tensor], target: np.ndarray, rng: np.random.Generator
    ) -> tuple[dict[int, Tensor], Any]:
        """Return some patches with depth, and their mean depth."""
        depth = patch_depth(target, self.setup.frame)
        chosen = chosen_patches(depth > 0, self.setup.tokens, rng)
        return picked(features, chosen), depth[chosen]

    def fit(self, features: Sequence[Tensor], targets: Sequence[Tensor], *, seed: int) -> FittedDepth:
        """Train on the chosen patches of all images.

        Raises:
            PerceptError: no image has a depth.
        """
        groups = torch.repeat_interleave(torch.arange(len(targets)), torch.tensor([len(part) for part in targets]))
        if not len(groups):
            raise no_depth(len(targets))
        tokens, values = (torch.cat(list(parts)).to(self.setup.device) for parts in (features, targets))
        model = DepthLinear(tokens.shape[1]).to(self.setup.device)
        model.inner.standardise = Standardise.of(tokens)
        scaled = model.inner.standardise(tokens)
        weight, bias = ridge(scaled, values, _depth_decay(scaled, values, groups, seed))
        model.inner.linear.weight.data, model.inner.linear.bias.data = weight[None], bias[None]
        return FittedDepth(model=model.requires_grad_(False), kind="linear", setup=self.setup)


def no_depth(images: int) -> PerceptError:
    """Return the error of a probe that has no depth to train on."""
    return PerceptError(
        f"none of the {images} training images has a depth: all values are 0 or not a number. Check the depth files."
    )


def patch_depth(target: np.ndarray, frame: Frame) -> Float[Tensor, " n"]:
    """Return the mean depth of each patch over its pixels with depth; 0 where there are none."""
    inside = in_patches(fitted_labels(target.astype(np.float32), frame.size), frame)
    valid = inside.isfinite() & (inside > 0)
    return torch.where(valid, inside, 0.0).sum(dim=1) / valid.sum(dim=1).clamp(min=1)


def _depth_decay(scaled: Tensor, values: Tensor, groups: Tensor, seed: int) -> float:
    """Return the decay with the least squared error on a quarter of the images."""
    train, rest = (torch.isin(groups, torch.from_numpy(part)) for part in held_out(int(groups.max()) + 1, seed))
    if not rest.any():
        return DECAYS[1]
    errors = []
    for decay in DECAYS:
        weight, bias = ridge(scaled[train], values[train], decay)
        errors.append(float((scaled[rest] @ weight + bias - values[rest]).square().mean()))
    return DECAYS[int(np.argmin(errors))]
