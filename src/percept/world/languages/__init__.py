"""Captions in German, French and Spanish, with articles, genders, plurals and cases in agreement.

>>> from percept.world import sample_scene
>>> caption_in(sample_scene(4), "de", random.Random(0))
'drei rosafarbene Eistüten und ein violetter Hammer auf einer Tischplatte'
"""

import random

from percept.core.errors import unknown_name
from percept.world.elements import Scene, Thing
from percept.world.language import groups, short_caption, sided_pair
from percept.world.languages.french import FRENCH
from percept.world.languages.german import GERMAN
from percept.world.languages.grammar import Grammar
from percept.world.languages.spanish import SPANISH
from percept.world.objects import CATEGORIES
from percept.world.variants import shows_colour

GRAMMARS: dict[str, Grammar] = {"de": GERMAN, "fr": FRENCH, "es": SPANISH}
"""Code of the language → grammar."""
LANGUAGES = ("en", *GRAMMARS)


def name_in(category: str, language: str, *, colour: str = "") -> str:
    """Return a category with indefinite article, and optionally a colour, for example for class prompts.

    >>> name_in("key", "fr", colour="green"), name_in("horse", "de")
    ('une clé verte', 'ein Pferd')

    Raises:
        PerceptError: unknown category, or a language other than German, French and Spanish.
    """
    if category not in CATEGORIES:
        raise unknown_name("category", category, CATEGORIES)
    return _grammar(language).name(category, colour, "", 1)


def caption_in(scene: Scene, language: str, rng: random.Random) -> str:
    """Return a short caption in a language of `LANGUAGES`: all things with numbers and colours, often a relation and the place.

    Raises:
        PerceptError: unknown language.
    """
    if language == "en":
        return short_caption(scene, rng)
    grammar, coloured = _grammar(language), shows_colour(scene)
    pair = sided_pair(scene, rng) if len(scene.things) == 2 and rng.random() < 0.45 else None
    single = len(scene.things) == 1 or pair is not None
    if pair is not None:
        first, second, relation = pair
        colour = second.colour if coloured else ""
        body = f"{_name(grammar, [first], coloured, rng)} {grammar.related(second.category, colour, relation)}"
    else:
        names = [_name(grammar, things, coloured, rng) for things, _ in groups(scene)]
        rng.shuffle(names)
        body = _listing(names, grammar.conjunction)
    text = rng.choice(grammar.openings)[0 if single else 1] + body
    if rng.random() < 0.45 and scene.variant not in ("chalk", "blueprint"):
        text = f"{text} {rng.choice(grammar.places[scene.background])}"
    if scene.words and rng.random() < 0.4:
        text = f"{text} {grammar.word.format(scene.words[0].text)}"
    return text


def _grammar(language: str) -> Grammar:
    if language not in GRAMMARS:
        raise unknown_name("language", language, GRAMMARS)
    return GRAMMARS[language]


def _name(grammar: Grammar, things: list[Thing], coloured: bool, rng: random.Random) -> str:
    """Name a group of equal things; the pattern of a single thing is named now and then."""
    thing = things[0]
    fill = thing.fill if len(things) == 1 and rng.random() < 0.25 else ""
    return grammar.name(thing.category, thing.colour if coloured else "", fill, len(things))


def _listing(items: list[str], conjunction: str) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} {conjunction} {items[-1]}"
