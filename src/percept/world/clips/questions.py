"""Questions about a clip with their answers. Questions with a yes-or-no answer are asked only if both answers were possible."""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from percept.world.clips.elements import CAMERA_KINDS, Event, Plan
from percept.world.clips.footage import CLEAR, Footage
from percept.world.clips.language import (
    TOWARDS,
    background,
    dense_events,
    moments,
    name,
    pace,
    question,
    verb,
)
from percept.world.language import NUMBERS, article, noun
from percept.world.objects import CATEGORIES
from percept.world.palette import COLOURS
from percept.world.questions import questions as scene_questions
from percept.world.vocabulary import WORDS

OPPOSITE = {
    "left": "right", "right": "left", "up": "down", "down": "up", "towards": "away", "away": "towards", "in": "out",
    "out": "in", "clockwise": "counter-clockwise", "counter-clockwise": "clockwise",
}  # fmt: skip
DISPLACES = ("moves", "approaches", "collides", "passes behind", "enters", "leaves", "falls", "is picked up")
"""Kinds of events that change the position of their first subject. "collides" changes that of the second one too."""
IN_PLACE = ("grows", "shrinks", "spins", "bounces")
"""Kinds of events that leave the object where it is and cannot be mistaken for others."""
FASTER = 1.6
"""Least ratio of two speeds that are compared."""
_LOOKS_LIKE = {"grows": "towards", "shrinks": "away"}
"""Kind → direction of a movement that looks similar."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question with its answer."""

    kind: str
    """What it asks for, a name of `KINDS`."""
    text: str
    answer: str
    wrong: str = ""
    """A wrong answer of the same form; empty if there is none."""
    events: tuple[int, ...] = ()
    """Numbers of the events that the question is about."""


def questions(clip: Footage, rng: random.Random) -> list[Question]:
    """Return questions about a clip with unambiguous answers, in random order.

    Raises:
        PerceptError: the clip was rendered without ground truth.
    """
    found = {each.text: each for ask in _ASKERS for each in ask(clip, rng)}
    shuffled = list(found.values())
    rng.shuffle(shuffled)
    return shuffled


def _fair(rng: random.Random, yes: Sequence[Question], no: Sequence[Question]) -> list[Question]:
    """Return one of the questions, with equal chances of both answers; none if one answer is impossible."""
    return [rng.choice(yes if rng.random() < 0.5 else no)] if yes and no else []


def _binary(kind: str, text: str, answer: bool, *events: int) -> Question:
    words = ("yes", "no") if answer else ("no", "yes")
    return Question(kind=kind, text=text, answer=words[0], wrong=words[1], events=events)


def _displacements(plan: Plan, track: int) -> list[tuple[int, Event]]:
    """Return the events that change the position of an object."""
    return [
        (number, event)
        for number, event in enumerate(plan.events)
        if event.kind in DISPLACES
        and (event.subjects[0] == track or (event.kind == "collides" and track in event.subjects))
    ]


def _acts(plan: Plan, track: int) -> list[tuple[int, Event]]:
    """Return the events in which an object acts."""
    return [(number, event) for number, event in enumerate(plan.events) if event.subjects[:1] == (track,)]


def _action(clip: Footage, rng: random.Random) -> list[Question]:
    """Ask what an object with a single event does, and whether an object does something in its place."""
    plan, asked, yes, no = clip.plan, [], [], []
    for track in plan.tracks:
        acts, moved = _acts(plan, track.number), _displacements(plan, track.number)
        named = name(plan, track.number)
        if len(acts) == 1 and not [number for number, _ in moved if number != acts[0][0]]:
            number, event = acts[0]
            kind = rng.choice([each for each in IN_PLACE if each != event.kind])
            asked.append(
                Question(
                    kind="action", text=f"what happens to {named}?", answer=f"it {verb(plan, event)}",
                    wrong=f"it {kind}", events=(number,),
                )
            )  # fmt: skip
        done = {event.kind for _, event in acts}
        ways = {event.direction for _, event in acts}
        for number, event in acts:
            if event.kind in IN_PLACE:
                yes.append(_binary("action", question(plan, event, way=False), True, number))
        for kind in IN_PLACE:
            if kind not in done and _LOOKS_LIKE.get(kind) not in ways:
                event = Event(kind=kind, subjects=(track.number,), start=0, end=0)
                no.append(_binary("action", question(plan, event, way=False), False))
    return asked + _fair(rng, yes, no)


def _direction(clip: Footage, rng: random.Random) -> list[Question]:
    """Ask for the direction of objects that move or spin in only one."""
    plan, asked, yes, no = clip.plan, [], [], []
    for track in plan.tracks:
        moved, named = _displacements(plan, track.number), name(plan, track.number)
        ways = {event.direction for _, event in moved}
        numbers = tuple(number for number, _ in moved)
        if len(ways) == 1:
            way = ways.pop()
            right, wrong = TOWARDS[way], TOWARDS[OPPOSITE[way]]
            text = f"in which direction does {named} move?"
            asked.append(Question(kind="direction", text=text, answer=right, wrong=wrong, events=numbers))
            yes.append(_binary("direction", f"does {named} move {right}?", True, *numbers))
            no.append(_binary("direction", f"does {named} move {wrong}?", False, *numbers))
        spun = [(number, event) for number, event in _acts(plan, track.number) if event.kind == "spins"]
        if len({event.direction for _, event in spun}) == 1:
            way = spun[0][1].direction
            text = f"in which direction does {named} spin?"
            numbers = tuple(number for number, _ in spun)
            asked.append(Question(kind="direction", text=text, answer=way, wrong=OPPOSITE[way], events=numbers))
    return asked + _fair(rng, yes, no)


def _order(clip: Footage, rng: random.Random) -> list[Question]:
    """Ask which of two events happens first; both have unambiguous descriptions and do not overlap."""
    plan, single = clip.plan, [segment for segment in moments(clip.plan) if segment.event is not None]
    pairs = [(one, two) for index, one in enumerate(single) for two in single[index + 1 :] if one.end < two.start]
    if not pairs:
        return []
    first, second = rng.choice(pairs)
    numbers = tuple(each.event for each in (first, second) if each.event is not None)
    one, two = (first.text, second.text) if rng.random() < 0.5 else (second.text, first.text)
    events = [plan.events[number] for number in numbers]
    asked = [
        Question(
            kind="order", text=f"which happens first, {one} or {two}?", answer=first.text, wrong=second.text, events=numbers
        )
    ]  # fmt: skip
    forwards = f"{question(plan, events[0])[:-1]} before {second.text}?"
    backwards = f"{question(plan, events[1])[:-1]} before {first.text}?"
    asked += _fair(rng, [_binary("order", forwards, True, *numbers)], [_binary("order", backwards, False, *numbers)])
    everything = [segment for segment in dense_events(plan) if segment.event is not None]
    if everything[0].end < everything[1].start and everything[0] in single:
        asked.append(
            Question(
                kind="order", text="what happens first in the clip?", answer=everything[0].text,
                wrong=rng.choice([each.text for each in everything[1:]]), events=(everything[0].event or 0,),
            )
        )  # fmt: skip
    return asked


def _speed(clip: Footage, rng: random.Random) -> list[Question]:
    """Ask which of two objects moves faster, and whether an object is slow or quick; each moves once along the image."""
    plan, asked, once = clip.plan, [], []
    for track in plan.tracks:
        moved = _displacements(plan, track.number)
        if len(moved) == 1 and moved[0][1].kind in ("moves", "approaches", "passes behind", "enters", "leaves"):
            number, event = moved[0]
            if event.direction not in ("towards", "away"):
                once.append((track.number, number, event))
            if pace(event):
                wrong = "quickly" if pace(event) == "slowly" else "slowly"
                text = f"does {name(plan, track.number)} move slowly or quickly?"
                asked.append(Question(kind="speed", text=text, answer=pace(event), wrong=wrong, events=(number,)))
    for index, (one, first, slow) in enumerate(once):
        for two, second, fast in once[index + 1 :]:
            ratio = slow.speed / fast.speed
            if not 1 / FASTER < ratio < FASTER:
                names = name(plan, one), name(plan, two)
                right, wrong = names if ratio > 1 else names[::-1]
                text = f"which moves faster, {names[0]} or {names[1]}?"
                asked.append(Question(kind="speed", text=text, answer=right, wrong=wrong, events=(first, second)))
    return asked


def _count(clip: Footage, rng: random.Random) -> list[Question]:
    """Ask for the number of objects, of cuts, of turns and of objects that do the same."""
    plan, asked = clip.plan, []

    def ask(text: str, count: int, *events: int) -> None:
        if count < len(NUMBERS):
            off = rng.choice([other for other in (count - 1, count + 1) if 0 <= other < len(NUMBERS)])
            words = ["none" if number == 0 else NUMBERS[number] for number in (count, off)]
            asked.append(Question(kind="count", text=text, answer=words[0], wrong=words[1], events=events))

    best = clip.shares().max(axis=0)
    if (best > CLEAR).all():
        ask("how many objects are in the clip?", len(plan.tracks))
    ask("how many cuts are in the clip?", len(plan.cuts))
    times = Counter((event.kind, event.subjects[0]) for event in plan.events if event.kind in IN_PLACE)
    for (kind, track), count in times.items():
        numbers = [number for number, event in _acts(plan, track) if event.kind == kind]
        one = question(plan, plan.events[numbers[0]], way=False).removeprefix("does ")
        if count > 1 or rng.random() < 0.3:
            ask(f"how many times does {one}", count, *numbers)
    kind = rng.choice(("spin", "bounce", "vanish"))
    numbers = [number for number, event in enumerate(plan.events) if event.kind in (f"{kind}s", f"{kind}es")]
    ask(f"how many objects {kind}?", len({plan.events[number].subjects for number in numbers}), *numbers)
    return asked


def _existence(clip: Footage, rng: random.Random) -> list[Question]:
    """Ask whether an object is in the clip. A wrong one has the category of one that is, or is a random one."""
    plan, best = clip.plan, clip.shares().max(axis=0)
    shown = [track.thing for track in plan.tracks if best[track.number] > CLEAR]
    free = [colour for colour in COLOURS if colour not in {track.thing.colour for track in plan.tracks}]
    if not shown:
        return []
    wrong = rng.choice(shown).category if rng.random() < 0.7 else rng.choice(tuple(CATEGORIES))
    texts = noun(rng.choice(shown)), f"{rng.choice(free)} {wrong}"
    asked = [f"is there {article(text)} in the clip?" for text in texts]
    return _fair(rng, [_binary("existence", asked[0], True)], [_binary("existence", asked[1], False)])


def _attribute(clip: Footage, rng: random.Random) -> list[Question]:
    """Ask for the colour of an object, and for the only object that does something."""
    plan, asked, best = clip.plan, [], clip.shares().max(axis=0)
    categories = Counter(track.thing.category for track in plan.tracks)
    for track in plan.tracks:
        thing = track.thing
        if categories[thing.category] == 1 and best[track.number] > CLEAR:
            wrong = rng.choice([colour for colour in COLOURS if colour != thing.colour])
            text = f"what colour is the {thing.category}?"
            asked.append(Question(kind="attribute", text=text, answer=thing.colour, wrong=wrong))
    actors: dict[str, set[int]] = {}
    for event in plan.events:
        if event.subjects:
            actors.setdefault(event.kind, set()).add(event.subjects[0])
    movers = {track.number for track in plan.tracks if _displacements(plan, track.number)}
    for number, event in enumerate(plan.events):
        alone = event.subjects and actors[event.kind] == {event.subjects[0]}
        if not alone or (event.kind in ("moves", "approaches", "leaves", "enters", "vanishes") and len(movers) > 1):
            continue
        if event.kind in _LOOKS_LIKE and any(_LOOKS_LIKE[event.kind] == other.direction for other in plan.events):
            continue
        others = [track.number for track in plan.tracks if track.number not in event.subjects]
        if others:
            text = f"which object {verb(plan, event, way=False)}?"
            names = name(plan, event.subjects[0]), name(plan, rng.choice(others))
            asked.append(Question(kind="attribute", text=text, answer=names[0], wrong=names[1], events=(number,)))
    return rng.sample(asked, min(3, len(asked)))


def _partner(clip: Footage, rng: random.Random) -> list[Question]:
    """Ask what an object passes behind, hits or is hit by, if that happens once."""
    plan, asked = clip.plan, []
    for number, event in enumerate(plan.events):
        if event.kind not in ("passes behind", "collides"):
            continue
        same = [other for other in plan.events if other.kind == event.kind]
        one, two = (name(plan, track) for track in event.subjects)
        if sum(other.subjects[0] == event.subjects[0] for other in same) == 1:
            text = f"what does {one} {'pass behind' if event.kind == 'passes behind' else 'hit'}?"
            asked.append((text, two, event, number))
        if event.kind == "collides" and sum(other.subjects[1] == event.subjects[1] for other in same) == 1:
            asked.append((f"what hits {two}?", one, event, number))
    found = []
    for text, answer, event, number in asked:
        others = [name(plan, track.number) for track in plan.tracks if track.number not in event.subjects]
        wrong = rng.choice(others) if others else ""
        found.append(Question(kind="partner", text=text, answer=answer, wrong=wrong, events=(number,)))
    return found


def _reading(clip: Footage, rng: random.Random) -> list[Question]:
    """Ask for the text of the only sign of the clip, if some frame shows all of it."""
    plan = clip.plan
    words = [word.text for place in plan.places for word in place.words]
    if len(words) != 1 or not any(plan.scene(frame, []).words for frame in range(plan.frames)):
        return []
    wrong = rng.choice([word for word in WORDS if word != words[0]])
    return [Question(kind="reading", text="what does the text say?", answer=words[0], wrong=wrong)]


def _camera(clip: Footage, rng: random.Random) -> list[Question]:
    """Ask for the only move of the camera, and for the place of a clip without cuts."""
    plan, asked = clip.plan, []
    moves = [(number, event) for number, event in enumerate(plan.events) if event.kind in CAMERA_KINDS]
    if len(moves) == 1:
        number, event = moves[0]
        other = Event(kind=event.kind, subjects=(), start=0, end=0, direction=OPPOSITE[event.direction])
        right, wrong = f"it {verb(plan, event)}", f"it {verb(plan, other)}"
        text = "how does the camera move?"
        asked = [Question(kind="camera", text=text, answer=right, wrong=wrong, events=(number,))]
        yes, no = (_binary("camera", question(plan, each), each is event, number) for each in (event, other))
        asked += _fair(rng, [yes], [no])
    if plan.cuts:
        phrases = [background(plan, shot.place, rng) for shot in plan.shots[:2]]
        asked.append(Question(kind="camera", text="where does the clip begin?", answer=phrases[0], wrong=phrases[1]))
    return asked


def _frame(clip: Footage, rng: random.Random) -> list[Question]:
    """Ask about the objects, counts, relations and words of the first and the last frame, with fair yes-or-no answers."""
    found = []
    for frame, words in ((0, "first"), (clip.plan.frames - 1, "last")):
        scene = clip.scene(frame)
        if not scene.things or not clip.is_clear(frame):
            continue
        pairs = scene_questions(scene, rng)
        open_ones = [pair for pair in pairs if not pair[0].startswith("is ")][:2]
        closed = [
            pair for pair in pairs if pair[0].startswith("is ")
        ]  # the words "yes" and "no" can be printed on a sign
        answers = [
            [_binary("frame", f"in the {words} frame, {text}", answer == "yes") for text, answer in closed if answer == each]
            for each in ("yes", "no")
        ]  # fmt: skip
        found += [
            Question(kind="frame", text=f"in the {words} frame, {text}", answer=answer) for text, answer in open_ones
        ]
        found += _fair(rng, *answers)
    return found


_ASKERS: tuple[Callable[[Footage, random.Random], list[Question]], ...] = (
    _action, _direction, _order, _speed, _count, _existence, _attribute, _partner, _reading, _camera, _frame,
)  # fmt: skip
KINDS = tuple(ask.__name__.removeprefix("_") for ask in _ASKERS)
"""Kinds of questions."""
