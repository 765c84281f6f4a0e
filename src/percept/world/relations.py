"""Which relations hold between two things: by geometry alone, and only where a person would not argue."""

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
"""Middles nearer than this, in shorter sides, are neither left nor right of each other."""
HEIGHT_MARGIN = 0.18
DEPTH_MARGIN = 0.08


def relations(thing: Thing, other: Thing) -> tuple[str, ...]:
    """Return every relation that `thing` clearly has to `other`.

    Two things that both stand on the ground are never above or below each other: the higher one is farther away.
    """
    found = []
    sideways = other.x - thing.x
    if abs(sideways) > SIDE_MARGIN:
        found.append("left of" if sideways > 0 else "right of")
    upwards = other.middle - thing.middle
    if not (thing.grounded and other.grounded) and abs(upwards) > HEIGHT_MARGIN:
        found.append("above" if upwards > 0 else "below")
    if _in_line(thing, other) and abs(other.depth - thing.depth) > DEPTH_MARGIN:
        found.append("in front of" if other.depth > thing.depth else "behind")
    return tuple(found)


def _in_line(thing: Thing, other: Thing) -> bool:
    """Tell whether one thing hides, or on the ground stands before, the other."""
    reach = 0.32 * (thing.scale + other.scale)
    if abs(thing.x - other.x) > reach:
        return False
    return (thing.grounded and other.grounded) or abs(thing.middle - other.middle) < reach


def all_relations(things: Sequence[Thing]) -> list[set[str]]:
    """Return per thing the relations it has to any other; {"alone"} for a single thing."""
    if len(things) == 1:
        return [{"alone"}]
    return [
        {relation for other in things if other is not thing for relation in relations(thing, other)} for thing in things
    ]
