"""Questions about regions and captions: what is in a box, where is a described thing, and what does the image show."""

import random

from percept.core.words import article
from percept.data.chat.regions import box_text
from percept.world.language import long_caption, notable, noun, short_caption
from percept.world.objects import CATEGORIES
from percept.world.palette import COLOURS
from percept.world.qa.pair import Pair
from percept.world.qa.things import FAINT, about, absent_categories, phrase
from percept.world.qa.view import View
from percept.world.referring import describe_thing

CHOICES = 8
"""Number of choices for the thing in a region."""


def region(view: View, rng: random.Random, wish: str) -> Pair | None:
    """Ask what is in the box of a thing; the answer is its category and colour."""
    if not view.subjects:
        return None
    index = rng.choice(view.subjects)
    answer = article(view.full_name(index))
    return Pair(
        kind="region", question=phrase(rng, "region", box_text(view.boxes[index])), answer=answer,
        choices=_region_choices(view, rng, index, answer), boxes=(view.boxes[index],), things=about(index),
    )  # fmt: skip


def _region_choices(view: View, rng: random.Random, index: int, answer: str) -> tuple[str, ...]:
    """Return the answer among names of the other things, of its category in other colours, and of absent categories."""
    thing, choices = view.scene.things[index], [answer]
    hues = rng.sample(tuple(COLOURS), len(COLOURS)) if view.coloured else []
    absent = rng.sample(absent_categories(view), CHOICES)
    names = [view.full_name(other) for other in range(len(view.scene.things)) if other != index][:3]
    names += [f"{hue} {thing.category}" for hue in hues[:2]]
    names += [f"{thing.colour} {name}" if view.coloured else name for name in absent]
    choices = list(dict.fromkeys([answer, *(article(name) for name in names)]))[:CHOICES]
    return tuple(rng.sample(choices, len(choices)))


def region_caption(view: View, rng: random.Random, wish: str) -> Pair | None:
    """Ask for a caption of the box of a thing: colour, pattern, category and often the side of another thing."""
    if not view.subjects:
        return None
    index = rng.choice(view.subjects)
    thing = view.scene.things[index]
    patterned = rng.random() < 0.5 and thing.colour not in FAINT
    caption = article(noun(thing, view.coloured, fill=patterned))
    others = [
        (other, sided)
        for other in view.named(view.clear)
        for sided in notable(thing, view.scene.things[other])
        if other != index and sided not in ("in front of", "behind")
    ]
    if others and rng.random() < 0.6:
        other, sided = rng.choice(others)
        words = f"to the {sided}" if sided in ("left of", "right of") else sided
        caption = f"{caption} {words} {article(view.full_name(other))}"
    return Pair(
        kind="region_caption", question=phrase(rng, "region_caption", box_text(view.boxes[index])), answer=caption,
        boxes=(view.boxes[index],), things=about(index),
    )  # fmt: skip


def referring(view: View, rng: random.Random, wish: str) -> Pair | None:
    """Ask for the box of a thing, described without ambiguity. The choices are the boxes of all things."""
    if not view.subjects or len(view.clear) < 2:
        return None
    index = rng.choice(view.subjects)
    description = describe_thing(view.scene, index, rng)
    if description is None:
        return None
    boxes = [box_text(view.boxes[other]) for other in view.clear]
    return Pair(
        kind="referring", question=phrase(rng, "referring", description.words()), answer=box_text(view.boxes[index]),
        choices=tuple(boxes), boxes=(view.boxes[index],), things=about(index),
    )  # fmt: skip


def caption(view: View, rng: random.Random, wish: str) -> Pair | None:
    """Ask for a short or a long caption, as wished."""
    if not view.subjects or not view.all_counted:
        return None
    say = short_caption if wish == "short_caption" else long_caption
    answer = say(view.scene, rng)
    return Pair(kind=wish, question=phrase(rng, wish), answer=answer, things=about(*view.subjects))


assert len(CATEGORIES) > CHOICES
