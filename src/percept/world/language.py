"""Captions of a scene: names, short, long, and pairs of a right and a wrong caption.

`short_caption`, `long_caption` and the right text of a pair are always true of the scene; `alt_text` need not be. Colours
are omitted if the style does not show them.
"""

import random
from collections import Counter
from collections.abc import Sequence

from percept.core.words import article
from percept.world.backgrounds import BACKGROUNDS
from percept.world.elements import Scene, Thing
from percept.world.objects import CATEGORIES
from percept.world.relations import OPPOSITE, relations
from percept.world.variants import shows_colour

CLASS_TEMPLATES: tuple[str, ...] = (
    "a {}",
    "a picture of a {}",
    "a photo of a {}",
    "a drawing of a {}",
    "an image with a {}",
    "there is a {}",
    "one {}",
)
COLOUR_TEMPLATES: tuple[str, ...] = (
    "a {colour} {category}",
    "a picture of a {colour} {category}",
    "there is a {colour} {category}",
)
RELATION_PHRASES: dict[str, tuple[str, ...]] = {
    "left of": ("to the left of", "left of", "on the left of"),
    "right of": ("to the right of", "right of", "on the right of"),
    "above": ("above", "over", "higher than"),
    "below": ("below", "under", "lower than"),
    "in front of": ("in front of", "before"),
    "behind": ("behind",),
}
NUMBERS = ("no", "one", "two", "three", "four", "five", "six")
_OPENINGS = ("", "", "", "", "a picture of ", "a photo of ", "an image of ", "a drawing of ", "there is ")
_WRITING = (
    "the word '{}' is written on it",
    "a sign says '{}'",
    "it says '{}'",
    "the text reads '{}'",
    "with the word '{}'",
)
_FILL_WORDS = {"plain": "", "striped": "striped", "dotted": "dotted", "checked": "checked", "gradient": "shaded"}
MOST_WORDS = 45


def fill_template(template: str, category: str, colour: str | None = None) -> str:
    """Fill a template with a category (and colour) and the correct article.

    >>> fill_template("a picture of a {}", "apple"), fill_template("a {colour} {category}", "cup", "orange")
    ('a picture of an apple', 'an orange cup')
    """
    words = f"{colour} {category}" if colour else category
    plain = template.replace("{colour} {category}", "{}")
    if "a {}" not in plain:
        return plain.replace("{}", words)
    return plain.replace("a {}", article(words))


def noun(thing: Thing, colour: bool = True, fill: bool = False, size: bool = False) -> str:
    """Name a thing without article, with the selected attributes."""
    words = (
        thing.size if size else "",
        _FILL_WORDS[thing.fill] if fill else "",
        thing.colour if colour else "",
        thing.category,
    )
    return " ".join(word for word in words if word)


def counted(count: int, category: str, colour: str = "") -> str:
    """Name a number of things; a single thing gets an article.

    >>> counted(1, "apple"), counted(2, "car", "red")
    ('an apple', 'two red cars')
    """
    if count == 1:
        return article(f"{colour} {category}".strip())
    return " ".join(word for word in (NUMBERS[count], colour, CATEGORIES[category].plural) if word)


def groups(scene: Scene) -> list[tuple[list[Thing], str]]:
    """Group the things that have the same name (category and visible colour); return each group with its name."""
    coloured = shows_colour(scene)
    alike: dict[tuple[str, str], list[Thing]] = {}
    for thing in scene.things:
        alike.setdefault((thing.category, thing.colour if coloured else ""), []).append(thing)
    return [(things, counted(len(things), category, colour)) for (category, colour), things in alike.items()]


def listing(items: Sequence[str]) -> str:
    """Join phrases with commas and a final "and"."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def place(scene: Scene, rng: random.Random) -> str:
    """Return a phrase for the background; empty if the style replaces it."""
    phrase = rng.choice(BACKGROUNDS[scene.background].phrases)
    return "" if scene.variant in ("chalk", "blueprint") else f" {phrase}"


def short_caption(scene: Scene, rng: random.Random) -> str:
    """Name all things with counts and colours, often with a relation of two things and the background."""
    named = groups(scene)
    pair = sided_pair(scene, rng) if rng.random() < 0.45 else None
    if pair is not None and len(scene.things) == 2:
        first, second, relation = pair
        coloured = shows_colour(scene)
        parts = (article(noun(first, coloured)), article(noun(second, coloured)))
        body = f"{parts[0]} {rng.choice(RELATION_PHRASES[relation])} {parts[1]}"
    else:
        rng.shuffle(named)
        body = listing([name for _, name in named])
    text = _open(rng, body, len(scene.things)) + body
    if rng.random() < 0.45:
        text += place(scene, rng)
    if scene.words and rng.random() < 0.4:
        text += f" with the word '{scene.words[0].text}'"
    return text


def names_caption(scene: Scene, rng: random.Random) -> str:
    """Name categories and counts only, in alphabetical order, so that scenes with equal content get equal names."""
    kinds = Counter(thing.category for thing in scene.things)
    body = listing([counted(kinds[kind], kind) for kind in sorted(kinds)])
    return _open(rng, body, len(scene.things)) + body if rng.random() < 0.3 else body


def _open(rng: random.Random, body: str, count: int) -> str:
    opening = rng.choice(_OPENINGS)
    plural = not body.startswith(("a ", "an "))
    return (
        "there are "
        if opening == "there is " and plural and count > 1
        else opening
        if opening != "there is " or not plural
        else ""
    )


def long_caption(scene: Scene, rng: random.Random) -> str:
    """Describe sizes, patterns, colours, up to three relations, the background and printed words in at most 45 words."""
    coloured = shows_colour(scene)
    text = _first_sentence(scene, rng, coloured)
    extras = [f"{phrase}." for phrase in _relation_sentences(scene, rng, coloured)]
    if scene.words:
        extras.insert(rng.randint(0, min(1, len(extras))), rng.choice(_WRITING).format(scene.words[0].text) + ".")
    for extra in extras:
        if len(f"{text} {extra}".split()) <= MOST_WORDS:
            text = f"{text} {extra}"
    return text


def _first_sentence(scene: Scene, rng: random.Random, coloured: bool) -> str:
    phrases = []
    for things, together in groups(scene):
        if len(things) > 1:
            phrases.append(together)
        else:
            words = noun(things[0], coloured, fill=rng.random() < 0.85, size=rng.random() < 0.85)
            phrases.append(article(words))
    rng.shuffle(phrases)
    body = listing(phrases)
    ending = place(scene, rng) if len(body.split()) < 30 else ""
    return f"{_open(rng, body, len(scene.things))}{body}{ending}."


def _relation_sentences(scene: Scene, rng: random.Random, coloured: bool) -> list[str]:
    sentences = []
    for first, second, relation in shuffled_relations(scene, rng)[:3]:
        phrase = rng.choice(RELATION_PHRASES[relation])
        sentences.append(f"the {noun(first, coloured)} is {phrase} the {noun(second, coloured)}")
    return sentences


def unique(scene: Scene) -> list[Thing]:
    """Return the things whose name (with colour, if visible) is unambiguous in the scene."""
    return [things[0] for things, _ in groups(scene) if len(things) == 1]


def shuffled_relations(scene: Scene, rng: random.Random) -> list[tuple[Thing, Thing, str]]:
    """Return one notable relation for each pair of unambiguous things that has one, in random order."""
    things = unique(scene)
    chosen = []
    for index, thing in enumerate(things):
        for later in things[index + 1 :]:
            first, second = (thing, later) if rng.random() < 0.5 else (later, thing)
            names = notable(first, second)
            if names:
                chosen.append((first, second, rng.choice(names)))
    rng.shuffle(chosen)
    return chosen


def notable_relations(scene: Scene) -> list[tuple[Thing, Thing, str]]:
    """Return all notable relations between unambiguous things, each pair of things in one order."""
    things = unique(scene)
    pairs = [(thing, later) for index, thing in enumerate(things) for later in things[index + 1 :]]
    return [(*pair, relation) for pair in pairs for relation in notable(*pair)]


def notable(first: Thing, second: Thing) -> list[str]:
    """Return the unambiguous relations of two things that a person would mention."""
    return [relation for relation in relations(first, second) if _is_notable(first, second, relation)]


def _is_notable(first: Thing, second: Thing, relation: str) -> bool:
    """True if a person would mention the relation: left or right unless the offset is mostly vertical, and vice versa."""
    across, down = abs(first.x - second.x), abs(first.middle - second.middle)
    if relation in ("left of", "right of"):
        return across > 0.6 * down
    return relation in ("in front of", "behind") or down > 0.6 * across


def sided_pair(scene: Scene, rng: random.Random) -> tuple[Thing, Thing, str] | None:
    """Return a random notable relation, left and right three times as often as others; None if there is none."""
    pairs = shuffled_relations(scene, rng)
    weights = [3 if relation in ("left of", "right of") else 1 for _, _, relation in pairs]
    return rng.choices(pairs, weights)[0] if pairs else None


def exchangeable(scene: Scene) -> list[tuple[Thing, Thing]]:
    """Return the pairs of things whose colours can be exchanged to make a text wrong; none if colours are not visible."""
    if not shows_colour(scene):
        return []
    present = Counter((thing.category, thing.colour) for thing in scene.things)
    return [
        (first, second)
        for index, first in enumerate(scene.things)
        for second in scene.things[index + 1 :]
        if first.category != second.category
        and first.colour != second.colour
        and not present[first.category, second.colour]
        and not present[second.category, first.colour]
        and present[first.category, first.colour] == present[second.category, second.colour] == 1
    ]


def exchanged_texts(scene: Scene, first: Thing, second: Thing, rng: random.Random) -> tuple[str, str]:
    """Name two things, right and with their colours exchanged."""
    right = [counted(1, first.category, first.colour), counted(1, second.category, second.colour)]
    wrong = [counted(1, first.category, second.colour), counted(1, second.category, first.colour)]
    opening, ending = rng.choice(("", "", "a picture of ")), place(scene, rng) if rng.random() < 0.3 else ""
    return f"{opening}{listing(right)}{ending}", f"{opening}{listing(wrong)}{ending}"


def swapped_attributes(scene: Scene, rng: random.Random) -> tuple[str, str] | None:
    """Return a right caption of two things and a wrong one with their colours exchanged, or None."""
    pairs = exchangeable(scene)
    if not pairs:
        return None
    first, second = rng.choice(pairs)
    if rng.random() < 0.5:
        first, second = second, first
    return exchanged_texts(scene, first, second, rng)


def sided_texts(scene: Scene, first: Thing, second: Thing, relation: str, rng: random.Random) -> tuple[str, str]:
    """Describe the relation of two things, right and with the opposite relation."""
    choice, coloured = rng.randrange(len(RELATION_PHRASES[relation])), shows_colour(scene)
    head, tail = (article(noun(thing, coloured)) for thing in (first, second))
    right, wrong = RELATION_PHRASES[relation][choice], RELATION_PHRASES[OPPOSITE[relation]][choice]
    return f"{head} {right} {tail}", f"{head} {wrong} {tail}"


def swapped_sides(scene: Scene, rng: random.Random) -> tuple[str, str] | None:
    """Return a right caption of two things and a wrong one with left and right exchanged, or None."""
    pairs = [pair for pair in shuffled_relations(scene, rng) if pair[2] in ("left of", "right of")]
    return sided_texts(scene, *pairs[0], rng) if pairs else None
