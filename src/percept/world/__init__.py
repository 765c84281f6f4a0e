"""The labelled world: pictures drawn from seeds, with complete truth and a rule that keeps compositions for evaluation.

>>> picture = generate(7, split="train")
>>> picture.image.shape, len(picture.scene.things) == len(picture.boxes)
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
from percept.world.render import Picture, render
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
    "Picture",
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
) -> Picture:
    """Sample scene number `seed` of a split and draw it; arguments as in `sample_scene` and `render`."""
    scene = sample_scene(seed, split=split, things=things, style=style, variant=variant, aspect=aspect)
    return render(scene, size=size, truth=truth)


RECAST = 0.4
"""Share of twins of several things in which one thing is of another kind; of single things all are."""


def twin(scene: Scene, rng: random.Random) -> Scene | None:
    """Return the same scene with two colours exchanged, one thing of another kind, or seen in a mirror.

    A partner that only a careful eye tells apart.

    The twin obeys the split rule; None if no change of this kind does, or none would be visible.
    """
    candidates = [_exchanged(scene, *pair) for pair in _pairs(scene)]
    rng.shuffle(candidates)
    if len(scene.things) > 1:
        candidates.insert(rng.randint(0, min(1, len(candidates))), _mirrored(scene))
    if len(scene.things) == 1 or rng.random() < RECAST:
        candidates = [_recast(scene, rng) for _ in range(4)] + candidates
    return next((candidate for candidate in candidates if obeys(candidate)), None)


def _recast(scene: Scene, rng: random.Random) -> Scene:
    """Put a thing of another kind, in the same colour, in the place of one that has no equal, if there is one."""
    things = list(scene.things)
    kinds = Counter(thing.category for thing in things)
    place = rng.choice([index for index, thing in enumerate(things) if kinds[thing.category] == 1] or [0])
    kind = rng.choice([name for name in CATEGORIES if name not in kinds])
    things[place] = replace(things[place], category=kind, seed=rng.getrandbits(32))
    return replace(scene, things=tuple(things))


def _pairs(scene: Scene) -> list[tuple[int, int]]:
    """Return pairs of things of different kinds and colours, by index."""
    if not shows_colour(scene):
        return []
    things = scene.things
    return [
        (one, other)
        for one in range(len(things))
        for other in range(one + 1, len(things))
        if things[one].category != things[other].category and things[one].colour != things[other].colour
    ]


def _exchanged(scene: Scene, one: int, other: int) -> Scene:
    things = list(scene.things)
    things[one], things[other] = (
        replace(things[one], colour=things[other].colour),
        replace(things[other], colour=things[one].colour),
    )
    return replace(scene, things=tuple(things))


def _mirrored(scene: Scene) -> Scene:
    """Mirror places and poses; printed words move but stay readable."""
    things = [
        replace(thing, x=scene.width - thing.x, flip=not thing.flip, angle=-thing.angle, shear=-thing.shear)
        for thing in scene.things
    ]
    words = [replace(word, x=scene.width - word.x) for word in scene.words]
    return replace(scene, things=tuple(things), words=tuple(words))
