"""Splits of the world by composition: one in eight (category, colour, relation) triples is held out for evaluation.

For single things at least one colour of every category is held out, so that the evaluation covers all categories.
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
    """True if the triple occurs in the evaluation split only; determined by a hash."""
    if derive(0, "held out", category, colour, relation) % 8 == 0:
        return True
    return relation == "alone" and colour == _first_alone(category)


@cache
def _first_alone(category: str) -> str:
    """Return the colour that is always held out for single things; one held out by the hash, if any is."""
    hashes = {colour: derive(0, "held out", category, colour, "alone") for colour in COLOURS}
    return min(COLOURS, key=lambda colour: (hashes[colour] % 8, hashes[colour]))


def triples(scene: Scene) -> set[tuple[str, str, str]]:
    """Return all (category, colour, relation) triples of a scene; the relation of a single thing is "alone"."""
    return {
        (thing.category, thing.colour, relation)
        for thing, relations in zip(scene.things, all_relations(scene.things), strict=True)
        for relation in relations
    }


def obeys(scene: Scene) -> bool:
    """True if the scene obeys its split: a held-out triple in evaluation, none in the other splits."""
    return any(held_out(*triple) for triple in triples(scene)) == (scene.split == "evaluation")


def split_seed(seed: int, split: str) -> int:
    """Return the seed of scene number `seed` of a split; splits have independent random streams.

    Raises:
        PerceptError: unknown split.
    """
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS)
    return derive(seed, "world", split)


def free_colours(category: str, relations: Iterable[str]) -> list[str]:
    """Return the colours for which a thing with these relations forms no held-out triple."""
    relations = tuple(relations)
    return [colour for colour in COLOURS if not any(held_out(category, colour, relation) for relation in relations)]


def reserved_colours(category: str, relations: Iterable[str]) -> list[str]:
    """Return the colours for which a thing with these relations forms at least one held-out triple."""
    free = set(free_colours(category, relations))
    return [colour for colour in COLOURS if colour not in free]
