"""Places of a clip and the objects in them before anything happens."""

import random
from dataclasses import replace

from percept.world.backgrounds import BACKGROUNDS, Background
from percept.world.clips.actions import Setting
from percept.world.clips.bodies import SOLID, Body, overlapping
from percept.world.clips.elements import Path, Place
from percept.world.elements import Scene, Thing
from percept.world.fills import FILLS
from percept.world.objects import CATEGORIES
from percept.world.variants import pose_of
from percept.world.vocabulary import sample_words

COUNT_WEIGHTS = (10, 35, 40, 15)
"""Relative frequency of two, three, four and five objects in a place."""
FLAT_SHARE = 0.3
"""Share of places without ground."""
WORD_SHARE = 0.35
"""Share of places with a printed word."""
BLOCKED_SHARE = 0.55
"""Share of places with a large object in front, behind which others can pass."""
ENTRANCE_SHARE = 0.25
"""Share of objects that are not there from the start."""
PAN, WIDE = 0.5, 1.4
"""Width added for a pan, and side of a place larger than the image for a zoom."""


def choose_place(rng: random.Random, camera: tuple[str, str, bool] | None, used: set[str]) -> Place:
    """Choose a background that is not in `used`, and a size that leaves room for a move of the camera.

    The move is (kind, direction, at the start of the shot).
    """
    flat = rng.random() < FLAT_SHARE
    background = rng.choice([each for each in BACKGROUNDS.values() if each.flat == flat and each.name not in used])
    left = top = 0.0
    width = height = 1.0
    if camera is not None:
        kind, direction, first = camera
        if kind == "pans":
            width, left = 1 + PAN, PAN if (direction == "right") == first else 0.0
        elif (direction == "in") == first:
            width = height = WIDE
            left, top = (WIDE - 1) / 2, 0.6 * (WIDE - 1)
    horizon = 0.0 if flat else top + rng.uniform(*background.horizon)
    return Place(
        background=background.name, background_seed=rng.getrandbits(32), width=width, height=height, left=left,
        top=top, horizon=horizon,
    )  # fmt: skip


def furnish(rng: random.Random, place: Place, frames: int, taken: set[str]) -> Setting:
    """Put objects into a place, and a word if there is room. Categories in `taken` are avoided and added to it."""
    setting = Setting(place=place, bodies=[])
    blocked = rng.random() < BLOCKED_SHARE and place.background != "sea"  # where nothing stands
    count = rng.choices(range(2, 6), COUNT_WEIGHTS)[0]
    count = min(count, 3) if blocked else count
    ranks = rng.sample(range(count), count)
    for index in range(count):
        role = ("blocks", "passes")[index] if blocked and index < 2 else ""
        category = _choose_category(rng, BACKGROUNDS[place.background], setting, taken, role)
        depth = 0.1 if role == "blocks" else 0.2 + 0.7 * ranks[index] / count
        body = _first_fit(rng, setting, category, frames, depth, role)
        if body is None:
            continue
        setting.bodies.append(body)
        taken.add(category)
    still = setting.bodies[0] if blocked else rng.choice(setting.bodies)
    still.still = True
    for body in setting.bodies:
        _choose_entrance(rng, setting, body)
    if rng.random() < WORD_SHARE:
        setting = _lettered(rng, setting)
    return setting


def _choose_category(rng: random.Random, background: Background, setting: Setting, taken: set[str], role: str) -> str:
    """Choose a category that suits the background, sometimes one that is there already, and whose name is unambiguous."""
    if not role and setting.bodies and rng.random() < 0.15:
        return setting.bodies[-1].category
    names = [
        name
        for name, category in CATEGORIES.items()
        if (background.flat or category.habitat in background.habitats)
        and (not role or background.flat or category.habitat not in ("air", "water"))
        and name not in taken
        and not any(name.endswith(f" {other}") or other.endswith(f" {name}") for other in taken)
    ]
    preferred = [name for name in names if name in SOLID] if role == "blocks" else []
    return rng.choice(preferred or names)


def _first_fit(
    rng: random.Random, setting: Setting, category: str, frames: int, depth: float, role: str
) -> Body | None:
    """Propose positions until one is free; the object becomes smaller with every sixth trial. None after 36 trials.

    An object that blocks is large and in the middle, so that one that passes, in a line behind it, has room on both sides.
    """
    low, high = {"blocks": (0.36, 0.46), "passes": (0.2, 0.25)}.get(role, (0.25, 0.36))
    base = rng.uniform(low, high) * (1.0 if role else CATEGORIES[category].size ** 0.5)
    thing = Thing(
        category=category, colour="", fill="plain" if rng.random() < 0.5 else rng.choice(FILLS[1:]), x=0.0, y=0.0, scale=base,
        depth=depth, seed=rng.getrandbits(32), **pose_of(rng, "plain"),
    )  # fmt: skip
    for trial in range(36):
        if trial % 6 == 5:
            base = max(0.19, 0.9 * base)
        body = _proposed(rng, setting, thing, base, frames, role)
        box = body.boxes(0, 0)
        left, top, right, bottom = setting.window
        inside = left < box[0, 0] and top < box[0, 1] and box[0, 2] < right and box[0, 3] < bottom
        if inside and not any(overlapping(box, other.boxes(0, 0))[0] for other in setting.bodies):
            return body
    return None


def _proposed(rng: random.Random, setting: Setting, thing: Thing, base: float, frames: int, role: str) -> Body:
    """Return a body at a random position: in one of two lanes on the ground, in the air, or in one of two rows of a texture."""
    place, (left, top, _, bottom) = setting.place, setting.window
    x = left + (rng.uniform(0.44, 0.56) if role == "blocks" else rng.uniform(0.08, 0.92))
    habitat = CATEGORIES[thing.category].habitat
    if place.flat:
        y = top + (0.3 if rng.random() < 0.5 else 0.7) + rng.uniform(-0.03, 0.03)
        y = setting.bodies[0].thing.y + rng.uniform(-0.05, 0.05) if role == "passes" and setting.bodies else y
        return _body(replace(thing, x=x, y=y, scale=base), frames)
    if habitat == "air":
        y = rng.uniform(top + 0.12, max(top + 0.14, place.horizon - 0.06))
        return _body(replace(thing, x=x, y=y, scale=base, depth=0.5 + 0.4 * thing.depth), frames)
    lane = 0.88 if role == "blocks" or rng.random() < 0.5 else 0.34
    foot = place.horizon + (lane + rng.uniform(-0.05, 0.05)) * (bottom - place.horizon)
    foot = setting.bodies[0].thing.y - rng.uniform(0.02, 0.06) if role == "passes" and setting.bodies else foot
    scale = base if role else base * (0.75 + 0.35 * lane)
    depth = setting.depth_of_ground(foot)
    if habitat == "water":
        return _body(replace(thing, x=x, y=foot - 0.3 * scale, scale=scale, depth=depth), frames)
    return _body(replace(thing, x=x, y=foot, scale=scale, depth=depth, grounded=True), frames)


def _body(thing: Thing, frames: int) -> Body:
    path = Path.at_rest(frames, x=thing.x, y=thing.y, scale=thing.scale, depth=thing.depth)
    return Body(thing=thing, path=path)


def _choose_entrance(rng: random.Random, setting: Setting, body: Body) -> None:
    """Decide whether a body comes into the image later, and put it where it waits."""
    if body.still or rng.random() > ENTRANCE_SHARE:
        return
    kinds = ["appears"]
    if not setting.place.wider:
        kinds += ["enters"] * 2 + ["falls"] * (6 if body.thing.grounded else 0)
    body.entrance = rng.choice(kinds)
    left, top, right, _ = setting.window
    box = body.box(0)
    if body.entrance == "appears":
        body.path.opacity[:] = 0
    elif body.entrance == "falls":
        body.path.lift[:] = box[3] - top + 0.03
    else:
        half = (box[2] - box[0]) / 2 + 0.02
        body.path.x[:] = rng.choice((left - half, right + half))


def _lettered(rng: random.Random, setting: Setting) -> Setting:
    """Print a word where it hides nothing."""
    place = setting.place
    things = [replace(body.thing, x=body.thing.x - place.left, y=body.thing.y - place.top) for body in setting.bodies]
    words = sample_words(rng, Scene(seed=0, background=place.background, things=tuple(things)))[:1]
    words = tuple(replace(word, x=word.x + place.left, y=word.y + place.top) for word in words)
    return Setting(place=replace(place, words=words), bodies=setting.bodies)
