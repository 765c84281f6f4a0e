"""Rooms as plain data: sizes, colours and solids, and how they are sampled.

(shape, colour, size) triples are held out for evaluation: the other splits contain none, every room of the evaluation split
contains at least one.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from percept.world.palette import COLOURS, Rgb
from percept.world.rooms.solids import SHAPES, Shape, Solid
from percept.world.splits import held_out

SIZES = {"small": (0.32, 0.42), "large": (0.7, 0.95)}
"""Range of widths in metres."""
APART = 0.15
"""Least free distance of two solids in metres."""
FLOORS: tuple[tuple[Rgb, Rgb], ...] = (
    ((190, 156, 116), (178, 144, 104)),
    ((214, 208, 198), (198, 192, 182)),
    ((168, 130, 98), (156, 120, 88)),
    ((186, 192, 198), (172, 178, 186)),
)
"""Two colours of each checked floor."""
WALLS: tuple[Rgb, ...] = ((232, 226, 212), (216, 226, 230), (226, 218, 226), (220, 230, 216), (238, 232, 222))


@dataclass(frozen=True, kw_only=True)
class Room:
    """A room with a floor from (0, 0) to (width, depth), in metres; z is up."""

    seed: int
    split: str
    width: float
    depth: float
    height: float
    floor: int
    """Index into `FLOORS`."""
    wall: int
    """Index into `WALLS`."""
    solids: tuple[Solid, ...]


def is_reserved(solid: Solid) -> bool:
    """True if the (shape, colour, size) of a solid is held out for evaluation."""
    return held_out(solid.shape, solid.colour, solid.size)


def sample_room(rng: random.Random, seed: int, split: str) -> Room:
    """Sample a room with two to five solids of different shape or colour."""
    width, depth = rng.uniform(4.2, 5.6), rng.uniform(4.2, 5.6)
    while True:
        solids = _sample_solids(rng, split, width, depth, rng.randint(2, 5))
        if solids is not None:
            break
    return Room(
        seed=seed, split=split, width=width, depth=depth, height=rng.uniform(2.5, 2.9),
        floor=rng.randrange(len(FLOORS)), wall=rng.randrange(len(WALLS)), solids=tuple(solids),
    )  # fmt: skip


def _sample_solids(rng: random.Random, split: str, width: float, depth: float, count: int) -> list[Solid] | None:
    solids: list[Solid] = []
    for number in range(count):
        shape, colour, size = _identity(rng, split, solids, reserved=number == 0)
        solid = None
        base = _free_table(solids)
        if size == "small" and base is not None and rng.random() < 0.6:
            solid = _stacked(rng, solids, base, shape, colour)
        for _ in range(40):
            if solid is not None:
                break
            solid = _standing(rng, solids, (shape, colour, size), (width, depth))
        if solid is None:
            return None
        solids.append(solid)
    return solids


def _identity(rng: random.Random, split: str, solids: Sequence[Solid], *, reserved: bool) -> tuple[Shape, str, str]:
    """Return a shape, colour and size that the split allows; shape and colour do not occur yet."""
    present = {(solid.shape, solid.colour) for solid in solids}
    while True:
        shape, colour, size = rng.choice(SHAPES), rng.choice(tuple(COLOURS)), rng.choice(tuple(SIZES))
        if (shape, colour) in present:
            continue
        if split == "evaluation" and (not reserved or held_out(shape, colour, size)):
            return shape, colour, size
        if split != "evaluation" and not held_out(shape, colour, size):
            return shape, colour, size


def _measures(rng: random.Random, shape: Shape, size: str) -> tuple[float, float]:
    """Return width and height."""
    width = rng.uniform(*SIZES[size])
    tall = {"box": (0.75, 1.1), "ball": (1.0, 1.0), "cylinder": (0.9, 1.5), "cone": (1.2, 1.6)}[shape]
    return width, width * rng.uniform(*tall)


def _standing(
    rng: random.Random, solids: Sequence[Solid], identity: tuple[Shape, str, str], floor: tuple[float, float]
) -> Solid | None:
    """Put a solid on the floor, away from the walls and from the others; None if the place is taken."""
    shape, colour, size = identity
    width, height = _measures(rng, shape, size)
    border = 0.72 * width + 0.35
    solid = Solid(
        shape=shape, colour=colour, size=size, width=width, height=height, yaw=rng.uniform(0, 90),
        x=rng.uniform(border, floor[0] - border), y=rng.uniform(border, floor[1] - border),
    )  # fmt: skip
    free = all(math.hypot(solid.x - other.x, solid.y - other.y) > solid.reach + other.reach + APART for other in solids)
    return solid if free else None


def _free_table(solids: Sequence[Solid]) -> int | None:
    """Return a large box or cylinder on which nothing stands yet."""
    taken = {solid.on for solid in solids}
    suited = [
        index
        for index, solid in enumerate(solids)
        if solid.shape in ("box", "cylinder") and solid.size == "large" and index not in taken and solid.height < 1.0
    ]
    return suited[0] if suited else None


def _stacked(rng: random.Random, solids: Sequence[Solid], base: int, shape: Shape, colour: str) -> Solid:
    """Put a small solid on top of a larger one."""
    width, height = _measures(rng, shape, "small")
    below = solids[base]
    return Solid(
        shape=shape, colour=colour, size="small", width=width, height=height, yaw=rng.uniform(0, 90), on=base,
        x=below.x + rng.uniform(-0.05, 0.05), y=below.y + rng.uniform(-0.05, 0.05), bottom=below.height,
    )  # fmt: skip
