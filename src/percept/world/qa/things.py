"""Questions about the things of one image: category, colour, number, side, existence, attributes, comparison and text.

A maker returns a pair for a view, or None if the image does not suit the question. The wish is a part of the answer that is
drawn before the image is, so that the answers are balanced.
"""

import random
from collections.abc import Sequence

from percept.core.words import article
from percept.world.elements import Thing
from percept.world.focus import MOST, held_out_print
from percept.world.kinds import confusable
from percept.world.language import notable
from percept.world.objects import CATEGORIES
from percept.world.palette import COLOURS
from percept.world.qa.pair import Pair
from percept.world.qa.phrasings import PHRASINGS
from percept.world.qa.view import View
from percept.world.relations import OPPOSITE
from percept.world.splits import held_out
from percept.world.vocabulary import WORDS

YES_NO = ("yes", "no")
SIDES = ("left", "right", "above", "below")
COUNTS = tuple(str(number) for number in range(1, MOST + 1))
PATTERNS = ("striped", "dotted", "checked")
_RELATIONS = {"left": "left of", "right": "right of", "above": "above", "below": "below"}
_PATTERN_SCALE = 0.35
"""Least size of a thing whose pattern is asked about."""
FAINT = ("yellow", "white", "black", "grey")
"""Colours whose patterns have little contrast."""
_DOMINANT = 1.6
"""Least ratio of the distances along the two axes if a thing is on one side of another."""


def phrase(rng: random.Random, name: str, *words: str) -> str:
    """Return a random phrasing of a question, filled with names."""
    return rng.choice(PHRASINGS[name]).format(*words)


def about(*indices: int) -> tuple[tuple[int, int], ...]:
    """Return the things of the first image as (image, thing) indices."""
    return tuple((0, index) for index in indices)


def category(view: View, rng: random.Random, wish: str) -> Pair | None:
    """Ask what the image shows if it shows one thing, and else which thing has a colour that occurs once."""
    things = view.scene.things
    if len(things) == 1:
        indices, question = view.subjects, phrase(rng, "category")
    elif view.coloured:
        indices = [
            index for index in view.subjects if sum(other.colour == things[index].colour for other in things) == 1
        ]
        question = ""
    else:
        return None
    if not indices:
        return None
    index = rng.choice(indices)
    question = question or phrase(rng, "category by colour", things[index].colour)
    return Pair(
        kind="category",
        question=question,
        answer=things[index].category,
        choices=tuple(CATEGORIES),
        things=about(index),
    )


def colour(view: View, rng: random.Random, wish: str) -> Pair | None:
    """Ask for the colour of a thing whose category occurs once."""
    things = view.scene.things
    indices = [index for index in view.subjects if view.called(things[index].category) == [index]]
    if not indices or not view.coloured:
        return None
    index = rng.choice(indices)
    return Pair(
        kind="colour", question=phrase(rng, "colour", things[index].category), answer=things[index].colour,
        choices=tuple(COLOURS), things=about(index),
    )  # fmt: skip


def count(view: View, rng: random.Random, wish: str) -> Pair | None:
    """Ask how many things there are of the category of the first thing, with its colour if other colours occur."""
    first = view.scene.things[0]
    alike = view.called(first.category)
    colours = {view.scene.things[index].colour for index in alike}
    name = CATEGORIES[first.category].plural
    if len(colours) > 1 and view.coloured:
        alike = view.called(first.category, first.colour)
        name = f"{first.colour} {name}"
    if not view.all_counted or len(alike) > MOST or not set(alike) & set(view.subjects):
        return None
    return Pair(
        kind="count", question=phrase(rng, "count", name), answer=str(len(alike)), choices=COUNTS, things=about(*alike)
    )


def side(view: View, rng: random.Random, wish: str) -> Pair | None:
    """Ask on which side of another thing a thing is; the answer is `wish`."""
    relation = _RELATIONS[wish]
    indices = view.named(view.clear)
    pairs = [
        (first, second)
        for first in indices
        for second in indices
        if first != second
        and is_at_side(view.scene.things[first], view.scene.things[second], relation)
        and _suits_split(view, first, second, relation)
    ]
    if not pairs:
        return None
    first, second = rng.choice(pairs)
    question = phrase(rng, "side", view.name(first), view.name(second))
    return Pair(kind="side", question=question, answer=wish, choices=SIDES, things=about(first, second))


def is_at_side(first: Thing, second: Thing, relation: str) -> bool:
    """True if `relation` is the only one of the four sides that describes the place of the first thing."""
    across, down = abs(first.x - second.x), abs(first.middle - second.middle)
    dominant = across > _DOMINANT * down if relation in ("left of", "right of") else down > _DOMINANT * across
    return dominant and relation in notable(first, second)


def _suits_split(view: View, first: int, second: int, relation: str) -> bool:
    """True outside the evaluation split; in it, the side must be one that is held out for one of the two things."""
    if view.scene.split != "evaluation":
        return True
    sides = ((view.scene.things[first], relation), (view.scene.things[second], OPPOSITE[relation]))
    return any(held_out(thing.category, thing.colour, each) for thing, each in sides)


def existence(view: View, rng: random.Random, wish: str) -> Pair | None:
    """Ask whether there is a thing of some category and colour. A wrong name shares one of them with a thing that is there."""
    if not view.subjects:
        return None
    index = rng.choice(view.subjects)
    thing = view.scene.things[index]
    named, hue = thing.category, thing.colour if view.coloured and rng.random() < 0.6 else ""
    if wish == "no":
        named, hue = _wrong_name(view, rng, thing, bool(hue))
    question = phrase(rng, "existence", article(f"{hue} {named}".strip()))
    return Pair(kind="existence", question=question, answer=wish, choices=YES_NO, things=about(index))


def _wrong_name(view: View, rng: random.Random, thing: Thing, coloured: bool) -> tuple[str, str]:
    """Return a category and colour that no thing has; one of them is that of `thing`, where colours are named."""
    if coloured and rng.random() < 0.5:
        present = {view.scene.things[index].colour for index in view.called(thing.category)}
        others = {other.colour for other in view.scene.things} - present
        pool = sorted(others) if others and rng.random() < 0.6 else [name for name in COLOURS if name not in present]
        if pool:
            return thing.category, rng.choice(pool)
    absent = absent_categories(view)
    related = [name for name in absent if CATEGORIES[name].group == CATEGORIES[thing.category].group]
    named = rng.choice(related if related and rng.random() < 0.5 else absent)
    return named, thing.colour if coloured else ""


def absent_categories(view: View) -> list[str]:
    """Return the categories that cannot be confused with that of any thing."""
    present = {thing.category for thing in view.scene.things}
    return [name for name in CATEGORIES if not any(confusable(name, other) for other in present)]


def attribute(view: View, rng: random.Random, wish: str) -> Pair | None:
    """Ask whether a thing has a colour or a pattern. A wrong colour is that of a different thing, if there is one."""
    asked, answer = wish.split()
    indices = view.named(view.subjects)
    if asked == "pattern":
        return _pattern(view, rng, indices, answer)
    indices = [index for index in indices if view.name(index) == view.scene.things[index].category]
    if not view.coloured or not indices:
        return None
    index = rng.choice(indices)
    claimed = view.scene.things[index].colour
    if answer == "no":
        others = sorted({thing.colour for thing in view.scene.things} - {claimed})
        claimed = rng.choice(others if others and rng.random() < 0.6 else [name for name in COLOURS if name != claimed])
    return _attribute(view, rng, index, claimed, answer)


def _pattern(view: View, rng: random.Random, indices: Sequence[int], answer: str) -> Pair | None:
    things = view.scene.things
    large = [index for index in indices if things[index].scale >= _PATTERN_SCALE and things[index].fill != "gradient"]
    large = [index for index in large if things[index].colour not in FAINT]
    patterned = [index for index in large if things[index].fill in PATTERNS]
    if not patterned:
        return None
    index = rng.choice(patterned if answer == "yes" else large)
    claimed = things[index].fill
    if answer == "no":
        claimed = rng.choice([name for name in PATTERNS if name != claimed])
    return _attribute(view, rng, index, claimed, answer)


def _attribute(view: View, rng: random.Random, index: int, claimed: str, answer: str) -> Pair:
    question = phrase(rng, "attribute", view.name(index), claimed)
    return Pair(kind="attribute", question=question, answer=answer, choices=YES_NO, things=about(index))


def comparison(view: View, rng: random.Random, wish: str) -> Pair | None:
    """Ask which of two things is larger in the image, or nearer; the correct one is named first or second as wished."""
    asked, order = wish.split()
    indices = view.named(view.clear)
    compare = _is_larger if asked == "larger" else _is_nearer
    pairs = [
        (first, second)
        for first in indices
        for second in indices
        if first != second and compare(view, first, second) and {first, second} & set(view.subjects)
    ]
    if not pairs:
        return None
    chosen = rng.choice(pairs)
    names = [view.name(index) for index in (chosen if order == "first" else reversed(chosen))]
    return Pair(
        kind="comparison", question=phrase(rng, asked, *names), answer=view.name(chosen[0]), choices=tuple(names),
        things=about(*chosen),
    )  # fmt: skip


def _is_larger(view: View, first: int, second: int) -> bool:
    """True if box and size of the first are clearly larger."""
    things = view.scene.things
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (view.boxes[first], view.boxes[second])]
    return things[first].scale > 1.3 * things[second].scale and areas[0] > 1.6 * areas[1]


def _is_nearer(view: View, first: int, second: int) -> bool:
    """True if both stand on the ground and the first clearly in the foreground."""
    one, other = view.scene.things[first], view.scene.things[second]
    return one.grounded and other.grounded and one.depth < other.depth - 0.15 and one.y > other.y + 0.1


def reading(view: View, rng: random.Random, wish: str) -> Pair | None:
    """Ask for the printed word, if there is one and the split allows its print."""
    words = view.scene.words
    if len(words) != 1 or held_out_print(words[0]) != (view.scene.split == "evaluation"):
        return None
    return Pair(kind="reading", question=phrase(rng, "reading"), answer=words[0].text, choices=WORDS)
