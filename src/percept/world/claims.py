"""Claims: numbered statements about a scene, such as the colour of a thing or its side relative to another thing.

A claim combines two words, so that a set of claims distinguishes "a red cup and a blue car" from "a blue cup and a red
car", which a set of words cannot. Id 0 is padding.
"""

from collections.abc import Sequence

from percept.world.elements import MOST_THINGS, Scene, Thing
from percept.world.language import notable_relations
from percept.world.objects import CATEGORIES
from percept.world.palette import COLOURS
from percept.world.relations import OPPOSITE
from percept.world.variants import shows_colour

SIDES = ("left of", "right of", "above", "below")
_KINDS = {name: number for number, name in enumerate(CATEGORIES)}
_COLOURS = {name: number for number, name in enumerate(COLOURS)}
FIRST_SIDE = 1 + len(CATEGORIES) * (len(COLOURS) + 1)
"""Id of the first claim about sides; smaller ids are about colours."""
COUNT = FIRST_SIDE + len(CATEGORIES) * len(SIDES)
"""Number of ids, with the padding."""
MOST_IN_TEXT = 8
"""Upper bound of the claims of a text: six things, or two with their sides."""
MOST_IN_IMAGE = MOST_THINGS * (1 + len(SIDES))
"""Upper bound of the claims of an image."""


def coloured(category: str, colour: str) -> int:
    """Return the claim that a thing has this category and colour; an empty colour means that it is not visible.

    >>> len({coloured(kind, colour) for kind in CATEGORIES for colour in (*COLOURS, "")}) == FIRST_SIDE - 1
    True
    """
    return 1 + _KINDS[category] * (len(COLOURS) + 1) + _COLOURS.get(colour, len(COLOURS))


def sided(category: str, side: str) -> int:
    """Return the claim that a thing of this category is on this side of another thing."""
    return FIRST_SIDE + _KINDS[category] * len(SIDES) + SIDES.index(side)


def text_claims(things: Sequence[Thing], *, colours: bool, relation: str | None = None) -> list[int]:
    """Return the claims of a text that names these things and, optionally, the relation of the first to the second."""
    claims = [coloured(thing.category, thing.colour if colours else "") for thing in things]
    if relation in SIDES:
        claims += [sided(things[0].category, relation), sided(things[1].category, OPPOSITE[relation])]
    return list(dict.fromkeys(claims))


def image_claims(scene: Scene) -> list[int]:
    """Return the claims that hold for a scene: all its things, and the sides of all notable relations."""
    claims = text_claims(scene.things, colours=shows_colour(scene))
    for first, second, relation in notable_relations(scene):
        if relation in SIDES:
            claims += [sided(first.category, relation), sided(second.category, OPPOSITE[relation])]
    return list(dict.fromkeys(claims))
