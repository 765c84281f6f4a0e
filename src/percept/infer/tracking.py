"""Track objects through a video by label propagation: the masks of the first frame follow the features; nothing is trained.

The protocol of Jabri et al. 2020, arXiv:2006.14613, with the constants of DINO (Caron et al. 2021, arXiv:2104.14294,
`eval_video_segmentation.py`). Differs from it: the mask of the first frame is reduced to patches by area, not by its nearest pixel, so
small objects are not lost; of affinities that tie with the k-th largest only k are kept; specks of an object are removed, see `without_specks`.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn import functional as F

from percept.core.errors import PerceptError
from percept.infer.dense import Layer
from percept.infer.grid import PATCHES, dense_layer, unit_map, with_grid
from percept.infer.specks import without_specks

if TYPE_CHECKING:
    from percept.infer.encoder import Encoder

ROWS = 2048
"""Patches of a frame whose affinities to a context frame are in memory at once."""


@dataclass(frozen=True, kw_only=True)
class Propagation:
    """How labels are propagated."""

    context: int = 7
    """Number of preceding frames that labels come from; the first frame is always used too."""
    radius: int = 12
    """Largest distance across and down, in patches, between a patch and the patches that its label comes from."""
    neighbours: int = 5
    """Number of most similar patches, over all context frames, that the label of a patch comes from."""
    temperature: float = 0.1
    """Divides cosines before the exponential."""

    def __post_init__(self) -> None:
        if self.context < 0 or self.radius < 0 or self.neighbours < 1 or self.temperature <= 0:
            raise PerceptError(
                f"context and radius must be at least 0, neighbours at least 1 and temperature above 0, got {self}."
            )


DEFAULT = Propagation()


def propagate(
    features: Iterable[Float[Tensor, "_ _ w"]], first: Float[Tensor, "k _ _"], settings: Propagation = DEFAULT
) -> Iterator[Float[Tensor, "k _ _"]]:
    """Yield the soft labels of each frame, beginning with `first`; a stream that holds `context` + 1 frames.

    Args:
        features: a map per frame, all of one size.
        first: share of each of k labels (the background is one of them) in each patch of the first frame.
        settings: constants of the propagation.

    Raises:
        PerceptError: the labels and the maps have different grids.
    """
    maps = (unit_map(each) for each in features)
    start = next(maps, None)
    if start is None:
        return
    if start.shape[:2] != first.shape[1:]:
        raise PerceptError(
            f"labels on a grid of {list(first.shape[1:])} do not fit features on a grid of {list(start.shape[:2])}. "
            "Give both the same grid."
        )
    yield first
    recent: deque[tuple[Tensor, Tensor]] = deque(maxlen=settings.context)
    for target in maps:
        labels = _propagated(target, [(start, first), *recent], settings)
        recent.append((target, labels))
        yield labels


def _propagated(target: Tensor, sources: list[tuple[Tensor, Tensor]], settings: Propagation) -> Float[Tensor, "k y x"]:
    """Return the labels of one frame from those of the context frames."""
    grid, width = target.shape[:2], sources[0][1].shape[0]
    values = torch.cat([labels.flatten(1).T for _, labels in sources])  # [sources * n, k]
    result = torch.empty(grid.numel(), width)
    for rows in torch.arange(grid.numel()).split(ROWS):
        weights, places = _nearest(target.flatten(0, 1)[rows], rows, [each for each, _ in sources], settings)
        result[rows] = torch.einsum("nk,nkc->nc", weights, values[places])
    return result.T.unflatten(1, grid)


def _nearest(
    vectors: Float[Tensor, "n w"], rows: Int[Tensor, " n"], sources: list[Tensor], settings: Propagation
) -> tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]:
    """Return normalised weights and places of the most similar patches within the radius, over all sources."""
    hidden = _outside(rows, tuple(sources[0].shape[:2]), settings.radius)
    best, places = vectors.new_empty(len(rows), 0), rows.new_empty(len(rows), 0)
    for number, source in enumerate(sources):
        cosines = (vectors @ source.flatten(0, 1).T).masked_fill_(hidden, float("-inf"))
        values, indices = cosines.topk(min(settings.neighbours, cosines.shape[1]), dim=1)
        best = torch.cat([best, values], dim=1)
        places = torch.cat([places, indices + number * source.shape[:2].numel()], dim=1)
    values, order = best.topk(min(settings.neighbours, best.shape[1]), dim=1)
    return (values / settings.temperature).softmax(dim=1), places.gather(1, order)


def _outside(rows: Int[Tensor, " n"], grid: tuple[int, ...], radius: int) -> Tensor:
    """Return [n, y * x], True for patches that are farther than `radius` across or down."""
    down, across = torch.arange(grid[0]), torch.arange(grid[1])
    far_down = (rows[:, None] // grid[1] - down).abs() > radius
    far_across = (rows[:, None] % grid[1] - across).abs() > radius
    return (far_down[:, :, None] | far_across[:, None, :]).flatten(1)


def one_hot(mask: UInt8[np.ndarray, "y x"], objects: list[int]) -> Float[Tensor, "k y x"]:
    """Return a channel for the background (all other numbers), and one for each object."""
    numbers = torch.from_numpy(mask.astype(np.int64))
    channels = torch.stack([numbers == number for number in objects]).float()
    return torch.cat([1 - channels.sum(dim=0, keepdim=True), channels])


def hardened(labels: Float[Tensor, "k y x"], size: tuple[int, int]) -> Int[Tensor, "h w"]:
    """Return the label of each pixel: enlarged bilinearly, scaled to 0..1 for each label, then the largest, as in DINO."""
    highest, best = torch.full(size, -1.0), torch.zeros(size, dtype=torch.int64)
    for number, each in enumerate(labels):  # one label at a time: many of a large frame would fill the memory
        large = F.interpolate(each[None, None], size, mode="bilinear", align_corners=False)[0, 0]
        large = (large - large.min()) / (large.max() - large.min()).clamp(min=1e-12)
        best[large > highest] = number
        highest = torch.maximum(highest, large)
    return best


def track(
    encoder: "Encoder",
    frames: Iterable[Any],
    mask: UInt8[np.ndarray, "y x"],
    *,
    layer: Layer | None = None,
    patches: int = PATCHES,
    settings: Propagation = DEFAULT,
) -> Iterator[UInt8[np.ndarray, "y x"]]:
    """Yield the mask of each frame, the given one first; a stream.

    Args:
        encoder: any image encoder of which layers can be read.
        frames: images of one size, for example the frames of a video; a generator of any length.
        mask: number of the object at each pixel of the first frame, 0 for the background.
        layer: block whose features are compared. Default: at two thirds of the depth.
        patches: patches along the longer side of a frame.
        settings: constants of the propagation.

    Raises:
        PerceptError: the mask is empty, or its aspect ratio differs from that of the frames.
    """
    objects = sorted(set(np.unique(mask).tolist()) - {0})
    if not objects:
        raise PerceptError("the mask marks no object: all its pixels are 0. Number the objects from 1.")
    size = (int(mask.shape[0]), int(mask.shape[1]))
    maps = (hidden.map(at) for at in [dense_layer(encoder, layer)] for hidden in _hidden(encoder, frames, at, patches))
    start = next(maps, None)
    if start is None:
        raise PerceptError("no frames were given. Give at least one.")
    grid = (int(start.shape[0]), int(start.shape[1]))
    first = F.adaptive_avg_pool2d(one_hot(mask, objects)[None], grid)[0]
    numbers = np.array([0, *objects], dtype=np.uint8)
    for place, labels in enumerate(propagate(chain([start], maps), first, settings)):
        yield mask if place == 0 else _without_specks(numbers[hardened(labels, size).numpy()])


def _without_specks(mask: UInt8[np.ndarray, "y x"]) -> UInt8[np.ndarray, "y x"]:
    kept = np.zeros_like(mask)
    for number in set(np.unique(mask).tolist()) - {0}:
        kept[without_specks(mask == number)] = number
    return kept


def _hidden(encoder: "Encoder", frames: Iterable[Any], layer: int, patches: int) -> Iterator[Any]:
    return with_grid(encoder, patches).hidden(frames, layer)
