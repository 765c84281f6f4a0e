"""What a question may ask of an image: which things are clearly visible, and how to name them without ambiguity."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from percept.world.elements import Scene
from percept.world.kinds import may_be_called
from percept.world.language import noun
from percept.world.qa.pair import Box
from percept.world.relations import all_relations
from percept.world.render import Rendering
from percept.world.splits import held_out
from percept.world.variants import shows_colour

LEAST_VISIBLE = 0.6
"""Least visible share of a thing that is asked about."""
LEAST_COUNTED = 0.5
"""Least visible share of a thing that is counted."""
LEAST_SIDE = 0.09
"""Least width and height of its box."""


@dataclass(frozen=True, kw_only=True)
class View:
    """A scene with the visible part of each thing, measured or estimated."""

    scene: Scene
    boxes: tuple[Box, ...]
    visible: tuple[float, ...]
    estimated: bool = False
    """True before rendering: boxes are guesses, and everything counts as visible."""

    @staticmethod
    def of(rendering: Rendering) -> "View":
        """Return the view of a rendered image."""
        height, width = rendering.image.shape[:2]
        pixels = np.rint(rendering.boxes * np.array([width, height] * 2))  # boxes end between pixels
        boxes = (pixels / np.array([width, height] * 2)).tolist()
        return View(
            scene=rendering.scene,
            boxes=tuple((left, top, right, bottom) for left, top, right, bottom in boxes),
            visible=tuple(rendering.visible.tolist()),
        )

    @staticmethod
    def estimate(scene: Scene) -> "View":
        """Return an estimate from the scene alone, which excludes most scenes that do not suit a question."""
        boxes = []
        for thing in scene.things:
            x, y, reach = thing.x / scene.width, thing.middle / scene.height, 0.45 * thing.scale
            boxes.append((x - reach / scene.width, y - reach, x + reach / scene.width, y + reach))
        return View(scene=scene, boxes=tuple(boxes), visible=(1.0,) * len(boxes), estimated=True)

    @cached_property
    def coloured(self) -> bool:
        """True if the image shows colours."""
        return shows_colour(self.scene)

    @cached_property
    def clear(self) -> list[int]:
        """Indices of the things that are large and visible enough to be asked about."""
        return [
            index
            for index, (box, share) in enumerate(zip(self.boxes, self.visible, strict=True))
            if share >= LEAST_VISIBLE and min(box[2] - box[0], box[3] - box[1]) >= LEAST_SIDE
        ]

    @cached_property
    def subjects(self) -> list[int]:
        """Clear things that a question may be about: in the evaluation split those of a held-out composition."""
        if self.scene.split != "evaluation":
            return self.clear
        sides = all_relations(self.scene.things)
        return [index for index in self.clear if self._is_held_out(index, sides[index])]

    def _is_held_out(self, index: int, sides: set[str]) -> bool:
        thing = self.scene.things[index]
        return any(held_out(thing.category, thing.colour, side) for side in sides)

    @property
    def all_counted(self) -> bool:
        """True if every thing is visible enough to be counted."""
        return all(share >= LEAST_COUNTED for share in self.visible)

    def called(self, name: str, colour: str = "") -> list[int]:
        """Return the indices of all things that may be called `name` and have this colour, if one is given."""
        return [
            index
            for index, thing in enumerate(self.scene.things)
            if may_be_called(thing.category, name) and colour in ("", thing.colour)
        ]

    def name(self, index: int) -> str:
        """Return the category, with the colour if it is ambiguous without; empty if it is ambiguous with it."""
        thing = self.scene.things[index]
        if self.called(thing.category) == [index]:
            return thing.category
        unique = self.coloured and self.called(thing.category, thing.colour) == [index]
        return noun(thing) if unique else ""

    def full_name(self, index: int) -> str:
        """Return the category with the colour, if it is visible."""
        return noun(self.scene.things[index], self.coloured)

    def named(self, indices: Sequence[int]) -> list[int]:
        """Return those of the things that have an unambiguous name."""
        return [index for index in indices if self.name(index)]
