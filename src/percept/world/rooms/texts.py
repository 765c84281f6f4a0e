"""Captions, relations and questions of a room, all true in 3-D: from positions in metres, not from pixels."""

import random
from collections.abc import Sequence
from itertools import permutations

import numpy as np

from percept.core.words import article
from percept.world.language import listing
from percept.world.palette import COLOURS
from percept.world.qa.pair import Pair
from percept.world.rooms.draw import View
from percept.world.rooms.room import Room, is_reserved
from percept.world.rooms.solids import Solid

VISIBLE = 0.0025
"""Least share of the image of a solid that a text names."""
_SIDEWAYS, _DEEPER = 0.35, 0.6
"""Least difference in metres across the view for left and right, and along the view for in front of and behind."""
_NEAR = 1.0
"""Largest distance in metres of the axes of two solids that are next to each other."""
_CLEARLY = 1.3
"""Least ratio of two distances that are compared."""
QUESTIONS: dict[str, tuple[str, ...]] = {
    "count": ("How many objects are in the room?", "Count the objects.", "How many objects can you see?"),
    "colour": ("What colour is the {}?", "What color is the {}?"),
    "side": ("Is the {0} to the left or to the right of the {1}?", "On which side of the {1} is the {0}, left or right?"),
    "nearest": ("Which object is nearest to the camera?", "Which object is closest to the viewer?"),
    "depth": ("Is the {0} nearer than the {1}?", "Is the {0} closer to the camera than the {1}?"),
    "closer": ("Which is closer to the {0} in the room, the {1} or the {2}?", "Is the {0} closer to the {1} or to the {2}?"),
    "support": ("What stands on top of the {}?", "What is on the {}?"),
    "distance": ("How far is the {0} from the {1}, in metres?", "What is the distance from the {0} to the {1}?"),
    "height": ("Which is taller, the {0} or the {1}?",),
}  # fmt: skip


def name(solid: Solid, *, size: bool = False) -> str:
    """Name a solid; colour and shape are unambiguous in a room."""
    return f"{solid.size} {solid.colour} {solid.shape}" if size else f"{solid.colour} {solid.shape}"


def shown(room: Room, view: View) -> list[int]:
    """Return the indices of the solids that are clearly visible."""
    return [index for index, share in enumerate(view.visible(len(room.solids))) if share >= VISIBLE]


def relations_in_view(room: Room, view: View) -> list[tuple[int, str, int]]:
    """Return all certain relations of visible solids, as (index, relation, index).

    Left of, right of, in front of and behind are as seen from the camera; on top of, under and next to do not depend on it.
    """
    local = view.camera.to_camera(np.array([solid.centre for solid in room.solids]))
    across = view.camera.project(np.array([solid.centre for solid in room.solids]))[0][:, 0] / view.camera.width
    found = []
    for first, second in permutations(shown(room, view), 2):
        stacked = room.solids[first].on == second or room.solids[second].on == first
        if room.solids[first].on == second:
            found.append((first, "on top of", second))
        elif room.solids[second].on == first:
            found.append((first, "under", second))
        if stacked:
            continue
        sideways, deeper = local[second, 0] - local[first, 0], local[second, 2] - local[first, 2]
        if (
            abs(sideways) > _SIDEWAYS
            and abs(across[first] - across[second]) > 0.08
            and sideways * (across[second] - across[first]) > 0
        ):
            found.append((first, "left of" if sideways > 0 else "right of", second))
        if abs(deeper) > _DEEPER and abs(sideways) < 0.7:
            found.append((first, "in front of" if deeper > 0 else "behind", second))
        if _distance(room.solids[first], room.solids[second]) < _NEAR and not stacked:
            found.append((first, "next to", second))
    return found


def _distance(first: Solid, second: Solid) -> float:
    """Return the distance of the centres in metres."""
    return float(np.linalg.norm(np.subtract(first.centre, second.centre)))


def caption(room: Room, view: View, rng: random.Random) -> str:
    """Describe the visible solids and one or two of their relations."""
    visible = shown(room, view)
    if not visible:
        return "an empty corner of a room"
    names = [article(name(room.solids[index], size=True)) for index in rng.sample(visible, len(visible))]
    text = f"a room with {listing(names)}."
    relations = relations_in_view(room, view)
    of_pair = {frozenset((each[0], each[2])): each for each in rng.sample(relations, len(relations))}
    for first, relation, second in list(of_pair.values())[:2]:
        phrase = {"left of": "to the left of", "right of": "to the right of"}.get(relation, relation)
        text = f"{text} the {name(room.solids[first])} is {phrase} the {name(room.solids[second])}."
    return text


def room_pairs(room: Room, views: Sequence[View], rng: random.Random) -> list[Pair]:
    """Return questions about the first view; in the evaluation split those that involve a held-out solid."""
    view = views[0]
    visible = shown(room, view)
    pairs = _simple(room, view, visible, rng) + _pairwise(room, view, visible, rng) + _distances(room, visible, rng)
    if room.split != "evaluation":
        return pairs
    return [pair for pair in pairs if any(is_reserved(room.solids[index]) for _, index in pair.things)]


def _pair(
    rng: random.Random,
    kind: str,
    names: Sequence[str],
    answer: str,
    things: Sequence[int],
    choices: Sequence[str] = (),
) -> Pair:
    question = rng.choice(QUESTIONS[kind]).format(*names)
    return Pair(
        kind=kind, question=question, answer=answer, choices=tuple(choices),
        things=tuple((0, index) for index in things),
    )  # fmt: skip


def _simple(room: Room, view: View, visible: Sequence[int], rng: random.Random) -> list[Pair]:
    """Ask for the number, for the colour of a shape that occurs once, and for the nearest solid."""
    solids, pairs = room.solids, []
    if len(visible) == sum(share > 0 for share in view.visible(len(solids))) and visible:
        pairs.append(_pair(rng, "count", (), str(len(visible)), visible, ("1", "2", "3", "4", "5")))
    for index in visible:
        if sum(other.shape == solids[index].shape for other in solids) == 1:
            pairs.append(_pair(rng, "colour", (solids[index].shape,), solids[index].colour, (index,), tuple(COLOURS)))
    depths = view.camera.to_camera(np.array([solid.centre for solid in solids]))[:, 2]
    order = sorted(visible, key=lambda index: depths[index])
    if len(order) > 1 and depths[order[1]] - depths[order[0]] > _SIDEWAYS:
        names = [name(solids[index]) for index in visible]
        pairs.append(_pair(rng, "nearest", (), name(solids[order[0]]), visible, names))
    return pairs


def _pairwise(room: Room, view: View, visible: Sequence[int], rng: random.Random) -> list[Pair]:
    """Ask about two solids: side, depth, support and height."""
    solids, pairs = room.solids, []
    for first, relation, second in relations_in_view(room, view):
        names = (name(solids[first]), name(solids[second]))
        if relation in ("left of", "right of"):
            pairs.append(_pair(rng, "side", names, relation.split()[0], (first, second), ("left", "right")))
        elif relation in ("in front of", "behind"):
            answer = "yes" if relation == "in front of" else "no"
            pairs.append(_pair(rng, "depth", names, answer, (first, second), ("yes", "no")))
        elif relation == "on top of":
            choices = [name(solids[index]) for index in visible if index != second]
            pairs.append(_pair(rng, "support", names[1:], names[0], (first, second), choices))
    for first, second in permutations(visible, 2):
        one, other = solids[first], solids[second]
        if one.height > _CLEARLY * other.height:
            names = rng.sample((name(one), name(other)), 2)
            pairs.append(_pair(rng, "height", names, name(one), (first, second), names))
    return pairs


def _distances(room: Room, visible: Sequence[int], rng: random.Random) -> list[Pair]:
    """Ask which of two solids is closer to a third one, and for distances of solids on the floor."""
    solids, pairs = room.solids, []
    for first, second, third in permutations(visible, 3):
        near, far = _distance(solids[first], solids[second]), _distance(solids[first], solids[third])
        if far > _CLEARLY * near:
            answer = name(solids[second])
            choices = rng.sample((answer, name(solids[third])), 2)
            names = (name(solids[first]), *choices)
            pairs.append(_pair(rng, "closer", names, answer, (first, second, third), choices))
    for first, second in permutations(visible, 2):
        if first < second:
            metres = f"{_distance(solids[first], solids[second]):.1f}"
            pairs.append(_pair(rng, "distance", (name(solids[first]), name(solids[second])), metres, (first, second)))
    return pairs
