"""The labelled world: images generated from seeds, with complete ground truth. Some compositions are held out for evaluation.

>>> rendering = generate(7, split="train")
>>> rendering.image.shape, len(rendering.scene.things) == len(rendering.boxes)
((96, 96, 3), True)
"""

import random
from collections import Counter
from dataclasses import replace

from percept.world.alt_text import alt_text
from percept.world.backgrounds import BACKGROUNDS
from percept.world.elements import Scene, Thing, Word
from percept.world.fills import FILLS
from percept.world.language import (
    CLASS_TEMPLATES,
    COLOUR_TEMPLATES,
    fill_template,
    long_caption,
    names_caption,
    short_caption,
    swapped_attributes,
    swapped_sides,
)
from percept.world.objects import CATEGORIES
from percept.world.palette import COLOURS
from percept.world.render import Rendering, render
from percept.world.scene import sample_scene
from percept.world.splits import SPLITS, held_out, obeys, triples
from percept.world.variants import SEEN, STYLES, UNSEEN, shows_colour

__all__ = [
    "BACKGROUNDS",
    "CATEGORIES",
    "CLASS_TEMPLATES",
    "COLOURS",
    "COLOUR_TEMPLATES",
    "FILLS",
    "SEEN",
    "SPLITS",
    "STYLES",
    "UNSEEN",
    "Rendering",
    "Scene",
    "Thing",
    "Word",
    "alt_text",
    "fill_template",
    "generate",
    "held_out",
    "long_caption",
    "names_caption",
    "obeys",
    "render",
    "sample_scene",
    "short_caption",
    "shows_colour",
    "swapped_attributes",
    "swapped_sides",
    "triples",
    "twin",
]


def generate(
    seed: int,
    *,
    split: str = "train",
    style: str = "plain",
    variant: str | None = None,
    things: tuple[int, int] = (1, 6),
    size: int = 96,
    aspect: float = 1.0,
    truth: bool = True,
) -> Rendering:
    """Sample scene number `seed` of a split and render it. Arguments are those of `sample_scene` and `render`."""
    scene = sample_scene(seed, split=split, things=things, style=style, variant=variant, aspect=aspect)
    return render(scene, size=size, truth=truth)


RECAST = 0.4
"""Share of scenes with several things whose twin changes the category of one thing. With a single thing it always does."""


def twin(scene: Scene, rng: random.Random) -> Scene | None:
    """Return a scene that differs in one point: two colours exchanged, one category changed, or mirrored.

    The twin obeys the split rule. None if no such change obeys it, or none would be visible.
    """
    candidates = [_exchanged(scene, *pair) for pair in _pairs(scene)]
    rng.shuffle(candidates)
    if len(scene.things) > 1:
        candidates.insert(rng.randint(0, min(1, len(candidates))), _mirrored(scene))
    if len(scene.things) == 1 or rng.random() < RECAST:
        candidates = [_recast(scene, rng) for _ in range(4)] + candidates
    return next((candidate for candidate in candidates if obeys(candidate)), None)


def _recast(scene: Scene, rng: random.Random) -> Scene:
    """Change the category of one thing and keep its colour; choose a thing whose category occurs once, if there is one."""
    things = list(scene.things)
    kinds = Counter(thing.category for thing in things)
    place = rng.choice([index for index, thing in enumerate(things) if kinds[thing.category] == 1] or [0])
    kind = rng.choice([name for name in CATEGORIES if name not in kinds])
    things[place] = replace(things[place], category=kind, seed=rng.getrandbits(32))
    return replace(scene, things=tuple(things))


def _pairs(scene: Scene) -> list[tuple[int, int]]:
    """Return the indices of pairs of things that differ in category and colour; none if colours are not visible."""
    if not shows_colour(scene):
        return []
    things = scene.things
    return [
        (first, second)
        for first in range(len(things))
        for second in range(first + 1, len(things))
        if things[first].category != things[second].category and things[first].colour != things[second].colour
    ]


def _exchanged(scene: Scene, first: int, second: int) -> Scene:
    """Exchange the colours of two things."""
    things = list(scene.things)
    things[first], things[second] = (
        replace(things[first], colour=things[second].colour),
        replace(things[second], colour=things[first].colour),
    )
    return replace(scene, things=tuple(things))


def _mirrored(scene: Scene) -> Scene:
    """Mirror positions and poses. Printed words move but stay readable."""
    things = [
        replace(thing, x=scene.width - thing.x, flip=not thing.flip, angle=-thing.angle, shear=-thing.shear)
        for thing in scene.things
    ]
    words = [replace(word, x=scene.width - word.x) for word in scene.words]
    return replace(scene, things=tuple(things), words=tuple(words))
