"""Pairs of a right and a wrong text for training, each with its claims.

Hard negatives as in Yuksekgonul et al. 2023, arXiv:2210.01936 (NegCLIP), here derived from the ground truth of a scene. A
wrong text never describes a composition that is held out for evaluation.
"""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from percept.world.claims import text_claims
from percept.world.elements import Scene, Thing
from percept.world.language import counted, exchangeable, exchanged_texts, listing, notable_relations, sided_texts
from percept.world.objects import CATEGORIES
from percept.world.palette import COLOURS
from percept.world.relations import OPPOSITE
from percept.world.splits import held_out
from percept.world.variants import shows_colour

KINDS = ("colours", "colours", "sides", "sides")
"""Attribute exchanged in each pair of texts, where possible."""


@dataclass(frozen=True)
class Contrary:
    """A right and a wrong text with their claims (see `percept.world.claims`)."""

    texts: tuple[str, str]
    claims: tuple[list[int], list[int]]


def contrary(scene: Scene, rng: random.Random) -> list[Contrary]:
    """Return one pair per entry of `KINDS`; the texts of a pair differ in one point only.

    Two colours are exchanged, or left and right. Where neither is possible, one colour or one category is changed;
    in sketches without colours it is always the category.
    """
    make = {"colours": _colours_exchanged, "sides": _sides_exchanged}
    instead = {"colours": "colour", "sides": "category"}
    return [make[kind](scene, rng) or _altered(scene, rng, instead[kind]) for kind in KINDS]


def _colours_exchanged(scene: Scene, rng: random.Random) -> Contrary | None:
    pairs = exchangeable(scene)
    if not pairs:
        return None
    first, second = rng.sample(rng.choice(pairs), 2)
    crossed = (replace(first, colour=second.colour), replace(second, colour=first.colour))
    texts = exchanged_texts(scene, first, second, rng)
    return Contrary(texts, (text_claims((first, second), colours=True), text_claims(crossed, colours=True)))


def _sides_exchanged(scene: Scene, rng: random.Random) -> Contrary | None:
    pairs = [
        (first, second, relation)
        for first, second, relation in notable_relations(scene)
        if relation in ("left of", "right of") and not _is_held_out(first, second, OPPOSITE[relation])
    ]
    if not pairs:
        return None
    first, second, relation = rng.choice(pairs)
    if rng.random() < 0.5:
        first, second, relation = second, first, OPPOSITE[relation]
    colours = shows_colour(scene)
    claims = [text_claims((first, second), colours=colours, relation=side) for side in (relation, OPPOSITE[relation])]
    return Contrary(sided_texts(scene, first, second, relation, rng), (claims[0], claims[1]))


def _is_held_out(first: Thing, second: Thing, relation: str) -> bool:
    """True if two things in this relation are a composition that is held out for evaluation."""
    sides = ((first, relation), (second, OPPOSITE[relation]))
    return any(held_out(thing.category, thing.colour, side) for thing, side in sides)


def _altered(scene: Scene, rng: random.Random, attribute: str) -> Contrary:
    """Name all things, right and with the colour or category of one thing changed to one that does not occur."""
    colours = shows_colour(scene)
    attribute = attribute if colours else "category"
    index = rng.randrange(len(scene.things))
    candidates = [_with(scene.things[index], attribute, value) for value in _unseen(scene, attribute)]
    if len(scene.things) == 1:
        candidates = [thing for thing in candidates if not held_out(thing.category, thing.colour, "alone")]
    things = list(scene.things)
    things[index] = rng.choice(candidates)
    order = rng.sample(range(len(things)), len(things))
    right, wrong = (_list([named[place] for place in order], colours) for named in (scene.things, things))
    return Contrary((right, wrong), (text_claims(scene.things, colours=colours), text_claims(things, colours=colours)))


def _list(things: Sequence[Thing], colours: bool) -> str:
    """Name things in this order, equal names together."""
    named = Counter((thing.category, thing.colour if colours else "") for thing in things)
    return listing([counted(count, category, colour) for (category, colour), count in named.items()])


def _with(thing: Thing, attribute: str, value: str) -> Thing:
    return replace(thing, colour=value) if attribute == "colour" else replace(thing, category=value)


def _unseen(scene: Scene, attribute: str) -> list[str]:
    """Return the colours or categories that no thing of the scene has."""
    present = {getattr(thing, attribute) for thing in scene.things}
    return [value for value in (COLOURS if attribute == "colour" else CATEGORIES) if value not in present]
