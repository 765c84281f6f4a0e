"""Texts of clips: phrases of events, captions of frames, events, objects and whole clips, and dense event lists.

All texts are true. The name of an object, its colour and category, is unambiguous in its clip.
"""

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from percept.world.backgrounds import BACKGROUNDS
from percept.world.clips.elements import Event, Plan
from percept.world.clips.footage import HIDDEN, Footage
from percept.world.language import article, listing, noun
from percept.world.language import short_caption as scene_caption

SLOW, QUICK = 0.025, 0.07
"""Largest speed that is called slow and smallest that is called quick, in image sides per frame."""
OUT_OF_FRAME = "out of frame"
"""Text of the segments in which an object is not visible."""
TOWARDS = {
    "left": "to the left", "right": "to the right", "up": "up", "down": "down", "towards": "towards the camera",
    "away": "away from the camera", "in": "in", "out": "out", "clockwise": "clockwise", "counter-clockwise": "counter-clockwise",
}  # fmt: skip
"""Direction → adverb."""
FROM = {"left": "from the right", "right": "from the left", "up": "from below", "down": "from above"}
"""Direction → where the movement comes from."""
_THEN = ("then", "after that", "next")
_VERBS: dict[str, tuple[str, str]] = {
    "moves": ("moves {way}", "move {way}"),
    "approaches": ("approaches {other} {origin}", "approach {other} {origin}"),
    "collides": ("hits {other} {origin}", "hit {other} {origin}"),
    "passes behind": ("passes behind {other} {way}", "pass behind {other} {way}"),
    "enters": ("enters {origin}", "enter {origin}"),
    "leaves": ("leaves {way}", "leave {way}"),
    "grows": ("grows", "grow"),
    "shrinks": ("shrinks", "shrink"),
    "spins": ("spins {way}", "spin {way}"),
    "appears": ("appears", "appear"),
    "vanishes": ("vanishes", "vanish"),
    "bounces": ("bounces", "bounce"),
    "falls": ("falls from above", "fall from above"),
    "pans": ("pans {way}", "pan {way}"),
    "zooms": ("zooms {way}", "zoom {way}"),
}
"""Kind → forms after "the cat" and after "does the cat"."""


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A text that is true of the frames from `start` to `end`."""

    start: int
    end: int
    text: str
    event: int | None = None
    """Number of the event that it describes, if it describes one."""


def name(plan: Plan, track: int) -> str:
    """Return the name of an object with its article.

    >>> from percept.world.clips import plan_clip
    >>> name(plan_clip(0, frames=8), 0).startswith("the ")
    True
    """
    return f"the {noun(plan.tracks[track].thing)}"


def subject(plan: Plan, event: Event) -> str:
    """Return the name of what acts."""
    return name(plan, event.subjects[0]) if event.subjects else "the camera"


def _fill(plan: Plan, event: Event, form: str, *, way: bool) -> str:
    other = name(plan, event.subjects[1]) if len(event.subjects) > 1 else ""
    adverb = TOWARDS[event.direction] if way and event.direction else ""
    words = form.format(way=adverb, other=other, origin=FROM.get(event.direction, "") if way else "")
    return " ".join(words.split())


def verb(plan: Plan, event: Event, *, way: bool = True) -> str:
    """Return what the subject of an event does, as in "moves to the left"; without the direction if not `way`."""
    if event.kind == "is picked up":
        return "is picked up by a hand"
    return _fill(plan, event, _VERBS[event.kind][0], way=way)


def sentence(plan: Plan, event: Event, *, way: bool = True) -> str:
    """Return an event as a sentence, as in "the red car moves to the left"."""
    return f"{subject(plan, event)} {verb(plan, event, way=way)}"


def question(plan: Plan, event: Event, *, way: bool = True) -> str:
    """Return an event as a question, as in "does the red car move to the left?"."""
    if event.kind == "is picked up":
        return f"is {subject(plan, event)} picked up by a hand?"
    return f"does {subject(plan, event)} {_fill(plan, event, _VERBS[event.kind][1], way=way)}?"


def pace(event: Event) -> str:
    """Return "slowly", "quickly", or an empty text for a speed between both and for events that do not change the position."""
    if event.kind not in ("moves", "enters", "leaves") or event.direction in ("towards", "away"):
        return ""
    return "slowly" if event.speed <= SLOW else "quickly" if event.speed >= QUICK else ""


def passive(plan: Plan, event: Event) -> str:
    """Return what happens to the object that is hit, as in "is hit by the red car from the right"."""
    return f"is hit by {subject(plan, event)} {FROM[event.direction]}"


def background(plan: Plan, place: int, rng: random.Random) -> str:
    """Return a phrase for a place, as in "in a meadow"."""
    return rng.choice(BACKGROUNDS[plan.places[place].background].phrases)


def frame_caption(clip: Footage, frame: int, rng: random.Random) -> str:
    """Return a caption of one frame: the objects that are clearly visible in it, with relations, background and words."""
    scene = clip.scene(frame)
    if scene.things:
        return scene_caption(scene, rng)
    return f"an empty place {background(clip.plan, clip.plan.shot_at(frame).place, rng)}"


def event_caption(plan: Plan, event: Event, rng: random.Random) -> str:
    """Return a sentence for an event, with a random amount of detail: the pace, and where it happens."""
    text, speed = sentence(plan, event), pace(event)
    if speed and rng.random() < 0.5:
        text += f" {speed}"
    if event.subjects and rng.random() < 0.3:
        text += f" {background(plan, plan.tracks[event.subjects[0]].place, rng)}"
    return text


def cast(plan: Plan, tracks: Iterable[int]) -> str:
    """Return the names of some objects with indefinite articles."""
    return listing([article(noun(plan.tracks[track].thing)) for track in tracks])


def short_caption(plan: Plan, rng: random.Random) -> str:
    """Describe a clip by up to three events in their order, and often the place of the first shot."""
    acts = [event for event in plan.events if event.subjects] or list(plan.events)
    first = rng.randrange(max(1, len(acts) - 2))
    text = _in_order(plan, acts[first : first + 3], rng, known=set())
    if rng.random() < 0.5 and len(plan.shots) == 1:
        text += f" {background(plan, plan.shots[0].place, rng)}"
    return text


def _in_order(plan: Plan, events: Sequence[Event], rng: random.Random, known: set[int]) -> str:
    """Join events with words that tell their order; objects in `known` have been mentioned."""
    parts: list[str] = []
    previous: Event | None = None
    for event in events:
        words = sentence(plan, event)
        for number in event.subjects:
            if number not in known:
                named = noun(plan.tracks[number].thing)
                words = words.replace(f"the {named}", article(named))
                known.add(number)
        if previous is None:
            parts.append(words)
        elif event.start > previous.end:
            parts.append(f"{rng.choice(_THEN)} {words}")
        else:
            parts.append(f"meanwhile {words}")
        previous = event
    return ", ".join(parts)


def long_caption(plan: Plan, rng: random.Random) -> str:
    """Describe every shot of a clip: the place, the objects, what they do in order, and which of them do nothing."""
    sentences, known = [], set()
    for number, shot in enumerate(plan.shots):
        there = [track.number for track in plan.tracks if track.place == shot.place]
        phrase = background(plan, shot.place, rng)
        opening = f"{cast(plan, there)} {phrase}"
        if number:
            back = any(earlier.place == shot.place for earlier in plan.shots[:number])
            opening = f"the scene changes back to {cast(plan, there)}" if back else f"the scene changes to {opening}"
        sentences.append(opening)
        known.update(there)
        acts = [event for event in plan.events if shot.start <= event.start <= shot.end]
        if acts:
            sentences.append(_in_order(plan, acts, rng, known))
    still = [name(plan, number) for number in idle(plan)]
    if still:
        sentences.append(f"{listing(still)} {'does' if len(still) == 1 else 'do'} not move")
    return ". ".join(sentences) + "."


def idle(plan: Plan) -> list[int]:
    """Return the objects to which nothing happens in the whole clip."""
    moved = {
        number
        for event in plan.events
        for number in (event.subjects if event.kind == "collides" else event.subjects[:1])
    }
    return [track.number for track in plan.tracks if track.number not in moved]


def dense_events(plan: Plan) -> list[Segment]:
    """Return all events of a clip and its cuts with their exact spans, in order."""
    segments = [
        Segment(start=event.start, end=event.end, text=sentence(plan, event), event=number)
        for number, event in enumerate(plan.events)
    ]
    for shot in plan.shots[1:]:
        place = BACKGROUNDS[plan.places[shot.place].background]
        segments.append(Segment(start=shot.start, end=shot.start, text=f"cut to a scene {place.phrases[0]}"))
    return sorted(segments, key=lambda segment: (segment.start, segment.end))


def story(clip: Footage, track: int) -> list[Segment]:
    """Return the story of one object: segments that together cover all frames, those out of frame included.

    Raises:
        PerceptError: the clip was rendered without ground truth.
    """
    plan = clip.plan
    texts: list[tuple[str, int | None]] = [("is still", None)] * plan.frames
    hidden = clip.shares()[:, track] <= HIDDEN
    for frame in np.flatnonzero(hidden):
        texts[frame] = (OUT_OF_FRAME, None)
    for number, event in enumerate(plan.events):
        if track not in event.subjects:
            continue
        start = event.start
        if event.subjects[0] == track:
            words = verb(plan, event)
        elif event.kind == "collides":
            words, start = passive(plan, event), _first_push(plan, event)
        else:
            continue
        for frame in range(start, event.end + 1):
            if not hidden[frame] or event.kind == "passes behind":
                texts[frame] = (words, number)
    return _runs(texts)


def _first_push(plan: Plan, event: Event) -> int:
    """Return the frame of a collision in which the object that is hit begins to move."""
    path, part = plan.tracks[event.subjects[1]].path, slice(event.start, event.end + 1)
    moved = np.diff(path.x[part]) + np.diff(path.y[part])
    return event.start + int(np.flatnonzero(moved)[0])


def _runs(texts: Sequence[tuple[str, int | None]]) -> list[Segment]:
    """Join equal neighbours to segments."""
    segments: list[Segment] = []
    for frame, (text, event) in enumerate(texts):
        if segments and (segments[-1].text, segments[-1].event) == (text, event):
            segments[-1] = Segment(start=segments[-1].start, end=frame, text=text, event=event)
        else:
            segments.append(Segment(start=frame, end=frame, text=text, event=event))
    return segments


def region_caption(clip: Footage, track: int, rng: random.Random) -> str:
    """Tell the story of one object in a sentence, without the segments in which it is out of frame or still."""
    plan = clip.plan
    acts = [segment.text for segment in story(clip, track) if segment.event is not None]
    opening = article(noun(plan.tracks[track].thing, fill=rng.random() < 0.5))
    if not acts:
        return f"{opening} {background(plan, plan.tracks[track].place, rng)} that does not move"
    return f"{opening} that {_joined(acts)}"


def _joined(acts: Sequence[str]) -> str:
    """Join what an object does; what it does twice in a row it does "again"."""
    acts = [f"{act} again" if index and act == acts[index - 1] else act for index, act in enumerate(acts)]
    if len(acts) == 1:
        return acts[0]
    return f"{', '.join(acts[:-1])} and then {acts[-1]}" if len(acts) > 2 else f"{acts[0]} and then {acts[1]}"


def moments(plan: Plan) -> list[Segment]:
    """Return the sentences that describe exactly one event of the clip, with its span, for moment retrieval."""
    segments = [segment for segment in dense_events(plan) if segment.event is not None]
    counts = Counter(segment.text for segment in segments)
    return [segment for segment in segments if counts[segment.text] == 1]
