"""Alt text as found on the web: short, incomplete, sometimes wrong or unrelated to the image."""

import random

from percept.world.elements import Scene, Thing
from percept.world.language import groups, listing, place, short_caption
from percept.world.objects import CATEGORIES
from percept.world.palette import COLOURS
from percept.world.variants import shows_colour

SYNONYMS: dict[str, str] = {
    "car": "automobile",
    "cat": "kitty",
    "dog": "puppy",
    "rabbit": "bunny",
    "bicycle": "bike",
    "airplane": "plane",
    "boat": "ship",
    "sofa": "couch",
    "house": "home",
    "cup": "mug",
    "pig": "piggy",
    "horse": "pony",
    "shirt": "t-shirt",
    "gift": "present",
    "rocket": "spaceship",
}
"""Synonyms of some categories, used in alt text only."""
_JUNK = (
    "untitled",
    "image",
    "picture {}",
    "img {}",
    "photo {}",
    "dsc {}",
    "screenshot {}",
    "my upload",
    "click to enlarge",
    "no description",
)
_DECORATION = (
    "{} photo",
    "{} stock photo",
    "{} picture",
    "{} clipart",
    "{} - free download",
    "img {n} {}",
    "{} {n}",
    "buy {} online",
    "{} | gallery",
    "best {}",
)


def alt_text(scene: Scene, rng: random.Random) -> str:
    """Write an alt text: about two in five are correct captions, the others are keywords, incomplete, wrong or junk."""
    kind = rng.choices(("fair", "keywords", "missing", "wrong", "junk"), (42, 28, 17, 9, 4))[0]
    number = f"{rng.randrange(10000):04d}"
    if kind == "junk":
        return junk(rng, number)
    if kind == "fair":
        return short_caption(scene, rng)
    if kind == "missing":
        named = groups(scene)
        mentioned = rng.sample(named, rng.randint(1, max(1, len(named) - 1)))
        text = listing([name for _, name in mentioned])
    else:
        text = _keywords(scene, rng, mistaken=kind == "wrong")
    if rng.random() < 0.35:
        text = rng.choice(_DECORATION).replace("{n}", number).replace("{}", text)
    return text


def junk(rng: random.Random, number: str = "") -> str:
    """Return a text without content, with a number of four digits in some."""
    return rng.choice(_JUNK).replace("{}", number or f"{rng.randrange(10000):04d}")


def _keywords(scene: Scene, rng: random.Random, mistaken: bool) -> str:
    """Join a few names without articles. If `mistaken`, one of them has a wrong colour or category."""
    things = rng.sample(scene.things, min(len(scene.things), rng.randint(1, 3)))
    wrong = rng.randrange(len(things)) if mistaken else -1
    coloured = shows_colour(scene) and rng.random() < 0.8
    words = [_name(thing, rng, coloured, index == wrong) for index, thing in enumerate(things)]
    if rng.random() < 0.3:
        words.append(place(scene, rng).strip())
    if scene.words and rng.random() < 0.3:
        words.append(scene.words[0].text)
    return " ".join(word for word in words if word)


def _name(thing: Thing, rng: random.Random, coloured: bool, mistaken: bool) -> str:
    category, colour = thing.category, thing.colour
    if mistaken and coloured and rng.random() < 0.5:
        colour = rng.choice(tuple(COLOURS))
    elif mistaken:
        category = rng.choice(tuple(CATEGORIES))
    elif rng.random() < 0.15:
        category = SYNONYMS.get(category, category)
    return f"{colour} {category}" if coloured else category
