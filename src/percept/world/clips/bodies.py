"""Objects while a clip is planned: their boxes in every frame, and which of them overlap."""

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float

from percept.world.clips.elements import Path, Place
from percept.world.elements import Thing
from percept.world.objects import CATEGORIES
from percept.world.sprite import draw_sprite

MARGIN = 0.015
"""Least gap between two objects that do not meet."""
SOLID = frozenset(
    """house church castle tent bus truck train tractor elephant whale sofa bed gift drum tree book hat robot hamburger cake
    lion sheep owl car teddy bear frog""".split()  # noqa: SIM905 - readable as a list of words only like this
) | {"teddy bear", "hot air balloon"}
"""Categories without large holes, behind which another object disappears."""


@lru_cache(maxsize=4096)
def extent(
    category: str, seed: int, angle: float, stretch: tuple[float, float], shear: float, flip: bool
) -> tuple[float, float]:
    """Return width and height of a drawn object as shares of its longest side."""
    sprite = draw_sprite(
        category, colour=(128, 128, 128), fill="plain", size=64, seed=seed, angle=angle, stretch=stretch, shear=shear,
        flip=flip,
    )  # fmt: skip
    longest = max(sprite.mask.size)
    return sprite.mask.width / longest, sprite.mask.height / longest


@dataclass(kw_only=True, eq=False)
class Body:
    """An object of a place that is being planned."""

    thing: Thing
    path: Path
    entrance: str = ""
    """Kind of its first event if that brings it into the image; empty if it is there from the start."""
    still: bool = False
    """True for a distractor, which never acts."""
    free_from: int = 0
    """First frame in which it can begin a new event."""
    done: set[str] = field(default_factory=set)
    """Kinds of events in which it has acted."""
    wide: float = field(init=False)
    high: float = field(init=False)

    def __post_init__(self) -> None:
        thing = self.thing
        self.wide, self.high = extent(thing.category, thing.seed, thing.angle, thing.stretch, thing.shear, thing.flip)

    @property
    def category(self) -> str:
        """Category of the object."""
        return self.thing.category

    @property
    def habitat(self) -> str:
        """Usual place of the category."""
        return CATEGORIES[self.category].habitat

    def ready(self, frame: int) -> bool:
        """Return whether it is in the image and at rest from a frame on, so that it can take part in an event."""
        return not self.entrance and self.free_from <= frame and bool(self.path.opacity[frame] == 1)

    def boxes(self, first: int, last: int) -> Float[np.ndarray, "t 4"]:
        """Return its box, xyxy in coordinates of the place, in the frames from `first` to `last`."""
        part = slice(first, last + 1)
        path = self.path
        scale, x, y = path.scale[part], path.x[part], path.y[part]
        across, down = 0.5 * self.wide * scale, 0.5 * self.high * scale
        middle = (y - down if self.thing.grounded else y) - path.lift[part]
        turned = path.angle[part] % 360 > 0.5
        reach = np.hypot(across, down)
        across, down = np.where(turned, reach, across), np.where(turned, reach, down)
        return np.stack([x - across, middle - down, x + across, middle + down], axis=1)

    def box(self, frame: int) -> tuple[float, float, float, float]:
        """Return its box in one frame."""
        left, top, right, bottom = self.boxes(frame, frame)[0].tolist()
        return left, top, right, bottom

    def there(self, first: int, last: int) -> Bool[np.ndarray, " t"]:
        """Return for the frames from `first` to `last` whether it is present or will be, so that its place is taken."""
        later = np.maximum.accumulate(self.path.opacity[::-1])[::-1]
        return later[first : last + 1] > 0


def overlapping(a: Float[np.ndarray, "#t 4"], b: Float[np.ndarray, "#t 4"]) -> Bool[np.ndarray, " t"]:
    """Return for each frame whether two boxes are closer than `MARGIN` or overlap."""
    starts, ends = np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, 2:], b[:, 2:])
    return np.all(ends - starts > -MARGIN, axis=1)


def word_boxes(place: Place) -> list[tuple[float, float, float, float]]:
    """Return the boxes of the words of a place, boards included."""
    return [
        (word.x - word.width / 2 - 0.3 * word.size, word.y - word.size, word.x + word.width / 2 + 0.3 * word.size, word.y + word.size)
        for word in place.words
    ]  # fmt: skip
