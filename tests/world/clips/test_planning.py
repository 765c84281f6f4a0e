"""Plans of clips: spans are exact, names are unambiguous, all kinds of events occur, and bad arguments are refused."""

from collections import Counter
from dataclasses import fields

import numpy as np
import pytest

from percept.core.errors import PerceptError
from percept.world.clips.actions import ACTIONS, ENTRANCES, FASTEST, LARGEST_TURN
from percept.world.clips.elements import CAMERA_KINDS, Path
from percept.world.clips.planning import plan_clip

from .corpus import plans


def test_all_kinds_of_events_occur() -> None:
    kinds = Counter(event.kind for plan in plans() for event in plan.events)
    assert set(kinds) == {*ACTIONS, *CAMERA_KINDS}
    assert min(kinds.values()) > 0.015 * sum(kinds.values()), kinds
    directions = Counter(event.direction for plan in plans() for event in plan.events if event.kind == "moves")
    assert set(directions) == {"left", "right", "up", "down", "towards", "away"}


def test_there_are_several_events_quiet_frames_and_things_that_happen_together() -> None:
    counts, quiet, together = [], 0, 0
    for plan in plans():
        if plan.frames == 64:
            counts.append(len(plan.events))
        busy = Counter(frame for event in plan.events for frame in range(event.start, event.end + 1))
        quiet += len(busy) < plan.frames
        together += any(count > 1 for count in busy.values())
    assert np.mean(counts) > 5
    assert quiet > 130
    assert together > 40


def test_cuts_and_returns() -> None:
    shapes = Counter(tuple(shot.place for shot in plan.shots) for plan in plans())
    assert {(0,), (0, 1), (0, 1, 0)} == set(shapes)
    for plan in plans():
        assert plan.shots[0].start == 0
        assert plan.shots[-1].end == plan.frames - 1
        assert all(before.end + 1 == after.start for before, after in zip(plan.shots, plan.shots[1:], strict=False))
        assert len({place.background for place in plan.places}) == len(plan.places)


def test_nothing_changes_outside_the_spans_of_events() -> None:
    for plan in plans():
        for track in plan.tracks:
            busy = np.zeros(plan.frames, bool)
            for event in plan.events:
                pushed = event.kind == "collides" and track.number in event.subjects
                if pushed or event.subjects[:1] == (track.number,):
                    busy[event.start : event.end + 1] = True
            values = np.stack([getattr(track.path, each.name) for each in fields(Path) if each.name != "hand"])
            steps = np.any(np.abs(np.diff(values)) > 1e-9, axis=0)
            assert not (steps & ~(busy[1:] & busy[:-1])).any(), (plan.seed, track.number)
            for event in plan.events:
                if event.subjects[:1] == (track.number,):
                    held = track.path.hand[event.start : event.end + 1] < np.inf
                    during = steps[event.start : event.end] | held[1:]
                    assert during[0], (plan.seed, event)
                    assert during[-1] or event.kind == "collides", (plan.seed, event)
        moved = np.any(np.abs(np.diff(plan.camera, axis=0)) > 1e-9, axis=1)
        expected = np.zeros(plan.frames - 1, bool)
        expected[[cut - 1 for cut in plan.cuts]] = moved[[cut - 1 for cut in plan.cuts]]
        for event in plan.events:
            if event.kind in CAMERA_KINDS:
                expected[event.start : event.end] = True
        assert (moved == expected).all(), plan.seed


def test_something_stays_still_in_every_place() -> None:
    for plan in plans():
        active = {number for event in plan.events for number in event.subjects[: 2 if event.kind == "collides" else 1]}
        for place in range(len(plan.places)):
            assert any(track.place == place and track.number not in active for track in plan.tracks), plan.seed


def test_names_are_unambiguous() -> None:
    for plan in plans():
        names = [(track.thing.category, track.thing.colour) for track in plan.tracks]
        assert len(set(names)) == len(names)
        categories = {category for category, _ in names}
        assert not any(one.endswith(f" {other}") for one in categories for other in categories), plan.seed


def test_an_object_takes_part_in_one_event_at_a_time_and_comes_first() -> None:
    for plan in plans():
        for track in plan.tracks:
            mine = [event for event in plan.events if track.number in event.subjects]
            assert all(one.end < two.start or one.subjects[0] != two.subjects[0] or two.end < one.start
                       for one in mine for two in mine if one is not two)  # fmt: skip
            assert not [event for event in mine[1:] if event.kind in ENTRANCES]


def test_speeds_and_turns_can_be_seen() -> None:
    for plan in plans():
        for event in plan.events:
            if event.kind in ("moves", "approaches", "collides", "passes behind", "enters", "leaves"):
                assert 0 < event.speed <= FASTEST + 1e-6
            if event.kind == "spins":
                turns = np.abs(np.diff(plan.tracks[event.subjects[0]].path.angle))
                assert turns.max() <= LARGEST_TURN + 1e-6


def test_the_same_arguments_give_the_same_plan() -> None:
    first, second = (plan_clip(5, split="validation", frames=24) for _ in range(2))
    assert first.events == second.events
    assert [track.thing for track in first.tracks] == [track.thing for track in second.tracks]
    assert plan_clip(5, split="validation", frames=25).events != first.events


@pytest.mark.parametrize("frames", [7, 65, 0, -8])
def test_bad_numbers_of_frames_are_refused(frames: int) -> None:
    with pytest.raises(PerceptError, match="from 8 to 64"):
        plan_clip(0, frames=frames)


def test_unknown_splits_are_refused() -> None:
    with pytest.raises(PerceptError, match="split"):
        plan_clip(0, split="test")
