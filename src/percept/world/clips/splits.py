"""Held-out compositions of clips: one in eight (action, category, colour) and (action, category, direction) triples.

The scheme is that of `percept.world.splits`, whose own triples never occur in a frame of training clips either.
"""

import random
from collections.abc import Iterable, Sequence
from functools import cache

from percept.core.seed import derive
from percept.world.clips.elements import Event, Plan
from percept.world.palette import COLOURS
from percept.world.relations import all_relations
from percept.world.splits import free_colours, held_out, triples


@cache
def held_out_action(kind: str, category: str, manner: str) -> bool:
    """True if an action of a category with a colour or a direction occurs in the evaluation split only; determined by a hash."""
    return derive(0, "held out action", kind, category, manner) % 8 == 0


def action_triples(plan: Plan, event: Event) -> set[tuple[str, str, str]]:
    """Return the (action, category, colour) and (action, category, direction) triples of an event; none for the camera."""
    if not event.subjects:
        return set()
    thing = plan.tracks[event.subjects[0]].thing
    return {(event.kind, thing.category, manner) for manner in (thing.colour, event.direction) if manner}


def is_held_out(plan: Plan, event: Event) -> bool:
    """True if an event shows a composition of the evaluation split."""
    return any(held_out_action(*triple) for triple in action_triples(plan, event))


def obeys(plan: Plan) -> bool:
    """True if a clip obeys its split.

    A clip for evaluation has an event that is held out. Any other clip has none, and no frame shows a held-out composition of an image.
    """
    if plan.split == "evaluation":
        return any(is_held_out(plan, event) for event in plan.events)
    if any(is_held_out(plan, event) for event in plan.events):
        return False
    return not any(held_out(*triple) for frame in range(plan.frames) for triple in triples(plan.scene(frame)))


def frame_relations(plan: Plan) -> list[set[str]]:
    """Return for each track all relations that it has in any frame, and "alone"."""
    found: list[set[str]] = [{"alone"} for _ in plan.tracks]
    previous = None
    for frame in range(plan.frames):
        shown = plan.on_stage(frame)
        things = plan.scene(frame, shown).things
        if things == previous:
            continue
        previous = things
        for track, relations in zip(shown, all_relations(things), strict=True):
            found[track.number] |= relations
    return found


def choose_colours(rng: random.Random, plan: Plan) -> list[str] | None:
    """Choose a colour for every track, different within a category; None if the split allows none.

    In evaluation at least one event becomes a held-out composition.
    """
    kinds = [[event.kind for event in plan.events if event.subjects[:1] == (track.number,)] for track in plan.tracks]
    choices = _reserved(rng, plan, kinds) if plan.split == "evaluation" else _allowed(plan, kinds)
    if choices is None:
        return None
    colours: list[str] = []
    for track, options in zip(plan.tracks, choices, strict=True):
        taken = {
            colour
            for other, colour in zip(plan.tracks, colours, strict=False)
            if other.thing.category == track.thing.category
        }
        left = [colour for colour in options if colour not in taken]
        if not left:
            return None
        colours.append(rng.choice(left))
    return colours


def _allowed(plan: Plan, kinds: Sequence[Iterable[str]]) -> list[list[str]]:
    """Return for each track the colours that form no held-out composition."""
    return [
        [
            colour
            for colour in free_colours(track.thing.category, relations)
            if not any(held_out_action(kind, track.thing.category, colour) for kind in acts)
        ]
        for track, relations, acts in zip(plan.tracks, frame_relations(plan), kinds, strict=True)
    ]


def _reserved(rng: random.Random, plan: Plan, kinds: Sequence[Iterable[str]]) -> list[list[str]] | None:
    """Return all colours for every track but one, which gets those that make one of its events held out."""
    choices = [list(COLOURS) for _ in plan.tracks]
    actors = [track for track, acts in zip(plan.tracks, kinds, strict=True) if acts]
    rng.shuffle(actors)
    for track in actors:
        reserved = [
            colour
            for colour in COLOURS
            if any(held_out_action(kind, track.thing.category, colour) for kind in kinds[track.number])
        ]
        if reserved:
            choices[track.number] = reserved
            return choices
    return choices if any(is_held_out(plan, event) for event in plan.events) else None
