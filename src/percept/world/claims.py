"""What a picture shows, or a text says, as numbers: which thing has which colour, and on which side of another it stands.

A claim joins two words, so that a list of claims tells "a red cup and a blue car" from "a blue cup and a red car", which
a list of words cannot. 0 stands for none.
"""

from collections.abc import Sequence

from percept.world.elements import Scene, Thing
from percept.world.language import pairs_told
from percept.world.objects import CATEGORIES
from percept.world.palette import COLOURS
from percept.world.patches import MOST_THINGS
from percept.world.relations import OPPOSITE
from percept.world.variants import shows_colour

SIDES = ("left of", "right of", "above", "below")
_KINDS = {name: number for number, name in enumerate(CATEGORIES)}
_COLOURS = {name: number for number, name in enumerate(COLOURS)}
FIRST_SIDE = 1 + len(CATEGORIES) * (len(COLOURS) + 1)
"""Number of the first claim about sides; those before it are about colours."""
COUNT = FIRST_SIDE + len(CATEGORIES) * len(SIDES)
"""Numbers there are."""
MOST_SAID = 8
"""Most claims of a text: six things, or two with their sides."""
MOST_SHOWN = MOST_THINGS * (1 + len(SIDES))
"""Most claims of a picture."""


def coloured(category: str, colour: str) -> int:
    """Return the claim that a thing is of this kind and colour; an empty colour is one that does not show.

    >>> len({coloured(kind, colour) for kind in CATEGORIES for colour in (*COLOURS, "")}) == FIRST_SIDE - 1
    True
    """
    return 1 + _KINDS[category] * (len(COLOURS) + 1) + _COLOURS.get(colour, len(COLOURS))


def sided(category: str, side: str) -> int:
    """Return the claim that a thing of this kind stands on this side of another."""
    return FIRST_SIDE + _KINDS[category] * len(SIDES) + SIDES.index(side)


def said(things: Sequence[Thing], *, colours: bool, relation: str | None = None) -> list[int]:
    """Return what a text claims that names these things, and perhaps the relation of the first to the second."""
    claims = [coloured(thing.category, thing.colour if colours else "") for thing in things]
    if relation in SIDES:
        claims += [sided(things[0].category, relation), sided(things[1].category, OPPOSITE[relation])]
    return list(dict.fromkeys(claims))


def shown(scene: Scene) -> list[int]:
    """Return what a picture claims: of all its things, and of the sides that a person would mention."""
    claims = said(scene.things, colours=shows_colour(scene))
    for first, second, relation in pairs_told(scene):
        if relation in SIDES:
            claims += [sided(first.category, relation), sided(second.category, OPPOSITE[relation])]
    return list(dict.fromkeys(claims))
