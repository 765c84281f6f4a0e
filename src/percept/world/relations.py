"""Spatial relations between two things, derived from geometry; only unambiguous relations count."""

from collections.abc import Sequence

from percept.world.elements import Thing

RELATIONS = ("left of", "right of", "above", "below", "in front of", "behind")
OPPOSITE = {
    "left of": "right of",
    "right of": "left of",
    "above": "below",
    "below": "above",
    "in front of": "behind",
    "behind": "in front of",
}

SIDE_MARGIN = 0.15
"""Least horizontal distance of the centres of two things for left of and right of."""
HEIGHT_MARGIN = 0.18
"""Least vertical distance for above and below."""
DEPTH_MARGIN = 0.08
"""Least difference in depth for in front of and behind."""


def relations(thing: Thing, other: Thing) -> tuple[str, ...]:
    """Return all unambiguous relations of `thing` to `other`.

    Two grounded things are never above or below each other: the higher one is farther away.
    """
    names = []
    sideways = other.x - thing.x
    if abs(sideways) > SIDE_MARGIN:
        names.append("left of" if sideways > 0 else "right of")
    upwards = other.middle - thing.middle
    if not (thing.grounded and other.grounded) and abs(upwards) > HEIGHT_MARGIN:
        names.append("above" if upwards > 0 else "below")
    if _in_line(thing, other) and abs(other.depth - thing.depth) > DEPTH_MARGIN:
        names.append("in front of" if other.depth > thing.depth else "behind")
    return tuple(names)


def _in_line(thing: Thing, other: Thing) -> bool:
    """True if the two overlap, or both are grounded and one stands in front of the other."""
    reach = 0.32 * (thing.scale + other.scale)
    if abs(thing.x - other.x) > reach:
        return False
    return (thing.grounded and other.grounded) or abs(thing.middle - other.middle) < reach


def all_relations(things: Sequence[Thing]) -> list[set[str]]:
    """Return for each thing its relations to any other thing; {"alone"} for a single thing."""
    if len(things) == 1:
        return [{"alone"}]
    return [
        {relation for other in things if other is not thing for relation in relations(thing, other)} for thing in things
    ]
