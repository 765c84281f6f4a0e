"""Plan a clip: shots, places, objects, and events one after the other or at the same time. Nothing is rendered here."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from jaxtyping import Float

from percept.core.errors import PerceptError
from percept.core.seed import derive
from percept.world.clips.actions import ACTIONS, ENTRANCES, Proposal, Setting
from percept.world.clips.bodies import Body, overlapping, word_boxes
from percept.world.clips.elements import Event, Plan, Shot, Track
from percept.world.clips.layout import choose_place, furnish
from percept.world.clips.splits import choose_colours, held_out_action, obeys
from percept.world.splits import split_seed

FEWEST, MOST = 8, 64
"""Range of the number of frames."""
CUT_SHARE = 0.35
"""Share of clips of 16 or more frames that have a cut."""
CAMERA_SHARE = 0.3
"""Share of shots in which the camera moves."""
TOGETHER_SHARE = 0.3
"""Share of events during which a second one happens."""
FRAMES_PER_EVENT = 14
"""A shot has at least one event of an object, and at least one per this many frames."""
TRIALS = 4
"""Proposals of a kind of event for each object."""
REPEAT_SHARE = 0.15
"""Share of events for which an object that has done the same before may be chosen."""
WAITING_SHARE = 0.6
"""Share of events that bring in an object, as long as one waits."""

CameraMove = tuple[str, str, bool]
"""Kind, direction, and whether it begins the shot (or ends it)."""


def plan_clip(seed: int, *, split: str = "train", frames: int = 16) -> Plan:
    """Plan clip number `seed` of a split. The same arguments give the same plan.

    Raises:
        PerceptError: unknown split, or a number of frames out of range.
    """
    if not isinstance(frames, int) or not FEWEST <= frames <= MOST:
        raise PerceptError(f"frames must be a whole number from {FEWEST} to {MOST}, got {frames!r}.")
    start = split_seed(seed, split)
    attempt = 0
    while True:
        rng = random.Random(derive(start, "clip", frames, attempt))
        plan = _attempt(rng, seed, split, frames)
        if plan is not None:
            return plan
        attempt += 1


def _attempt(rng: random.Random, seed: int, split: str, frames: int) -> Plan | None:
    """Plan a clip; None if too little happens in a shot, or if no colours obey the split."""
    shots = _choose_shots(rng, frames)
    returns = len(shots) == 3
    moves = [_choose_camera(rng, shot) if not returns else None for shot in shots]
    taken: set[str] = set()
    settings: list[Setting] = []
    for number in range(1 + max(shot.place for shot in shots)):
        used = {setting.place.background for setting in settings}
        settings.append(furnish(rng, choose_place(rng, moves[number], used), frames, taken))
    camera = np.zeros((frames, 3))
    events: list[tuple[Proposal | None, Event]] = []
    for shot, move in zip(shots, moves, strict=True):
        script = _Script(rng, settings[shot.place], split, shot)
        script.write(move)
        acts = sum(proposal is not None for proposal, _ in script.events)
        if acts < max(1, (shot.end - shot.start + 1) // FRAMES_PER_EVENT):
            return None
        camera[shot.start : shot.end + 1] = script.camera
        events += script.events
    plan = _assembled(Plan(
        seed=seed, split=split, frames=frames, places=tuple(setting.place for setting in settings), shots=tuple(shots),
        tracks=(), events=(), camera=camera,
    ), settings, events)  # fmt: skip
    colours = choose_colours(rng, plan)
    if colours is None:
        return None
    tracks = [
        replace(track, thing=replace(track.thing, colour=colour))
        for track, colour in zip(plan.tracks, colours, strict=True)
    ]
    plan = replace(plan, tracks=tuple(tracks))
    assert obeys(plan)
    return plan


def _choose_shots(rng: random.Random, frames: int) -> list[Shot]:
    """Choose the cuts: none, one, or two with a return to the first place."""
    if frames < 16 or rng.random() > CUT_SHARE:
        return [Shot(place=0, start=0, end=frames - 1)]
    shares = (0.0, rng.uniform(0.4, 0.6), 1.0)
    places = (0, 1)
    if frames >= 30 and rng.random() < 0.4:
        shares, places = (0.0, rng.uniform(0.3, 0.37), rng.uniform(0.63, 0.7), 1.0), (0, 1, 0)
    edges = [round(share * frames) for share in shares]
    return [
        Shot(place=place, start=start, end=end - 1) for place, (start, end) in zip(places, pairwise(edges), strict=True)
    ]


def _choose_camera(rng: random.Random, shot: Shot) -> CameraMove | None:
    if shot.end - shot.start < 11 or rng.random() > CAMERA_SHARE:
        return None
    kind = rng.choice(("pans", "zooms"))
    return kind, rng.choice(("left", "right") if kind == "pans" else ("in", "out")), rng.random() < 0.5


@dataclass
class _Script:
    """Writes the events of one shot."""

    rng: random.Random
    setting: Setting
    split: str
    shot: Shot

    def __post_init__(self) -> None:
        place, frames = self.setting.place, self.shot.end - self.shot.start + 1
        self.events: list[tuple[Proposal | None, Event]] = []
        self.camera: Float[np.ndarray, "t 3"] = np.tile((place.left, place.top, 1.0), (frames, 1))

    def write(self, move: CameraMove | None) -> None:
        """Write the camera's move, and events one after the other with quiet frames between them."""
        rng, first, last = self.rng, self.shot.start, self.shot.end
        length = last - first + 1
        quiet = max(1, length // 10)
        if move is not None:
            taken = rng.randint(4, max(4, length // 4))
            self._move_camera(move, taken)
            first, last = (first + taken + 1, last) if move[2] else (first, last - taken - 1)
        cursor = first + rng.randint(0, quiet)
        while cursor + 3 <= last:
            event = self._any_event(cursor, last)
            if event is None:
                cursor += 2
                continue
            if rng.random() < TOGETHER_SHARE and event.end - event.start >= 3:
                other = self._any_event(event.start + rng.randint(0, 1), min(last, event.end + 2))
                event = other if other is not None and other.end > event.end else event
            cursor = event.end + 1 + rng.randint(0, quiet)

    def _move_camera(self, move: CameraMove, frames: int) -> None:
        kind, direction, begins = move
        place = self.setting.place
        stage = np.array((place.left, place.top, 1.0))
        if kind == "pans":
            other = np.array((place.width - 1 - place.left, place.top, 1.0))
        elif place.wider:
            other = np.array((0.0, 0.0, place.width))
        else:
            other = self._close_up()
        first = self.shot.start if begins else self.shot.end - frames + 1
        ramp = np.linspace(0, 1, frames)[:, None]
        start = first - self.shot.start
        if begins:
            self.camera[start : start + frames] = other + ramp * (stage - other)
        else:
            self.camera[start : start + frames] = stage + ramp * (other - stage)
        event = Event(kind=kind, subjects=(), start=first, end=first + frames - 1, direction=direction)
        self.events.append((None, event))

    def _close_up(self) -> Float[np.ndarray, " 3"]:
        """Return a small window around an object that is there."""
        body = self.rng.choice([body for body in self.setting.bodies if not body.entrance] or self.setting.bodies)
        left, top, right, bottom = body.box(self.shot.start)
        side = min(0.9, max(0.55, 1.3 * max(right - left, bottom - top)))
        corner = [min(max((low + high - side) / 2, 0.0), 1 - side) for low, high in ((left, right), (top, bottom))]
        return np.array((*corner, side))

    def _any_event(self, start: int, last: int) -> Event | None:
        """Make something happen from frame `start` on; None if every trial fails."""
        actors = [body for body in self.setting.bodies if not body.still and body.free_from <= start]
        self.rng.shuffle(actors)
        waiting = next((body for body in actors if body.entrance), None)
        present = [body for body in actors if not body.entrance]
        if waiting is not None and (not present or self.rng.random() < WAITING_SHARE):
            return self._event_of(waiting.entrance, [waiting], start, last)
        kinds = sorted(_FREE, key=lambda kind: -(self.rng.random() ** (1 / ACTIONS[kind].weight)))  # weighted order
        events = (self._event_of(kind, present, start, last) for kind in kinds)
        return next((event for event in events if event is not None), None)

    def _event_of(self, kind: str, bodies: Sequence[Body], start: int, last: int) -> Event | None:
        """Make an event of one kind happen to one of these bodies; None if every trial fails."""
        action = ACTIONS[kind]
        most = min(action.longest, last - start + 1)
        if most < action.shortest:
            return None
        if self.rng.random() > REPEAT_SHARE:
            bodies = [body for body in bodies if kind not in body.done]
        for body in [*bodies] * TRIALS:
            frames = self.rng.randint(action.shortest, most)
            proposal = action.propose(self.rng, self.setting, body, start, frames)
            if proposal is not None and self._happens(kind, proposal, start, frames):
                return self._record(kind, proposal, start, frames)
        return None

    def _happens(self, kind: str, proposal: Proposal, start: int, frames: int) -> bool:
        """Apply a proposal if the split allows it and nothing is in its way."""
        category = proposal.subjects[0].category
        if self.split != "evaluation" and proposal.direction and held_out_action(kind, category, proposal.direction):
            return False
        before = [(change.body, change.body.path.copy()) for change in proposal.changes]
        for change in proposal.changes:
            change.body.path.set(change.name, start, change.values)
        if _is_clear(self.setting, proposal, start, start + frames - 1):
            return True
        for body, path in before:
            body.path = path
        return False

    def _record(self, kind: str, proposal: Proposal, start: int, frames: int) -> Event:
        end = start + frames - 1
        for body in proposal.subjects:
            body.free_from = end + 1
        proposal.subjects[0].entrance = ""
        proposal.subjects[0].done.add(kind)
        if proposal.final:
            proposal.subjects[0].free_from = MOST + 1
        event = Event(
            kind=kind, subjects=(), start=start, end=end, direction=proposal.direction, speed=round(proposal.speed, 5)
        )
        self.events.append((proposal, event))
        return event


_FREE = tuple(kind for kind in ACTIONS if kind not in ENTRANCES)


def _is_clear(setting: Setting, proposal: Proposal, start: int, end: int) -> bool:
    """True if the changed objects stay in the image, and do not touch words or objects other than their partner."""
    last = len(proposal.subjects[0].path.x) - 1
    changed = {id(change.body): change.body for change in proposal.changes}.values()
    for body in changed:
        boxes, there = body.boxes(start, last), body.there(start, last)
        if not proposal.crosses and not _inside(boxes[: end - start + 1], setting.window):
            return False
        if any(overlapping(boxes, np.array([word])).any() for word in word_boxes(setting.place)):
            return False
        for other in setting.bodies:
            if other is body or (proposal.meets and other in proposal.subjects):
                continue
            if (overlapping(boxes, other.boxes(start, last)) & there & other.there(start, last)).any():
                return False
    return True


def _inside(boxes: Float[np.ndarray, "t 4"], window: tuple[float, float, float, float]) -> bool:
    return bool((boxes[:, :2] > window[:2]).all() and (boxes[:, 2:] < window[2:]).all())


def _assembled(plan: Plan, settings: Sequence[Setting], events: Sequence[tuple[Proposal | None, Event]]) -> Plan:
    """Number the objects and events. Objects that never come into the image are omitted."""
    numbers: dict[int, int] = {}
    tracks: list[Track] = []
    for place, setting in enumerate(settings):
        for body in setting.bodies:
            if not body.entrance:
                numbers[id(body)] = len(tracks)
                thing = replace(body.thing, x=float(body.path.x[0]), y=float(body.path.y[0]))
                tracks.append(Track(number=len(tracks), place=place, thing=thing, high=body.high, path=body.path))
    named = [
        replace(event, subjects=tuple(numbers[id(body)] for body in proposal.subjects) if proposal else ())
        for proposal, event in events
    ]
    return replace(plan, tracks=tuple(tracks), events=tuple(sorted(named, key=lambda event: (event.start, event.end))))
