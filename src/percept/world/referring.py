"""Referring expressions: the shortest descriptions that fit exactly one thing of a scene.

A description is plain data that can be checked against a scene. Descriptions with the fewest parts are found by searching all
combinations, as the full brevity algorithm of Dale and Reiter (1995, section 3.1.1) does.
"""

import random
from dataclasses import dataclass, replace
from itertools import combinations

from percept.world.claims import SIDES
from percept.world.elements import Scene, Thing
from percept.world.kinds import may_be_called
from percept.world.language import RELATION_PHRASES, notable
from percept.world.relations import HEIGHT_MARGIN, SIDE_MARGIN, relations
from percept.world.variants import shows_colour

_FILL_WORDS = {"striped": "striped", "dotted": "dotted", "checked": "checked"}
_SIDES = {"leftmost": -1, "rightmost": 1, "topmost": -1, "bottommost": 1}
"""Superlative → direction along x or y."""


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a description mentions of a thing. An empty part is not mentioned."""

    category: str
    colour: str = ""
    fill: str = ""
    side: str = ""
    """A superlative, such as "leftmost", among the things that the other parts fit."""
    relation: str = ""
    """Relation to `anchor`."""
    anchor: "Description | None" = None
    """Another thing, described without relation."""

    @property
    def parts(self) -> int:
        """Number of parts besides the category; those of the anchor count as well."""
        own = sum(bool(part) for part in (self.colour, self.fill, self.side, self.relation))
        return own + (self.anchor.parts if self.anchor else 0)

    def words(self, phrase: str = "") -> str:
        """Return the description in words, without article. `phrase` replaces the words of the relation.

        >>> Description(category="cup", colour="red", side="leftmost").words()
        'leftmost red cup'
        """
        noun = " ".join(
            part for part in (self.side, _FILL_WORDS.get(self.fill, ""), self.colour, self.category) if part
        )
        if self.anchor is None:
            return noun
        return f"{noun} {phrase or RELATION_PHRASES[self.relation][0]} the {self.anchor.words()}"


def matches(scene: Scene, description: Description) -> list[int]:
    """Return the indices of all things that a description fits."""
    things = scene.things
    fitting = [index for index, thing in enumerate(things) if _fits(thing, description)]
    if description.anchor is not None:
        anchors = matches(scene, description.anchor)
        fitting = [
            index
            for index in fitting
            if any(
                other != index and description.relation in relations(things[index], things[other]) for other in anchors
            )
        ]
    return _at_side(scene, fitting, description.side) if description.side and fitting else fitting


def describe_thing(scene: Scene, index: int, rng: random.Random) -> Description | None:
    """Return a description with the fewest parts that fits thing number `index` only; None if there is none."""
    candidates = _candidates(scene, index)
    fewest = None
    unambiguous: list[Description] = []
    for candidate in sorted(candidates, key=lambda each: each.parts):
        if fewest is not None and candidate.parts > fewest:
            break
        if matches(scene, candidate) == [index]:
            fewest = candidate.parts
            unambiguous.append(candidate)
    return rng.choice(unambiguous) if unambiguous else None


def _fits(thing: Thing, description: Description) -> bool:
    return (
        may_be_called(thing.category, description.category)
        and description.colour in ("", thing.colour)
        and description.fill in ("", thing.fill)
    )


def _at_side(scene: Scene, fitting: list[int], side: str) -> list[int]:
    """Return the thing farthest to one side, or all if it is not clearly the farthest.

    Things on the ground are not compared in height: the higher one is farther away.
    """
    across, sign = side in ("leftmost", "rightmost"), _SIDES[side]
    things = [scene.things[index] for index in fitting]
    if not across and sum(thing.grounded for thing in things) > 1:
        return fitting
    places = {index: sign * (thing.x if across else thing.middle) for index, thing in zip(fitting, things, strict=True)}
    ordered = sorted(fitting, key=places.__getitem__, reverse=True)
    margin = SIDE_MARGIN if across else HEIGHT_MARGIN
    clear = len(ordered) == 1 or places[ordered[0]] - places[ordered[1]] > margin
    return ordered[:1] if clear else fitting


def _candidates(scene: Scene, index: int) -> list[Description]:
    """Return the true descriptions of a thing, with every combination of parts."""
    thing = scene.things[index]
    attributes = {"fill": thing.fill} if thing.fill in _FILL_WORDS else {}
    if shows_colour(scene):
        attributes["colour"] = thing.colour
    plain = _combined(thing.category, attributes)
    sided = [replace(each, side=side) for each in plain for side in _SIDES]
    return plain + sided + _related(scene, index, plain)


def _related(scene: Scene, index: int, plain: list[Description]) -> list[Description]:
    """Add the side of another thing, which is described by category and colour."""
    thing, related = scene.things[index], []
    for place, anchor in enumerate(scene.things):
        if place == index:
            continue
        sides = [relation for relation in notable(thing, anchor) if relation in SIDES]
        for words in _combined(anchor.category, {"colour": anchor.colour} if shows_colour(scene) else {}):
            if sides and matches(scene, words) == [place]:
                related += [replace(each, relation=side, anchor=words) for each in plain for side in sides]
    return related


def _combined(category: str, attributes: dict[str, str]) -> list[Description]:
    empty = Description(category=category)
    return [
        replace(empty, **dict(chosen))
        for count in range(len(attributes) + 1)
        for chosen in combinations(attributes.items(), count)
    ]
