"""Actions: what an object does in a span of frames, proposed as a change of its path.

A proposal can be impossible, for example because something stands in the way; `percept.world.clips.planning` checks that.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from percept.world.clips.bodies import SOLID, Body
from percept.world.clips.elements import Place

AXES = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
"""Direction → step in x and y."""
FASTEST = 0.16
"""Highest speed in image sides per frame."""
SMALLEST, LARGEST = 0.14, 0.7
"""Range of the longest side of an object whose size changes."""
ROUND = frozenset({"ball", "star", "flower", "stop sign", "lion"})
"""Categories that look the same after a part of a turn; they do not spin."""
LARGEST_TURN = 60
"""Largest rotation between two frames, in degrees, so that the direction is visible."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Change:
    """New values of one field of a body's path, one per frame of the event."""

    body: Body
    name: str
    values: Float[np.ndarray, " n"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Proposal:
    """A change that an action would make."""

    subjects: tuple[Body, ...]
    changes: tuple[Change, ...]
    direction: str = ""
    speed: float = 0.0
    meets: bool = False
    """True if the subjects touch or cover each other."""
    crosses: bool = False
    """True if the object may be outside the image."""
    final: bool = False
    """True if the object is gone afterwards."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Setting:
    """The place in which an action happens, and the objects there."""

    place: Place
    bodies: list[Body]

    @property
    def window(self) -> tuple[float, float, float, float]:
        """Box, xyxy, of the window in which everything happens."""
        return self.place.left, self.place.top, self.place.left + 1, self.place.top + 1

    def share_of_ground(self, y: float) -> float:
        """Return where y lies between the horizon (0) and the bottom edge of the window (1)."""
        return (y - self.place.horizon) / (self.window[3] - self.place.horizon)

    def depth_of_ground(self, y: float) -> float:
        """Return the depth of the ground at y: 1 at the horizon, 0 at the bottom edge of the place."""
        return 1 - (y - self.place.horizon) / (self.place.height - self.place.horizon)


Propose = Callable[[random.Random, Setting, Body, int, int], Proposal | None]
"""Function of random numbers, the setting, the body, the first frame and the number of frames. None if not possible."""


@dataclass(frozen=True, kw_only=True)
class Action:
    """A kind of event."""

    propose: Propose
    shortest: int
    """Least number of frames."""
    longest: int
    weight: float
    """Relative frequency with which it is tried."""


def _ramp(start: float, end: float, frames: int) -> Float[np.ndarray, " n"]:
    return np.linspace(start, end, frames)


def _shifted(body: Body, direction: str, distance: float, start: int, frames: int) -> Change:
    """Return the change of x or y by a distance at a constant speed."""
    across, down = AXES[direction]
    name = "x" if across else "y"
    now = float(getattr(body.path, name)[start])
    return Change(body=body, name=name, values=_ramp(now, now + (across or down) * distance, frames))


def directions(setting: Setting, body: Body) -> tuple[str, ...]:
    """Return the directions in which a body can move."""
    if setting.place.flat:
        return ("left", "right", "up", "down")
    if body.thing.grounded:
        return ("left", "right", "towards", "away")
    return ("left", "right", "up", "down") if body.habitat == "air" else ("left", "right")


def _moves(rng: random.Random, setting: Setting, body: Body, start: int, frames: int) -> Proposal | None:
    direction = rng.choice(directions(setting, body))
    if direction in ("towards", "away"):
        return _changes_depth(rng, setting, body, start, frames, direction)
    distance = rng.uniform(0.22, min(0.6, FASTEST * (frames - 1)))
    change = _shifted(body, direction, distance, start, frames)
    return Proposal(subjects=(body,), changes=(change,), direction=direction, speed=distance / (frames - 1))


def _changes_depth(
    rng: random.Random, setting: Setting, body: Body, start: int, frames: int, direction: str
) -> Proposal | None:
    """Move along the ground towards the camera or away from it; the size changes with the distance."""
    left, _, right, bottom = setting.window
    now = float(body.path.y[start])
    share = setting.share_of_ground(now)
    target = rng.uniform(0.85, 0.97) if direction == "towards" else rng.uniform(0.14, 0.26)
    if (target - share) * (1 if direction == "towards" else -1) < 0.4:
        return None
    foot = _ramp(now, setting.place.horizon + target * (bottom - setting.place.horizon), frames)
    shares = _ramp(share, target, frames)
    scale = body.path.scale[start] * (0.4 + shares) / (0.4 + share)
    if not SMALLEST < float(scale[-1]) < LARGEST:
        return None
    x = float(body.path.x[start])
    half = 0.5 * body.wide * float(scale.max())
    clear = min(max(x, left + half + 0.01), right - half - 0.01) if 2 * half < 0.95 else x
    changes = (
        Change(body=body, name="y", values=foot),
        Change(body=body, name="scale", values=scale),
        Change(body=body, name="depth", values=np.array([setting.depth_of_ground(y) for y in foot])),
        Change(body=body, name="x", values=_ramp(x, clear, frames)),
    )
    speed = abs(float(foot[-1] - foot[0])) / (frames - 1)
    return Proposal(subjects=(body,), changes=changes, direction=direction, speed=speed)


def _partner(
    rng: random.Random, setting: Setting, body: Body, start: int, across: bool
) -> tuple[Body, float, str] | None:
    """Choose a body at the same height (or side, if not `across`); return it, the gap between both and the direction to it."""
    mine, options = body.box(start), []
    near, far = (0, 2) if across else (1, 3)
    low, high = (1, 3) if across else (0, 2)
    for other in setting.bodies:
        if other is body or not other.ready(start):
            continue
        theirs = other.box(start)
        aligned = min(mine[high], theirs[high]) - max(mine[low], theirs[low])
        if aligned < 0.6 * min(mine[high] - mine[low], theirs[high] - theirs[low]):
            continue
        if not setting.place.flat and abs(float(body.path.depth[start] - other.path.depth[start])) > 0.2:
            continue
        forwards, backwards = theirs[near] - mine[far], mine[near] - theirs[far]
        if forwards > 0:
            options.append((other, forwards, "right" if across else "down"))
        elif backwards > 0:
            options.append((other, backwards, "left" if across else "up"))
    return rng.choice(options) if options else None


def _approaches(rng: random.Random, setting: Setting, body: Body, start: int, frames: int) -> Proposal | None:
    chosen = _partner(rng, setting, body, start, across=not setting.place.flat or rng.random() < 0.7)
    if chosen is None:
        return None
    other, gap, direction = chosen
    distance = gap - rng.uniform(0.025, 0.05)
    if not 0.15 < distance < FASTEST * (frames - 1):
        return None
    change = _shifted(body, direction, distance, start, frames)
    return Proposal(subjects=(body, other), changes=(change,), direction=direction, speed=distance / (frames - 1))


def _collides(rng: random.Random, setting: Setting, body: Body, start: int, frames: int) -> Proposal | None:
    """Move until both touch; then the other one is pushed on and slows down."""
    chosen = _partner(rng, setting, body, start, across=not setting.place.flat or rng.random() < 0.7)
    after = max(2, frames // 3)
    before = frames - after
    if chosen is None or chosen[0].still or before < 3:
        return None
    other, gap, direction = chosen
    distance = gap + 0.015
    if not 0.12 < distance < FASTEST * (before - 1):
        return None
    comes = _shifted(body, direction, distance, start, before)
    push = _shifted(other, direction, rng.uniform(0.12, 0.2), start, 2).values
    pushed = np.full(frames, push[0])
    pushed[before - 1 :] = push[0] + (push[1] - push[0]) * (1 - (1 - np.linspace(0, 1, after + 1)) ** 2)
    stops = np.append(comes.values, np.full(after, comes.values[-1]))
    changes = (
        Change(body=body, name=comes.name, values=stops),
        Change(body=other, name=comes.name, values=pushed),
    )
    speed = distance / (before - 1)
    return Proposal(subjects=(body, other), changes=changes, direction=direction, speed=speed, meets=True)


def _passes_behind(rng: random.Random, setting: Setting, body: Body, start: int, frames: int) -> Proposal | None:
    mine, options = body.box(start), []
    for other in setting.bodies:
        if other is body or other.category not in SOLID or not other.ready(start):
            continue
        theirs = other.box(start)
        covered = min(mine[3], theirs[3]) - max(mine[1], theirs[1])
        wide_enough = theirs[2] - theirs[0] > 0.85 * (mine[2] - mine[0])
        nearer = other.path.depth[start] < body.path.depth[start] - 0.02
        if nearer and wide_enough and covered > 0.75 * (mine[3] - mine[1]):
            options.append((other, theirs))
    if not options:
        return None
    other, theirs = rng.choice(options)
    direction = "right" if mine[2] < theirs[0] else "left"
    target = theirs[2] - mine[0] if direction == "right" else mine[2] - theirs[0]
    distance = target + rng.uniform(0.02, 0.12)
    if distance > FASTEST * (frames - 1):
        return None
    change = _shifted(body, direction, distance, start, frames)
    return Proposal(
        subjects=(body, other), changes=(change,), direction=direction, speed=distance / (frames - 1), meets=True
    )


def _enters(rng: random.Random, setting: Setting, body: Body, start: int, frames: int) -> Proposal | None:
    x, half = float(body.path.x[start]), 0.5 * body.wide * float(body.path.scale[start])
    left, _, right, _ = setting.window
    direction = "right" if x < left else "left"
    target = rng.uniform(left + half + 0.02, right - half - 0.02)
    distance = abs(target - x)
    if not 0.25 < distance < FASTEST * (frames - 1):
        return None
    change = _shifted(body, direction, distance, start, frames)
    return Proposal(
        subjects=(body,), changes=(change,), direction=direction, speed=distance / (frames - 1), crosses=True
    )


def _leaves(rng: random.Random, setting: Setting, body: Body, start: int, frames: int) -> Proposal | None:
    if setting.place.wider:
        return None
    left, _, right, _ = setting.window
    box, direction = body.box(start), rng.choice(("left", "right"))
    distance = 0.02 + (box[2] - left if direction == "left" else right - box[0])
    if distance > FASTEST * (frames - 1):
        return None
    change = _shifted(body, direction, distance, start, frames)
    speed = distance / (frames - 1)
    return Proposal(subjects=(body,), changes=(change,), direction=direction, speed=speed, crosses=True, final=True)


def _grows(rng: random.Random, setting: Setting, body: Body, start: int, frames: int) -> Proposal | None:
    return _resized(body, start, frames, rng.uniform(1.5, 1.9))


def _shrinks(rng: random.Random, setting: Setting, body: Body, start: int, frames: int) -> Proposal | None:
    return _resized(body, start, frames, rng.uniform(0.48, 0.62))


def _resized(body: Body, start: int, frames: int, factor: float) -> Proposal | None:
    now = float(body.path.scale[start])
    if not SMALLEST < now * factor < LARGEST:
        return None
    change = Change(body=body, name="scale", values=_ramp(now, now * factor, frames))
    return Proposal(subjects=(body,), changes=(change,))


def _spins(rng: random.Random, setting: Setting, body: Body, start: int, frames: int) -> Proposal | None:
    most = (frames - 1) * LARGEST_TURN // 360
    if body.category in ROUND or most < 1:
        return None
    direction = rng.choice(("clockwise", "counter-clockwise"))
    turn = 360.0 * rng.randint(1, min(2, most)) * (1 if direction == "counter-clockwise" else -1)
    now = float(body.path.angle[start])
    change = Change(body=body, name="angle", values=_ramp(now, now + turn, frames))
    return Proposal(subjects=(body,), changes=(change,), direction=direction)


def _appears(rng: random.Random, setting: Setting, body: Body, start: int, frames: int) -> Proposal | None:
    return Proposal(subjects=(body,), changes=(Change(body=body, name="opacity", values=_ramp(0.0, 1.0, frames)),))


def _vanishes(rng: random.Random, setting: Setting, body: Body, start: int, frames: int) -> Proposal | None:
    change = Change(body=body, name="opacity", values=_ramp(1.0, 0.0, frames))
    return Proposal(subjects=(body,), changes=(change,), final=True)


def _bounces(rng: random.Random, setting: Setting, body: Body, start: int, frames: int) -> Proposal | None:
    room = body.box(start)[1] - setting.window[1] - 0.02
    if not body.thing.grounded or setting.place.flat or room < 0.12:
        return None
    height, hops = min(room, rng.uniform(0.14, 0.26)), rng.randint(2, max(2, min(4, (frames - 1) // 4)))
    lift = height * np.abs(np.sin(np.pi * hops * np.linspace(0, 1, frames)))
    lift[-1] = 0.0
    return Proposal(subjects=(body,), changes=(Change(body=body, name="lift", values=lift),))


def _falls(rng: random.Random, setting: Setting, body: Body, start: int, frames: int) -> Proposal | None:
    """Fall from above the image to the ground, faster and faster."""
    lift = float(body.path.lift[start]) * (1 - np.linspace(0, 1, frames) ** 2)
    change, speed = Change(body=body, name="lift", values=lift), float(lift[0]) / (frames - 1)
    return Proposal(subjects=(body,), changes=(change,), direction="down", speed=speed, crosses=True)


def _is_picked_up(rng: random.Random, setting: Setting, body: Body, start: int, frames: int) -> Proposal | None:
    """A hand comes from above, takes the object and lifts it out of the image."""
    if not body.thing.grounded or setting.place.flat or setting.place.wider:
        return None
    reaches = max(3, round(0.4 * frames))
    height = body.box(start)[3] - setting.window[1] + 0.05
    lift = np.append(np.zeros(reaches), _ramp(0.0, height, frames - reaches + 1)[1:])
    above = body.box(start)[1] - setting.window[1] + 0.1
    hand = np.append(_ramp(above, 0.0, reaches), np.zeros(frames - reaches))
    changes = (Change(body=body, name="lift", values=lift), Change(body=body, name="hand", values=hand))
    speed = height / max(1, frames - reaches)
    return Proposal(subjects=(body,), changes=changes, direction="up", speed=speed, crosses=True, final=True)


ACTIONS: dict[str, Action] = {
    "moves": Action(propose=_moves, shortest=4, longest=18, weight=6.0),
    "approaches": Action(propose=_approaches, shortest=4, longest=14, weight=14.0),
    "collides": Action(propose=_collides, shortest=6, longest=16, weight=24.0),
    "passes behind": Action(propose=_passes_behind, shortest=6, longest=16, weight=40.0),
    "leaves": Action(propose=_leaves, shortest=4, longest=12, weight=1.5),
    "grows": Action(propose=_grows, shortest=4, longest=12, weight=4.0),
    "shrinks": Action(propose=_shrinks, shortest=4, longest=12, weight=1.5),
    "spins": Action(propose=_spins, shortest=7, longest=16, weight=6.0),
    "vanishes": Action(propose=_vanishes, shortest=3, longest=5, weight=1.0),
    "bounces": Action(propose=_bounces, shortest=7, longest=18, weight=5.0),
    "is picked up": Action(propose=_is_picked_up, shortest=6, longest=12, weight=4.0),
    "enters": Action(propose=_enters, shortest=4, longest=12, weight=1.0),
    "appears": Action(propose=_appears, shortest=3, longest=5, weight=1.0),
    "falls": Action(propose=_falls, shortest=4, longest=8, weight=1.0),
}
"""Name → action. The last three bring an object into the image, so they can only be its first event."""
ENTRANCES = ("enters", "appears", "falls")
