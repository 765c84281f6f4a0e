"""Which compositions belong to which split: one in eight (category, colour, relation) triples is for evaluation only.

Of every category at least one colour is held out where it stands alone, so that the evaluation shows all of them.
"""

from collections.abc import Iterable
from functools import cache

from percept.core.errors import unknown_name
from percept.core.seed import derive
from percept.world.elements import Scene
from percept.world.palette import COLOURS
from percept.world.relations import all_relations

SPLITS = ("train", "validation", "evaluation")


@cache
def held_out(category: str, colour: str, relation: str) -> bool:
    """Tell whether the triple occurs only in the evaluation split; a hash decides, so nothing is stored."""
    if derive(0, "held out", category, colour, relation) % 8 == 0:
        return True
    return relation == "alone" and colour == _first_alone(category)


@cache
def _first_alone(category: str) -> str:
    """Return the colour that is held out for single things in any case; one that the hash holds out, where there is one."""
    hashes = {colour: derive(0, "held out", category, colour, "alone") for colour in COLOURS}
    return min(COLOURS, key=lambda colour: (hashes[colour] % 8, hashes[colour]))


def triples(scene: Scene) -> set[tuple[str, str, str]]:
    """Return (category, colour, relation) of every thing to any other; the relation of a single thing is "alone"."""
    return {
        (thing.category, thing.colour, relation)
        for thing, found in zip(scene.things, all_relations(scene.things), strict=True)
        for relation in found
    }


def obeys(scene: Scene) -> bool:
    """Tell whether the scene may be in its split: a held-out triple in evaluation, none elsewhere."""
    return any(held_out(*triple) for triple in triples(scene)) == (scene.split == "evaluation")


def split_seed(seed: int, split: str) -> int:
    """Return the seed of picture number `seed` in a split; the streams of the splits do not meet.

    Raises:
        PerceptError: no such split.
    """
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS)
    return derive(seed, "world", split)


def free_colours(category: str, found: Iterable[str]) -> list[str]:
    """Return the colours in which a thing with these relations is in no held-out triple."""
    found = tuple(found)
    return [colour for colour in COLOURS if not any(held_out(category, colour, relation) for relation in found)]


def reserved_colours(category: str, found: Iterable[str]) -> list[str]:
    """Return the colours in which a thing with these relations is in at least one held-out triple."""
    free = set(free_colours(category, found))
    return [colour for colour in COLOURS if colour not in free]
