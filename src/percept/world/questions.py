"""Questions about a scene with their answers: objects, colours, counts, positions and printed text."""

import random
from collections import Counter
from collections.abc import Sequence

from percept.world.backgrounds import BACKGROUNDS
from percept.world.elements import Scene, Thing, Word
from percept.world.kinds import is_kind_of
from percept.world.language import NUMBERS, article, counted, listing, noun, shuffled_relations, unique
from percept.world.objects import CATEGORIES
from percept.world.palette import COLOURS
from percept.world.relations import OPPOSITE
from percept.world.variants import shows_colour

Pair = tuple[str, str]

_SIDES = {
    "left of": "to the left of",
    "right of": "to the right of",
    "above": "above",
    "below": "below",
    "in front of": "in front of",
    "behind": "behind",
}


def questions(scene: Scene, rng: random.Random) -> list[Pair]:
    """Return (question, answer) pairs with an unambiguous answer, in random order.

    An answer is a word or a short phrase.
    """
    pairs = (
        _what(scene)
        + _counts(scene, rng)
        + _presence(scene, rng)
        + _relations(scene, rng)
        + _words(scene, rng)
        + _place(scene, rng)
    )
    if shows_colour(scene):
        pairs += _colours(scene, rng)
    rng.shuffle(pairs)
    return pairs


def _what(scene: Scene) -> list[Pair]:
    if len(scene.things) == 1:
        return [("what is in the picture?", article(scene.things[0].category))]
    counts = Counter(thing.category for thing in scene.things)
    return [
        ("what things are in the picture?", listing([counted(count, name) for name, count in sorted(counts.items())]))
    ]


def _colours(scene: Scene, rng: random.Random) -> list[Pair]:
    """Ask for the colour of a thing whose category occurs once, and for the thing whose colour occurs once."""
    categories = Counter(thing.category for thing in scene.things)
    colours = Counter(thing.colour for thing in scene.things)
    pairs = [
        (f"what colour is the {thing.category}?", thing.colour)
        for thing in scene.things
        if categories[thing.category] == 1
    ]
    pairs += [
        (f"what is {thing.colour}?", f"the {thing.category}") for thing in scene.things if colours[thing.colour] == 1
    ]
    pairs += [
        (f"what pattern has the {thing.category}?", {"gradient": "shaded"}.get(thing.fill, thing.fill))
        for thing in scene.things
        if categories[thing.category] == 1
    ]
    thing = rng.choice(scene.things)
    colour = rng.choice((thing.colour, rng.choice(tuple(COLOURS))))
    if categories[thing.category] == 1:
        pairs.append((f"is the {thing.category} {colour}?", "yes" if thing.colour == colour else "no"))
    return rng.sample(pairs, min(3, len(pairs)))


def _counts(scene: Scene, rng: random.Random) -> list[Pair]:
    """Ask how many things there are, and how many of one category."""
    pairs = [("how many things are there?", NUMBERS[len(scene.things)])]
    counts = Counter(thing.category for thing in scene.things)
    clear = [name for name in sorted(counts) if not any(is_kind_of(category, name) for category in counts)]
    if clear:
        category = rng.choice(clear)
        pairs.append((f"how many {CATEGORIES[category].plural} are there?", NUMBERS[counts[category]]))
    return pairs


def _presence(scene: Scene, rng: random.Random) -> list[Pair]:
    """Ask whether a category is present: one that is and one that is not."""
    present = sorted({thing.category for thing in scene.things})
    absent = [
        name for name in CATEGORIES if name not in present and not any(is_kind_of(kind, name) for kind in present)
    ]
    return [(f"is there {article(rng.choice(present))}?", "yes"), (f"is there {article(rng.choice(absent))}?", "no")]


def _relations(scene: Scene, rng: random.Random) -> list[Pair]:
    """Ask for the relation of two things, as an open and as a yes-or-no question, and which is nearer."""
    coloured = shows_colour(scene)
    pairs: list[Pair] = []
    for first, second, relation in shuffled_relations(scene, rng)[:2]:
        names = noun(first, coloured), noun(second, coloured)
        pairs.append((f"where is the {names[0]} from the {names[1]}?", _SIDES[relation]))
        claimed = rng.choice((relation, OPPOSITE[relation]))
        answer = "yes" if claimed == relation else "no"
        pairs.append((f"is the {names[0]} {_SIDES[claimed]} the {names[1]}?", answer))
        if relation in ("in front of", "behind"):
            nearer = names[0] if relation == "in front of" else names[1]
            pairs.append((f"which is in front, the {names[0]} or the {names[1]}?", f"the {nearer}"))
    return pairs + _sizes(scene, coloured)


def _sizes(scene: Scene, coloured: bool) -> list[Pair]:
    """Compare a large and a small thing, both with an unambiguous name."""
    single = unique(scene)
    small, large = [_of(single, word) for word in ("small", "large")]
    if small is None or large is None:
        return []
    return [
        (
            f"which is larger, the {noun(small, coloured)} or the {noun(large, coloured)}?",
            f"the {noun(large, coloured)}",
        )
    ]


def _of(things: list[Thing], size: str) -> Thing | None:
    return next((thing for thing in things if thing.size == size), None)


def _words(scene: Scene, rng: random.Random) -> list[Pair]:
    if not scene.words:
        return [("is there any text?", "no")] if rng.random() < 0.3 else []
    pairs = [
        ("what does the text say?", " ".join(word.text for word in _in_reading_order(scene.words))),
        ("is there any text?", "yes"),
    ]
    return pairs[: rng.randint(1, 2)]


def _in_reading_order(words: Sequence[Word]) -> list[Word]:
    """Sort words into rows from top to bottom, each from left to right.

    A word belongs to the row of the previous word if their centres are at most half a font size apart in height.
    """
    rows: list[list[Word]] = []
    for word in sorted(words, key=lambda word: word.y):
        if rows and word.y - rows[-1][-1].y <= 0.5 * max(word.size, rows[-1][-1].size):
            rows[-1].append(word)
        else:
            rows.append([word])
    return [word for row in rows for word in sorted(row, key=lambda word: word.x)]


def _place(scene: Scene, rng: random.Random) -> list[Pair]:
    if scene.style == "sketch":
        return []
    wrong = rng.choice([name for name in BACKGROUNDS if name != scene.background])
    names = sorted((scene.background, wrong))
    return [(f"what is the background, {names[0]} or {names[1]}?", scene.background)]
