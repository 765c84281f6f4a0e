"""Pairs of a right and a wrong text for training, each with its claims.

Hard negatives as in Yuksekgonul et al. 2023, arXiv:2210.01936 (NegCLIP), here from the truth of a scene. A wrong text never
says what is kept for evaluation.
"""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from percept.world.claims import said
from percept.world.elements import Scene, Thing
from percept.world.language import counted, exchangeable, exchanged_texts, listing, pairs_told, sided_texts
from percept.world.objects import CATEGORIES
from percept.world.palette import COLOURS
from percept.world.relations import OPPOSITE
from percept.world.splits import held_out
from percept.world.variants import shows_colour

KINDS = ("colours", "colours", "sides", "sides")
"""What is exchanged in each of the pairs of a scene, where it can be."""


@dataclass(frozen=True)
class Contrary:
    """A right text, a wrong one, and what each of them claims (see `percept.world.claims`)."""

    texts: tuple[str, str]
    claims: tuple[list[int], list[int]]


def contrary(scene: Scene, rng: random.Random) -> list[Contrary]:
    """Return one pair per entry of `KINDS`; the texts of a pair differ in one point only.

    Two colours are exchanged, or left and right; where there is nothing to exchange, one colour, or one kind, is another.
    Sketches without colours have other kinds instead of other colours.
    """
    make = {"colours": _colours_exchanged, "sides": _sides_exchanged}
    instead = {"colours": "colour", "sides": "category"}
    return [make[kind](scene, rng) or _altered(scene, rng, instead[kind]) for kind in KINDS]


def _colours_exchanged(scene: Scene, rng: random.Random) -> Contrary | None:
    pairs = exchangeable(scene)
    if not pairs:
        return None
    one, other = rng.sample(rng.choice(pairs), 2)
    crossed = (replace(one, colour=other.colour), replace(other, colour=one.colour))
    texts = exchanged_texts(scene, one, other, rng)
    return Contrary(texts, (said((one, other), colours=True), said(crossed, colours=True)))


def _sides_exchanged(scene: Scene, rng: random.Random) -> Contrary | None:
    pairs = [
        (first, second, relation)
        for first, second, relation in pairs_told(scene)
        if relation in ("left of", "right of") and not _kept(first, second, OPPOSITE[relation])
    ]
    if not pairs:
        return None
    first, second, relation = rng.choice(pairs)
    if rng.random() < 0.5:
        first, second, relation = second, first, OPPOSITE[relation]
    colours = shows_colour(scene)
    claims = [said((first, second), colours=colours, relation=side) for side in (relation, OPPOSITE[relation])]
    return Contrary(sided_texts(scene, first, second, relation, rng), (claims[0], claims[1]))


def _kept(first: Thing, second: Thing, relation: str) -> bool:
    """Tell whether the first thing in this relation to the second is a composition kept for evaluation."""
    sides = ((first, relation), (second, OPPOSITE[relation]))
    return any(held_out(thing.category, thing.colour, side) for thing, side in sides)


def _altered(scene: Scene, rng: random.Random, what: str) -> Contrary:
    """Name all things, right and with another colour, or kind, of one of them that the picture does not show at all."""
    colours = shows_colour(scene)
    what = what if colours else "category"
    index = rng.randrange(len(scene.things))
    others = [_with(scene.things[index], what, name) for name in _unseen(scene, what)]
    if len(scene.things) == 1:
        others = [one for one in others if not held_out(one.category, one.colour, "alone")]
    things = list(scene.things)
    things[index] = rng.choice(others)
    order = rng.sample(range(len(things)), len(things))
    right, wrong = (_list([of[place] for place in order], colours) for of in (scene.things, things))
    return Contrary((right, wrong), (said(scene.things, colours=colours), said(things, colours=colours)))


def _list(things: Sequence[Thing], colours: bool) -> str:
    """Name things in this order, and those that are called alike together."""
    named = Counter((thing.category, thing.colour if colours else "") for thing in things)
    return listing([counted(count, category, colour) for (category, colour), count in named.items()])


def _with(thing: Thing, what: str, name: str) -> Thing:
    return replace(thing, colour=name) if what == "colour" else replace(thing, category=name)


def _unseen(scene: Scene, what: str) -> list[str]:
    """Return the colours, or kinds, that no thing of the scene has."""
    shown = {getattr(thing, what) for thing in scene.things}
    return [name for name in (COLOURS if what == "colour" else CATEGORIES) if name not in shown]
