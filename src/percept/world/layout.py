"""Layout of a scene: positions, sizes and depths of things, chosen before their colours."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from percept.world.backgrounds import Background

SIZES = {1: (0.28, 0.86), 2: (0.3, 0.56), 3: (0.27, 0.46), 4: (0.25, 0.4), 5: (0.23, 0.36), 6: (0.22, 0.32)}
"""Range of the longest side of a thing of usual size, by the number of things."""
SMALL, LARGE = 0.27, 0.5
"""Largest side of a small thing and smallest side of a large one."""
MIDDLING = (0.29, 0.48)
"""Range of sides without a size word. No thing has a side between these ranges."""
SMALLEST, LARGEST = 0.2, 0.9
HIDDEN = 0.48
"""Largest share of a thing that nearer things may cover, as `_cover` estimates it."""


@dataclass(frozen=True, kw_only=True)
class Frame:
    """Space in which things are placed."""

    width: float
    height: float
    horizon: float
    """y of the horizon; 0 on a flat background."""
    edge: float = 0.42
    """Least distance of a centre from the image border, in sides of the thing; below 0.5 the thing can be cropped."""
    sizes: tuple[float, float] | None = None
    """Range of longest sides that replaces `SIZES`."""
    loose: bool = False
    """True if things may float anywhere."""


@dataclass(frozen=True, kw_only=True)
class Spot:
    """Position of one thing. The fields are those of `Thing`."""

    x: float
    y: float
    scale: float
    depth: float
    grounded: bool

    @property
    def middle(self) -> float:
        """y of the centre, estimated if grounded."""
        return self.y - 0.4 * self.scale if self.grounded else self.y


def size_word(scale: float, rng: random.Random) -> tuple[float, str]:
    """Return a size, moved out of the two ambiguous ranges, and its word."""
    if SMALL < scale < MIDDLING[0] or MIDDLING[1] < scale < LARGE:
        low = scale < LARGE - 0.1
        pair = (SMALL, MIDDLING[0]) if low else (MIDDLING[1], LARGE)
        scale = rng.choice(pair)
    return scale, "small" if scale <= SMALL else "large" if scale >= LARGE else ""


def lay_out(
    rng: random.Random, wishes: Sequence[tuple[str, float]], background: Background, frame: Frame
) -> list[Spot]:
    """Place each thing, given its (habitat, relative size), so that no thing is hidden too much.

    A thing that fits nowhere is made smaller and tried again.
    """
    spots: list[Spot] = []
    low, high = frame.sizes or SIZES[len(wishes)]
    depths = rng.sample([(2 * index + 1) / (2 * len(wishes)) for index in range(len(wishes))], len(wishes))
    for (habitat, usual), rank in zip(wishes, depths, strict=True):
        base = rng.uniform(low, high) * usual**0.5
        spots.append(_first_fit(rng, spots, (habitat, base, rank), background, frame))
    return spots


def _first_fit(
    rng: random.Random, spots: list[Spot], wish: tuple[str, float, float], background: Background, frame: Frame
) -> Spot:
    """Propose positions for a (habitat, side, rank in depth) until one is valid; the last proposal is used otherwise."""
    habitat, side, rank = wish
    spot = None
    for attempt in range(40):
        scale = max(min(LARGEST, side) if frame.sizes is None else side, 0.75 * SMALLEST)
        spot = _propose(rng, habitat, scale, rank, background, frame)
        if _all_visible([*spots, spot]):
            return spot
        if attempt % 6 == 5:
            side *= 0.88
    assert spot is not None
    return spot


def _propose(rng: random.Random, habitat: str, scale: float, rank: float, background: Background, frame: Frame) -> Spot:
    margin = frame.edge * scale
    x = _between(rng, margin, frame.width - margin)
    low, high = margin, frame.height - margin
    spot = Spot(x=x, y=_between(rng, low, high), scale=scale, depth=0.1 + 0.8 * rank, grounded=False)
    if background.flat or frame.loose:
        return spot
    if habitat == "air":
        return replace(spot, y=_between(rng, low, max(low, frame.horizon - 0.2 * scale)), depth=0.45 + 0.45 * rank)
    if habitat == "wall" and "wall" in background.habitats:
        return replace(spot, y=_between(rng, low, max(low, frame.horizon - 0.45 * scale)), depth=0.94 + 0.05 * rank)
    return _stand(rng, spot, habitat, frame)


def _stand(rng: random.Random, spot: Spot, habitat: str, frame: Frame) -> Spot:
    """Put a thing on the ground (or into the water), smaller if farther away."""
    ground = frame.height - frame.horizon
    foot = frame.horizon + ground * rng.uniform(0.12, 0.96)
    scale = spot.scale * (0.78 + 0.4 * (foot - frame.horizon) / ground)
    scale = min(max(scale, SMALLEST), LARGEST) if frame.sizes is None else scale
    foot = min(max(foot, 2.1 * frame.edge * scale), max(frame.height - 0.02, 2.1 * frame.edge * scale))
    depth = 1 - (foot - frame.horizon) / ground
    if habitat == "water":
        return replace(spot, y=max(foot - 0.35 * scale, frame.horizon + 0.05), scale=scale, depth=depth)
    return replace(spot, y=foot, scale=scale, depth=depth, grounded=True)


def _between(rng: random.Random, low: float, high: float) -> float:
    return rng.uniform(low, high) if high > low else (low + high) / 2


def _all_visible(spots: Sequence[Spot]) -> bool:
    """True if the last spot is not hidden too much and does not hide any other spot too much."""
    last = spots[-1]
    hidden = sum(_cover(spot, last) for spot in spots[:-1] if spot.depth < last.depth)
    if hidden > HIDDEN:
        return False
    for spot in spots[:-1]:
        if last.depth < spot.depth:
            total = sum(_cover(nearer, spot) for nearer in spots if nearer.depth < spot.depth)
            if total > HIDDEN:
                return False
        if abs(last.depth - spot.depth) < 0.02 and max(_cover(last, spot), _cover(spot, last)) > 0.05:
            return False
    return True


def _cover(near: Spot, far: Spot) -> float:
    """Estimate the share of `far` that `near` covers, both as boxes of 0.84 of the side."""
    reach = 0.42 * (near.scale + far.scale)
    across = min(reach - abs(near.x - far.x), 0.84 * near.scale, 0.84 * far.scale)
    down = min(reach - abs(near.middle - far.middle), 0.84 * near.scale, 0.84 * far.scale)
    return max(0.0, across) * max(0.0, down) / (0.84 * far.scale) ** 2
