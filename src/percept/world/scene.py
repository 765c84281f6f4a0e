"""Sample scenes that obey the rule of their split.

Categories are sampled first, then the geometry, which determines the relations, and last the colours that the split allows
for them. Nothing is rendered here.
"""

import random
from collections.abc import Sequence
from dataclasses import replace

from percept.core.errors import PerceptError, unknown_name
from percept.world.backgrounds import BACKGROUNDS, Background
from percept.world.elements import Scene, Thing, Word
from percept.world.fills import FILLS
from percept.world.layout import lay_out, size_word
from percept.world.objects import CATEGORIES
from percept.world.palette import COLOURS
from percept.world.relations import all_relations
from percept.world.splits import free_colours, obeys, reserved_colours, split_seed
from percept.world.variants import MOST_THINGS, STYLES, choose_variant, frame_of, pose_of
from percept.world.vocabulary import sample_words

__all__ = ["COUNT_WEIGHTS", "Scene", "Thing", "Word", "sample_scene"]

COUNT_WEIGHTS = (35, 30, 15, 10, 6, 4)
"""Relative frequency of one, two, … six things in a scene."""
EQUAL_SHARE = 0.16
"""Share of scenes with two or more things in which some are alike."""
WORD_SHARE = 0.17
"""Share of scenes with printed words."""


def sample_scene(
    seed: int,
    *,
    split: str = "train",
    things: tuple[int, int] = (1, 6),
    style: str = "plain",
    variant: str | None = None,
    aspect: float = 1.0,
) -> Scene:
    """Sample scene number `seed` of a split. The same arguments give the same scene.

    Args:
        seed: number of the scene.
        split: a name of `SPLITS`.
        things: smallest and largest number of things, from 1 to 6.
        style: a name of `STYLES`, or "mixed" for all of them, half plain.
        variant: variant of the style; random if None (outside the evaluation split from `SEEN` only).
        aspect: width divided by height, from 0.25 to 4.

    Raises:
        PerceptError: unknown split, style or variant, or a value out of range.
    """
    low, high = things
    if not 1 <= low <= high <= len(COUNT_WEIGHTS):
        raise PerceptError(f"things must be (smallest, largest) number from 1 to {len(COUNT_WEIGHTS)}, got {things}.")
    if not 0.25 <= aspect <= 4:
        raise PerceptError(f"aspect must be a width divided by a height from 0.25 to 4, got {aspect}.")
    if style not in (*STYLES, "mixed"):
        raise unknown_name("style", style, (*STYLES, "mixed"))
    rng = random.Random(split_seed(seed, split))
    if style == "mixed":
        style = rng.choices(STYLES, (5, 1, 1, 1, 1, 1))[0]
    variant = choose_variant(rng, style, variant, split)
    count = rng.choices(range(low, high + 1), COUNT_WEIGHTS[low - 1 : high])[0]
    count = max(low, min(count, MOST_THINGS.get(variant, count)))
    while True:
        scene = _attempt(
            rng,
            Scene(seed=seed, split=split, style=style, variant=variant, aspect=aspect, background="", things=()),
            count,
        )
        if scene is not None:
            return scene


def _attempt(rng: random.Random, scene: Scene, count: int) -> Scene | None:
    """Fill an empty scene; None in the rare case that no colours obey the split."""
    categories, alike = _choose_categories(rng, count)
    background = _choose_background(rng, scene, categories[0])
    categories = _settle(rng, categories, alike, background)
    horizon = rng.uniform(*background.horizon) * scene.height
    scene = replace(scene, background=background.name, background_seed=rng.getrandbits(32), horizon=horizon)
    frame = frame_of(rng, scene)
    wishes = [(CATEGORIES[category].habitat, CATEGORIES[category].size) for category in categories]
    blank = []
    for spot, category in zip(lay_out(rng, wishes, background, frame), categories, strict=True):
        scale, word = size_word(spot.scale, rng)
        pose = pose_of(rng, scene.variant)
        fill = "plain" if rng.random() < 0.5 else rng.choice(FILLS[1:])
        blank.append(
            Thing(
                category=category,
                colour="",
                fill=fill,
                size=word,
                x=spot.x,
                y=spot.y,
                scale=scale,
                depth=spot.depth,
                grounded=spot.grounded,
                seed=rng.getrandbits(32),
                **pose,
            )
        )
    coloured = _colour(rng, blank, alike, scene.split)
    if coloured is None:
        return None
    scene = replace(scene, things=tuple(coloured))
    if rng.random() < WORD_SHARE:
        scene = replace(scene, words=sample_words(rng, scene))
    assert obeys(scene)
    return scene


def _choose_categories(rng: random.Random, count: int) -> tuple[list[str], int]:
    """Return the categories of all things, and the number of equal ones at the start."""
    names = tuple(CATEGORIES)
    alike = min(count, rng.choice((2, 2, 3))) if count > 1 and rng.random() < EQUAL_SHARE else 1
    first = rng.choice(names)
    return [first] * alike + [rng.choice(names) for _ in range(count - alike)], alike


def _choose_background(rng: random.Random, scene: Scene, category: str) -> Background:
    """Choose a background that suits the habitat of a category, or an unsuitable one in the unusual style."""
    if scene.style == "sketch":
        return BACKGROUNDS["paper"]
    habitat = CATEGORIES[category].habitat
    scenic = [background for background in BACKGROUNDS.values() if not background.flat]
    pool = [background for background in scenic if habitat in background.habitats or scene.style == "unusual"]
    if scene.style == "unusual":
        pool = [background for background in pool if habitat not in background.habitats] or pool
    if not pool or (scene.variant not in ("displaced", "floating") and rng.random() < 0.42):
        pool = [background for background in BACKGROUNDS.values() if background.flat]
    return rng.choice(pool)


def _settle(rng: random.Random, categories: list[str], alike: int, background: Background) -> list[str]:
    """Replace most of the later categories that do not suit the background."""
    fitting = [name for name, category in CATEGORIES.items() if category.habitat in background.habitats]
    settled = categories[:alike]
    for name in categories[alike:]:
        fits = CATEGORIES[name].habitat in background.habitats or not fitting or rng.random() < 0.15
        settled.append(name if fits else rng.choice(fitting))
    return settled


def _colour(rng: random.Random, things: Sequence[Thing], alike: int, split: str) -> list[Thing] | None:
    """Give every thing a category and colour that the split allows; None if that is impossible."""
    relations_of_thing = all_relations(things)
    groups = [list(range(alike)), *([index] for index in range(alike, len(things)))]
    relations_of = [set().union(*(relations_of_thing[index] for index in group)) for group in groups]
    forced = -1
    if split == "evaluation":
        candidates = [index for index, relations in enumerate(relations_of) if relations]
        if not candidates:
            return None
        forced = rng.choice(candidates)
    coloured = list(things)
    for number, (group, relations) in enumerate(zip(groups, relations_of, strict=True)):
        choice = _category_and_colour(rng, things[group[0]], relations, split, number == forced)
        if choice is None:
            return None
        fill = things[group[0]].fill if rng.random() < 0.7 else None
        for index in group:
            thing = replace(things[index], category=choice[0], colour=choice[1])
            coloured[index] = replace(thing, fill=fill) if fill and len(group) > 1 else thing
    return coloured


def _category_and_colour(
    rng: random.Random, thing: Thing, relations: set[str], split: str, forced: bool
) -> tuple[str, str] | None:
    """Return a colour for the category of a thing, or for a different category of the same habitat if none is allowed."""
    habitat = CATEGORIES[thing.category].habitat
    replacements = [name for name, category in CATEGORIES.items() if category.habitat == habitat]
    for category in (thing.category, *rng.sample(replacements, min(6, len(replacements)))):
        if forced:
            colours = reserved_colours(category, relations)
        elif split == "evaluation":
            return category, rng.choice(tuple(COLOURS))
        else:
            colours = free_colours(category, relations)
        if colours:
            return category, rng.choice(colours)
    return None
