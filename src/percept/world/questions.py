"""Questions about a scene with answers that follow from it: what, which colour, how many, where, what it says."""

import random
from collections import Counter
from collections.abc import Sequence

from percept.world.backgrounds import BACKGROUNDS
from percept.world.elements import Scene, Thing, Word
from percept.world.language import NUMBERS, article, counted, listing, noun, told_pairs, unique
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
    """Ask everything that the scene answers without doubt: (question, answer) pairs in random order.

    Answers are a word or a short phrase.
    """
    asked = (
        _what(scene)
        + _counts(scene, rng)
        + _presence(scene, rng)
        + _relations(scene, rng)
        + _words(scene, rng)
        + _place(scene, rng)
    )
    if shows_colour(scene):
        asked += _colours(scene, rng)
    rng.shuffle(asked)
    return asked


def _what(scene: Scene) -> list[Pair]:
    if len(scene.things) == 1:
        return [("what is in the picture?", article(scene.things[0].category))]
    counts = Counter(thing.category for thing in scene.things)
    return [
        ("what things are in the picture?", listing([counted(count, name) for name, count in sorted(counts.items())]))
    ]


def _colours(scene: Scene, rng: random.Random) -> list[Pair]:
    """Ask for colours of things whose category occurs once, and for the thing of a colour that occurs once."""
    categories = Counter(thing.category for thing in scene.things)
    colours = Counter(thing.colour for thing in scene.things)
    asked = [
        (f"what colour is the {thing.category}?", thing.colour)
        for thing in scene.things
        if categories[thing.category] == 1
    ]
    asked += [
        (f"what is {thing.colour}?", f"the {thing.category}") for thing in scene.things if colours[thing.colour] == 1
    ]
    asked += [
        (f"what pattern has the {thing.category}?", {"gradient": "shaded"}.get(thing.fill, thing.fill))
        for thing in scene.things
        if categories[thing.category] == 1
    ]
    thing = rng.choice(scene.things)
    other = rng.choice((thing.colour, rng.choice(tuple(COLOURS))))
    if categories[thing.category] == 1:
        asked.append((f"is the {thing.category} {other}?", "yes" if thing.colour == other else "no"))
    return rng.sample(asked, min(3, len(asked)))


def _counts(scene: Scene, rng: random.Random) -> list[Pair]:
    """Ask how many things there are, and how many of one category."""
    asked = [("how many things are there?", NUMBERS[len(scene.things)])]
    counts = Counter(thing.category for thing in scene.things)
    clear = [name for name in sorted(counts) if not any(_contains(other, name) for other in counts)]
    if clear:
        category = rng.choice(clear)
        asked.append((f"how many {CATEGORIES[category].plural} are there?", NUMBERS[counts[category]]))
    return asked


def _contains(category: str, name: str) -> bool:
    """Tell whether a category is a kind of another by its name, as a fir tree is a tree."""
    return category != name and category.endswith(f" {name}")


def _presence(scene: Scene, rng: random.Random) -> list[Pair]:
    """Ask whether something is there: one thing that is, one that is not."""
    present = sorted({thing.category for thing in scene.things})
    absent = [name for name in CATEGORIES if name not in present and not any(_contains(one, name) for one in present)]
    return [(f"is there {article(rng.choice(present))}?", "yes"), (f"is there {article(rng.choice(absent))}?", "no")]


def _relations(scene: Scene, rng: random.Random) -> list[Pair]:
    """Ask where two things stand: freely, as yes or no, and which of them is nearer."""
    coloured = shows_colour(scene)
    asked: list[Pair] = []
    for first, second, relation in told_pairs(scene, rng)[:2]:
        one, other = noun(first, coloured), noun(second, coloured)
        asked.append((f"where is the {one} from the {other}?", _SIDES[relation]))
        claimed = rng.choice((relation, OPPOSITE[relation]))
        asked.append((f"is the {one} {_SIDES[claimed]} the {other}?", "yes" if claimed == relation else "no"))
        if relation in ("in front of", "behind"):
            nearer = one if relation == "in front of" else other
            asked.append((f"which is in front, the {one} or the {other}?", f"the {nearer}"))
    return asked + _sizes(scene, coloured)


def _sizes(scene: Scene, coloured: bool) -> list[Pair]:
    """Compare two single things of which one is large and one small."""
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
    asked = [
        ("what does the text say?", " ".join(word.text for word in _as_read(scene.words))),
        ("is there any text?", "yes"),
    ]
    return asked[: rng.randint(1, 2)]


def _as_read(words: Sequence[Word]) -> list[Word]:
    """Put words in the order in which a person reads them: rows from above, each from the left.

    A word is of the same row as the one before if its middle lies within that one's height.
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
    other = rng.choice([name for name in BACKGROUNDS if name != scene.background])
    pair = sorted((scene.background, other))
    return [(f"what is the background, {pair[0]} or {pair[1]}?", scene.background)]
