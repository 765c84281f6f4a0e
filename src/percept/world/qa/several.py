"""Questions about several images: which one shows a thing, same or different, numbers over all images, and changes."""

import random
from collections.abc import Callable
from dataclasses import replace

from percept.core.words import article
from percept.world.elements import Scene, Thing
from percept.world.focus import sample_focused
from percept.world.kinds import confusable, may_be_called
from percept.world.language import noun
from percept.world.objects import CATEGORIES
from percept.world.palette import COLOURS
from percept.world.qa.pair import Pair
from percept.world.qa.things import COUNTS, YES_NO, phrase
from percept.world.qa.view import View
from percept.world.scene import sample_scene
from percept.world.splits import obeys
from percept.world.variants import shows_colour

Ask = Callable[[list[View]], Pair | None]
"""Function of the views of all images that returns the pair, or None if something is not visible."""
Draft = tuple[list[Scene], Ask]


def _scene(rng: random.Random, split: str, style: str, things: tuple[int, int]) -> Scene:
    return sample_scene(rng.getrandbits(48), split=split, style=style, things=things)


def which_image(rng: random.Random, split: str, style: str, wish: str) -> Draft | None:
    """Ask which of two to four images shows a thing. The others show its category or its colour, but not both.

    The wish is the number of images and the number of the correct one.
    """
    images, number = (int(word) for word in wish.split())
    scenes = [_scene(rng, split, style, (1, 3)) for _ in range(images)]
    scene = scenes[number - 1]
    index = rng.randrange(len(scene.things))
    thing = scene.things[index]
    if not all(shows_colour(each) for each in scenes):
        return None
    for place in range(len(scenes)):
        if place != number - 1 and rng.random() < 0.6:
            scenes[place] = _nearly(rng, scenes[place], thing) or scenes[place]
    if any(_shows(each, thing) for place, each in enumerate(scenes) if place != number - 1):
        return None

    def ask(views: list[View]) -> Pair | None:
        if index not in views[number - 1].subjects:
            return None
        choices = tuple(str(place + 1) for place in range(len(views)))
        return Pair(
            kind="which_image", question=phrase(rng, "which_image", article(noun(thing))), answer=str(number), choices=choices,
            things=((number - 1, index),),
        )  # fmt: skip

    return scenes, ask


def _shows(scene: Scene, thing: Thing) -> bool:
    return any(may_be_called(other.category, thing.category) and other.colour == thing.colour for other in scene.things)


def _nearly(rng: random.Random, scene: Scene, thing: Thing) -> Scene | None:
    """Give the first thing the category or the colour of `thing`; None if the split forbids it."""
    first = scene.things[0]
    changed = replace(first, category=thing.category) if rng.random() < 0.5 else replace(first, colour=thing.colour)
    candidate = replace(scene, things=(changed, *scene.things[1:]))
    return candidate if obeys(candidate) else None


def same(rng: random.Random, split: str, style: str, wish: str) -> Draft | None:
    """Ask whether the things in two images with one thing each have the same category, or the same colour."""
    asked, answer = wish.split()
    first = _scene(rng, split, style, (1, 1))
    second = None
    for _ in range(60):
        candidate = _scene(rng, split, style, (1, 1))
        thing = replace(candidate.things[0], **_copied(rng, first.things[0], asked, answer))
        if not _differs(first.things[0], thing, asked, answer):
            continue
        candidate = replace(candidate, things=(thing,))
        if obeys(candidate):
            second = candidate
            break
    if second is None or (asked == "colour" and not (shows_colour(first) and shows_colour(second))):
        return None

    def ask(views: list[View]) -> Pair | None:
        if any(not view.subjects for view in views):
            return None
        question = phrase(rng, f"same {asked}")
        return Pair(kind="same", question=question, answer=answer, choices=YES_NO, things=((0, 0), (1, 0)))

    return [first, second], ask


def _copied(rng: random.Random, thing: Thing, asked: str, answer: str) -> dict[str, str]:
    """Return the attributes that the second thing takes from the first: the one asked for, or now and then the other one."""
    other = "colour" if asked == "category" else "category"
    if answer == "yes":
        return {asked: getattr(thing, asked)}
    return {other: getattr(thing, other)} if rng.random() < 0.4 else {}


def _differs(first: Thing, second: Thing, asked: str, answer: str) -> bool:
    """True if the things are equal in what is asked for if the answer is yes, and clearly different if it is no."""
    if answer == "yes":
        return True
    if asked == "category":
        return not confusable(first.category, second.category)
    return first.colour != second.colour


def total(rng: random.Random, split: str, style: str, wish: str) -> Draft | None:
    """Ask for the number of things of one category in two or three images together; the answer is `wish`."""
    number, images = int(wish), rng.choice((2, 2, 3))
    counts = [0] * images
    for _ in range(number):
        counts[rng.randrange(images)] += 1
    category = rng.choice(tuple(CATEGORIES))
    scenes = []
    for count in counts:
        seed = rng.getrandbits(48)
        if count:
            scenes.append(sample_focused(seed, focus="count", split=split, style=style, count=count, category=category))
        else:
            scenes.append(_scene(rng, split, style, (1, 3)))
    alike = [
        [index for index, thing in enumerate(scene.things) if may_be_called(thing.category, category)]
        for scene in scenes
    ]
    if [len(indices) for indices in alike] != counts:
        return None

    def ask(views: list[View]) -> Pair | None:
        things = tuple((image, index) for image, indices in enumerate(alike) for index in indices)
        if not all(view.all_counted for view in views) or not any(
            index in views[image].subjects for image, index in things
        ):
            return None
        question = phrase(rng, "total", CATEGORIES[category].plural)
        return Pair(kind="total", question=question, answer=wish, choices=COUNTS, things=things)

    return scenes, ask


def change(rng: random.Random, split: str, style: str, wish: str) -> Draft | None:
    """Ask what changed between two images of one scene: a colour, a category, a thing that is gone or new, or nothing."""
    scene = _scene(rng, split, style, (1, 4) if wish != "gone" else (2, 4))
    subjects = View.estimate(scene).subjects
    if not shows_colour(scene) or not subjects:
        return None
    index = rng.choice(subjects)
    edits = {kind: edit(rng, scene, index, kind) for kind in CHANGES}
    things, answer = edits[wish]
    edited = replace(scene, things=things)
    if not things or not obeys(edited):
        return None
    first, second = (edited, scene) if wish == "new" else (scene, edited)
    if any(len(_alike(each, scene.things[index])) > 1 for each in (scene, edited)):
        return None
    choices = [text for _, text in edits.values()]

    def ask(views: list[View]) -> Pair | None:
        shown = views[1] if wish == "new" else views[0]
        if index not in shown.subjects or (wish in ("colour", "category") and index not in views[1].clear):
            return None
        asked = phrase(rng, "change")
        order = tuple(rng.sample(choices, len(choices)))
        image = 1 if wish == "new" else 0
        return Pair(kind="change", question=asked, answer=answer, choices=order, things=((image, index),))

    return [first, second], ask


CHANGES = ("colour", "category", "gone", "new", "nothing")


def _alike(scene: Scene, thing: Thing) -> list[Thing]:
    return [other for other in scene.things if other.category == thing.category and other.colour == thing.colour]


def edit(rng: random.Random, scene: Scene, index: int, kind: str) -> tuple[tuple[Thing, ...], str]:
    """Change one thing; return the things of the edited scene and the change in words.

    For the kind "new" the edited scene is the one before the change.
    """
    thing = scene.things[index]
    changed, text = (), "nothing has changed"
    if kind == "colour":
        changed = (replace(thing, colour=rng.choice([name for name in COLOURS if name != thing.colour])),)
        text = f"the {noun(thing)} is now {changed[0].colour}"
    elif kind == "category":
        absent = [name for name in CATEGORIES if not any(confusable(name, other.category) for other in scene.things)]
        changed = (replace(thing, category=rng.choice(absent)),)
        text = f"the {noun(thing)} has become {article(noun(changed[0]))}"
    elif kind == "nothing":
        changed = (thing,)
    else:
        text = f"the {noun(thing)} is gone" if kind == "gone" else f"{article(noun(thing))} has appeared"
    return (*scene.things[:index], *changed, *scene.things[index + 1 :]), text
