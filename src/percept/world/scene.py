"""Sampling a scene: what, where, which colours; in an order that makes the split rule cheap to keep.

Categories come first, then the geometry, from which the relations follow, and only then the colours: among those the
split allows. Nothing is drawn here.
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
"""How often a picture has one, two, … six things."""
EQUAL_SHARE = 0.16
"""Share of pictures with two or more things in which some are alike."""
WORD_SHARE = 0.17


def sample_scene(
    seed: int,
    *,
    split: str = "train",
    things: tuple[int, int] = (1, 6),
    style: str = "plain",
    variant: str | None = None,
    aspect: float = 1.0,
) -> Scene:
    """Sample scene number `seed` of a split; the same arguments give the same scene.

    Args:
        things: least and most things, within 1..6.
        style: a name of `STYLES`, or "mixed" for all of them, half plain.
        variant: of that style; None draws one (outside evaluation only those listed in `SEEN`).
        aspect: width over height, within 1/4..4.

    Raises:
        PerceptError: unknown split, style or variant, or a range out of bounds.
    """
    low, high = things
    if not 1 <= low <= high <= len(COUNT_WEIGHTS):
        raise PerceptError(f"things={things} is no range within 1..{len(COUNT_WEIGHTS)}; give (least, most)")
    if not 0.25 <= aspect <= 4:
        raise PerceptError(f"aspect {aspect} is out of bounds; use a width over height within 1/4..4")
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
    """Fill an empty scene; None in the rare case that no colours fit."""
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
    """Return categories of all things, and how many at the start of the list are alike."""
    names = tuple(CATEGORIES)
    alike = min(count, rng.choice((2, 2, 3))) if count > 1 and rng.random() < EQUAL_SHARE else 1
    first = rng.choice(names)
    return [first] * alike + [rng.choice(names) for _ in range(count - alike)], alike


def _choose_background(rng: random.Random, scene: Scene, category: str) -> Background:
    """Pick a place: for the first thing's habitat, or any at all where the style is about strange contexts."""
    if scene.style == "sketch":
        return BACKGROUNDS["paper"]
    habitat = CATEGORIES[category].habitat
    pool = [
        one for one in BACKGROUNDS.values() if not one.flat and (habitat in one.habitats or scene.style == "unusual")
    ]
    if scene.style == "unusual":
        pool = [one for one in pool if habitat not in one.habitats] or pool
    if not pool or (scene.variant not in ("displaced", "floating") and rng.random() < 0.42):
        pool = [one for one in BACKGROUNDS.values() if one.flat]
    return rng.choice(pool)


def _settle(rng: random.Random, categories: list[str], alike: int, background: Background) -> list[str]:
    """Exchange most of the later things that do not belong in the place."""
    fitting = [name for name, category in CATEGORIES.items() if category.habitat in background.habitats]
    settled = categories[:alike]
    for name in categories[alike:]:
        fits = CATEGORIES[name].habitat in background.habitats or not fitting or rng.random() < 0.15
        settled.append(name if fits else rng.choice(fitting))
    return settled


def _colour(rng: random.Random, things: Sequence[Thing], alike: int, split: str) -> list[Thing] | None:
    """Give every thing a category and colour that the split allows; None if there is no way."""
    found = all_relations(things)
    groups = [list(range(alike)), *([index] for index in range(alike, len(things)))]
    relations_of = [set().union(*(found[index] for index in group)) for group in groups]
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
    """Keep the thing's category if any colour fits it, else take another one of the same habitat."""
    habitat = CATEGORIES[thing.category].habitat
    others = [name for name, category in CATEGORIES.items() if category.habitat == habitat]
    for category in (thing.category, *rng.sample(others, min(6, len(others)))):
        if forced:
            colours = reserved_colours(category, relations)
        elif split == "evaluation":
            return category, rng.choice(tuple(COLOURS))
        else:
            colours = free_colours(category, relations)
        if colours:
            return category, rng.choice(colours)
    return None
