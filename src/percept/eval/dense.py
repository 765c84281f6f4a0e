"""Linear readout of the last block's patches: kind of object (mIoU) and depth, at every pixel.

A ridge regression is fitted in closed form on images of the train split and measured on images of the plan's split.
The groups are those of `percept.world.objects` and the background; scores are computed at the pixels of the image, after bilinear
interpolation of the patches.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from percept.core.errors import PerceptError
from percept.eval import world
from percept.eval.record import Records
from percept.eval.segmentation import Overlap, iou, mean_iou, overlap
from percept.eval.statistics import mean, mean_share
from percept.eval.table import Evaluation, Plan, Result, Unsuited
from percept.world.elements import Scene
from percept.world.objects import CATEGORIES
from percept.world.render import Rendering, render

GROUPS = ("background", *dict.fromkeys(category.group for category in CATEGORIES.values()))
PER_IMAGE, DEPTH = "IoU of groups per image", "depth error (RMSE, 0 to 1)"
"""Scores that are means over images; runs are compared by the values of single images."""
RIDGE = 1e-3
"""Weight of the penalty, per patch and for features of variance 1."""


def needs_maps(model: Any) -> None:
    """Raise if the model gives no features of patches.

    Raises:
        Unsuited: it has no `hidden`, or cannot give the tokens of a block.
    """
    if not hasattr(model, "hidden"):
        raise Unsuited(f"{type(model).__name__} gives no features of patches. Use an encoder, such as 'nano'.")
    try:
        next(iter(model.hidden([np.zeros((32, 32, 3), np.uint8)], -1)))
    except PerceptError as error:
        raise Unsuited(str(error)) from None


def maps_of(model: Any, images: Any) -> Iterator[Float[Tensor, "y x w"]]:
    """Yield the patches of the last block of each image."""
    for hidden in model.hidden(images, -1):
        yield hidden.map(-1)


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What is at each pixel."""

    group: Int[Tensor, "y x"]
    depth: Float[Tensor, "y x"]

    def targets(self, grid: tuple[int, int]) -> Float[Tensor, "n k"]:
        """Return for every patch the share of each group, and the mean depth."""
        shares = F.one_hot(self.group, len(GROUPS)).permute(2, 0, 1).double()
        both = torch.cat([shares, self.depth[None].double()])
        return F.adaptive_avg_pool2d(both, grid).flatten(1).T


def truth_of(rendering: Rendering) -> Truth:
    """Return the truth of an image rendered with it."""
    assert rendering.masks is not None
    assert rendering.depth is not None
    group = torch.zeros(rendering.image.shape[:2], dtype=torch.int64)
    for thing, mask in zip(rendering.scene.things, rendering.masks, strict=True):
        group[torch.from_numpy(mask)] = GROUPS.index(CATEGORIES[thing.category].group)
    return Truth(group=group, depth=torch.from_numpy(rendering.depth).float())


def ridge(features: Iterator[tuple[Tensor, Tensor]]) -> Float[Tensor, "w1 k"]:
    """Fit features [n, w] to targets [n, k], given in parts; return weights with the offset in the last row.

    The parts are summed into the normal equations, so that memory does not grow with the number of images.
    """
    gram: Any = 0
    product: Any = 0
    rows = 0
    for inputs, targets in features:
        extended = torch.cat([inputs.double(), torch.ones(len(inputs), 1, dtype=torch.float64)], dim=1)
        gram, product, rows = gram + extended.T @ extended, product + extended.T @ targets, rows + len(inputs)
    centre = gram[-1] / rows
    variance = (gram.diagonal() / rows - centre**2).clamp(min=1e-12)
    variance[-1] = 0.0  # no penalty on the offset
    return torch.linalg.solve(gram + RIDGE * rows * torch.diag(variance), product)


def read(
    weights: Float[Tensor, "w1 k"], features: Float[Tensor, "y x w"], size: Sequence[int]
) -> Float[Tensor, "k height width"]:
    """Return the prediction at every pixel."""
    values = features.double() @ weights[:-1] + weights[-1]
    return F.interpolate(values.permute(2, 0, 1)[None], tuple(size), mode="bilinear", align_corners=False)[0]


def scenes(purpose: str, count: int, *, seed: int, split: str) -> list[Scene]:
    """Return scenes of one to six things."""
    return list(islice(world.scenes(f"dense {purpose}", seed=seed, things=world.ANY, split=split), count))


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Prediction for one image, summed up."""

    counts: Overlap
    """Pixels of every group."""
    groups: tuple[list[str], list[str]]
    """Groups in the image, and predicted groups."""
    depth: tuple[float, float]
    """Mean depth of the image, true and predicted."""
    error: float
    """Root of the mean squared error of the depth."""

    @property
    def iou(self) -> float:
        """Mean intersection over union of the groups in the image: the same groups for every model."""
        return float(iou(self.counts)[[GROUPS.index(group) for group in self.groups[0]]].mean())


def outcome(guess: Float[Tensor, "k y x"], truth: Truth) -> Outcome:
    """Judge the prediction at every pixel: a score for each group, then the depth."""
    best = guess[:-1].argmax(dim=0)
    there, read_there = ([GROUPS[group] for group in part.unique().tolist()] for part in (truth.group, best))
    return Outcome(
        counts=overlap(best.numpy(), truth.group.numpy(), len(GROUPS)), groups=(there, read_there),
        depth=(round(float(truth.depth.mean()), 3), round(float(guess[-1].mean()), 3)),
        error=float((guess[-1] - truth.depth).square().mean().sqrt()),
    )  # fmt: skip


def run(model: Any, plan: Plan) -> Result:
    """Fit and measure."""
    images = max(2, plan.count // 5)
    fitted = scenes("fit", images, seed=plan.seed, split="train")
    weights = ridge(_rows(model, fitted))
    tested = _with_truth(model, scenes("test", images, seed=plan.seed, split=plan.split))
    found = [outcome(read(weights, features, truth.group.shape), truth) for features, truth in tested]
    shares, errors = [each.iou for each in found], [each.error for each in found]
    keys = [f"dense test/plain/{number}" for number in range(images)]
    return Result(
        scores=[
            mean_iou("mIoU of groups", [each.counts for each in found], seed=plan.seed),
            mean_share(PER_IMAGE, shares, seed=plan.seed),
            mean(DEPTH, errors, unit="", better="less", seed=plan.seed),
        ],
        records=[
            Records(
                task=PER_IMAGE, data=world.NAME, keys=keys, value=np.array(shares),
                truth=[each.groups[0] for each in found], prediction=[each.groups[1] for each in found],
            ),
            Records(
                task=DEPTH, data=world.NAME, keys=keys, value=np.array(errors), better="less",
                truth=[each.depth[0] for each in found], prediction=[each.depth[1] for each in found],
            ),
        ],
    )  # fmt: skip


def _with_truth(model: Any, chosen: Sequence[Scene]) -> Iterator[tuple[Tensor, Truth]]:
    """Yield the features and the truth of each scene; only a few images are held at a time."""
    waiting: list[Truth] = []

    def images() -> Iterator[np.ndarray]:
        for scene in chosen:
            rendering = render(scene)
            waiting.append(truth_of(rendering))
            yield rendering.image

    for features in maps_of(model, images()):
        yield features, waiting.pop(0)


def _rows(model: Any, chosen: Sequence[Scene]) -> Iterator[tuple[Tensor, Tensor]]:
    for features, truth in _with_truth(model, chosen):
        yield features.flatten(0, 1), truth.targets((features.shape[0], features.shape[1]))


EVALUATION = Evaluation(name="dense", summary=__doc__, run=run, needs=needs_maps)
