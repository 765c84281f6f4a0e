"""Points of a thing found again elsewhere: in another place, at another size, on another background, in the same or a different colour.

The patch of the first image is compared with all patches of the second by the cosine of the last block's features. PCK@a: the best
one lies within a times the longer side of the thing's box of the true place, which is exact because both images are drawn.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from percept.core.seed import derive
from percept.eval import world
from percept.eval.dense import maps_of, needs_maps
from percept.eval.record import Records
from percept.eval.statistics import mean_share
from percept.eval.table import Evaluation, Plan, Result
from percept.world.elements import Scene
from percept.world.palette import COLOURS
from percept.world.render import Rendering, render

SHARES = (0.1, 0.2)
"""Distances that count as right, as shares of the longer side of the box."""
WHOLE = 0.97
"""Least visible share of a thing, so that its box is that of the whole thing."""
COVERED = 0.5
"""Least share of a patch that the thing must cover."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A thing in two images."""

    first: Rendering
    second: Rendering
    recoloured: bool


def elsewhere(scene: Scene, other: Scene, rng: random.Random, *, recoloured: bool) -> Scene:
    """Return the thing of `scene` in a different place, at a different size, before the background of `other`."""
    thing = scene.things[0]
    scale = min(0.65, thing.scale * rng.uniform(0.8, 1.25))
    low, high = (scale, 0.98) if thing.grounded else (scale / 2, 1 - scale / 2)
    colour = rng.choice([name for name in COLOURS if name != thing.colour]) if recoloured else thing.colour
    moved = replace(
        thing, scale=scale, x=rng.uniform(scale / 2, 1 - scale / 2), y=rng.uniform(low, high), colour=colour
    )
    return replace(other, things=(moved,), words=())


def pairs(number: int, *, seed: int, split: str) -> Iterator[Pair]:
    """Yield pairs, every second one in a different colour."""
    first = world.scenes("correspondence", seed=seed, things=world.ALONE, split=split)
    second = world.scenes("elsewhere", seed=seed, things=world.ALONE, split=split)
    done = 0
    while done < number:
        scene, other = replace(next(first), words=()), next(second)
        rng = random.Random(derive(scene.seed, "elsewhere"))
        recoloured = done % 2 == 1
        pair = Pair(
            first=render(scene),
            second=render(elsewhere(scene, other, rng, recoloured=recoloured)),
            recoloured=recoloured,
        )
        if min(float(pair.first.visible[0]), float(pair.second.visible[0])) >= WHOLE:
            done += 1
            yield pair


def patch_centres(grid: tuple[int, int]) -> Float[Tensor, "n 2"]:
    """Return x and y of the centre of every patch, row by row, in [0, 1].

    >>> patch_centres((1, 2)).tolist()
    [[0.25, 0.5], [0.75, 0.5]]
    """
    y, x = ((torch.arange(count) + 0.5) / count for count in grid)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).flatten(0, 1)


def covered(rendering: Rendering, grid: tuple[int, int]) -> Bool[Tensor, " n"]:
    """True for patches of which the thing covers at least half; if there are none, for the patches of which it covers most."""
    assert rendering.masks is not None
    mask = torch.from_numpy(rendering.masks[0]).double()
    shares = F.adaptive_avg_pool2d(mask[None], grid).flatten()
    return shares >= min(COVERED, float(shares.max()))


def carried(points: Float[Tensor, "n 2"], start: np.ndarray, end: np.ndarray) -> Float[Tensor, "n 2"]:
    """Return the places in box `end` of points in box `start`, both xyxy.

    >>> carried(torch.tensor([[0.5, 0.5]]), np.array([0.0, 0, 1, 1]), np.array([0.0, 0.5, 0.5, 1])).tolist()
    [[0.25, 0.75]]
    """
    one, two = torch.from_numpy(start).float(), torch.from_numpy(end).float()
    return two[:2] + (points - one[:2]) / (one[2:] - one[:2]) * (two[2:] - two[:2])


def nearest(first: Float[Tensor, "n w"], second: Float[Tensor, "m w"]) -> Tensor:
    """Return the number of the most similar row of `second` for every row of `first`, by cosine."""
    return (F.normalize(first.float(), dim=1) @ F.normalize(second.float(), dim=1).T).argmax(dim=1)


def errors(first: Float[Tensor, "y x w"], second: Float[Tensor, "y x w"], pair: Pair) -> tuple[Tensor, Tensor] | None:
    """Return the distance of every point from its true place, as a share of the box, and whether it lies on the thing.

    None if no patch of the first image is covered by the thing.
    """
    grid, other = (first.shape[0], first.shape[1]), (second.shape[0], second.shape[1])
    inside = covered(pair.first, grid)
    if not inside.any():
        return None
    found = nearest(first.flatten(0, 1)[inside], second.flatten(0, 1))
    box = pair.second.boxes[0]
    true = carried(patch_centres(grid)[inside], pair.first.boxes[0], box)
    side = float(max(box[2] - box[0], box[3] - box[1]))
    return (patch_centres(other)[found] - true).norm(dim=1) / side, covered(pair.second, other)[found]


def run(model: Any, plan: Plan) -> Result:
    """Measure pairs. All pairs have equal weight, and each has one value of each score, whatever the patch size of the model."""
    chosen = list(pairs(max(2, plan.count // 5), seed=plan.seed, split=plan.split))
    maps = maps_of(model, [image for pair in chosen for image in (pair.first.image, pair.second.image)])
    measured = [(number, pair, errors(next(maps), next(maps), pair)) for number, pair in enumerate(chosen)]
    found = [(number, pair, each) for number, pair, each in measured if each is not None]
    records: list[Records] = []
    for recoloured, ending in ((False, ""), (True, ", a different colour")):
        records += _records([each for each in found if each[1].recoloured == recoloured], ending)
    return Result(scores=[mean_share(each.task, each.value, seed=plan.seed) for each in records], records=records)


def _records(found: Sequence[tuple[int, Pair, tuple[Tensor, Tensor]]], ending: str) -> Iterator[Records]:
    """Yield the share of right points of each pair, by score."""
    things = [pair.first.scene.things[0] for _, pair, _ in found]
    right = {f"PCK@{share}": [distance <= share for _, _, (distance, _) in found] for share in SHARES}
    right["on the thing"] = [inside for _, _, (_, inside) in found]
    for name, pairs_of in right.items() if found else ():
        yield Records(
            task=f"{name}{ending}", data=world.NAME, keys=[f"correspondence/{number}" for number, _, _ in found],
            truth=[f"{thing.colour} {thing.category}" for thing in things],
            prediction=[f"{int(points.sum())} of {len(points)} points" for points in pairs_of],
            value=np.array([float(points.float().mean()) for points in pairs_of]),
        )  # fmt: skip


EVALUATION = Evaluation(name="correspondence", summary=__doc__, run=run, needs=needs_maps)
