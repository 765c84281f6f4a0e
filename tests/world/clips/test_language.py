"""Texts of clips: complete, true, unambiguous, and as exact as the spans."""

import random
from collections import Counter

import pytest

from percept.world.clips import Event, generate_clip, plan_clip
from percept.world.clips.language import (
    OUT_OF_FRAME,
    QUICK,
    SLOW,
    dense_events,
    event_caption,
    frame_caption,
    idle,
    long_caption,
    moments,
    pace,
    question,
    region_caption,
    sentence,
    short_caption,
    story,
)
from percept.world.language import noun

from .corpus import FRAMES, clips, plans


def test_sentences_of_all_kinds() -> None:
    texts: dict[str, set[str]] = {}
    for plan in plans():
        for event in plan.events:
            words = [noun(plan.tracks[number].thing) for number in event.subjects]
            text, asked = sentence(plan, event), question(plan, event)
            for word, blank in zip(words, ("A", "B"), strict=False):
                text, asked = text.replace(f"the {word}", blank), asked.replace(f"the {word}", blank)
            texts.setdefault(event.kind, set()).add(f"{text} / {asked}")
    assert texts["moves"] == {
        f"A moves {way} / does A move {way}?"
        for way in ("to the left", "to the right", "up", "down", "towards the camera", "away from the camera")
    }
    assert texts["collides"] <= {
        f"A hits B from {way} / does A hit B from {way}?" for way in ("the left", "the right", "above", "below")
    }
    assert texts["is picked up"] == {"A is picked up by a hand / is A picked up by a hand?"}
    assert texts["zooms"] == {f"the camera zooms {way} / does the camera zoom {way}?" for way in ("in", "out")}
    assert texts["enters"] == {f"A enters from the {way} / does A enter from the {way}?" for way in ("left", "right")}
    assert texts["falls"] == {"A falls from above / does A fall from above?"}


def test_captions_name_what_happens_in_order() -> None:
    for plan in plans()[:60]:
        text = long_caption(plan, random.Random(0))
        assert all(noun(track.thing) in text for track in plan.tracks)
        assert text.count("the scene changes") == len(plan.cuts)
        for event in plan.events:
            assert sentence(plan, event) in text or event.subjects, (plan.seed, text)
        acts = [sentence(plan, event) for event in plan.events]
        places = [text.find(act) for act, count in Counter(acts).items() if count == 1]
        assert places == sorted(places), (plan.seed, text)
        still = text.split(". ")[-1]
        assert all(noun(plan.tracks[number].thing) in still for number in idle(plan))
        assert "do not move" in still or "does not move" in still
        assert 3 < len(short_caption(plan, random.Random(1)).split()) < 60


def test_texts_differ_and_are_repeatable() -> None:
    plan = plans()[3]
    texts = {short_caption(plan, random.Random(seed)) for seed in range(20)}
    assert len(texts) > 3
    assert short_caption(plan, random.Random(4)) == short_caption(plan, random.Random(4))
    event = plan.events[0]
    assert all(event_caption(plan, event, random.Random(seed)).startswith(sentence(plan, event)) for seed in range(9))


def test_dense_events_hold_all_events_and_cuts() -> None:
    for plan in plans()[:60]:
        segments = dense_events(plan)
        assert len(segments) == len(plan.events) + len(plan.cuts)
        assert [segment.start for segment in segments] == sorted(segment.start for segment in segments)
        for segment in segments:
            if segment.event is not None:
                event = plan.events[segment.event]
                assert (segment.start, segment.end, segment.text) == (event.start, event.end, sentence(plan, event))


def test_a_moment_has_one_place() -> None:
    seen = 0
    for plan in plans():
        texts = [sentence(plan, event) for event in plan.events]
        for segment in moments(plan):
            assert texts.count(segment.text) == 1
            seen += 1
    assert seen > 300


def test_a_story_covers_every_frame_once_and_agrees_with_the_pixels() -> None:
    kinds = Counter()
    for clip in clips()[:80]:
        for track in clip.tracks:
            segments = story(clip, track.number)
            assert [frame for each in segments for frame in range(each.start, each.end + 1)] == list(range(FRAMES))
            shares = clip.shares()[:, track.number]
            for segment in segments:
                part = shares[segment.start : segment.end + 1]
                if segment.text == OUT_OF_FRAME:
                    assert part.max() <= 0.02
                    kinds["out"] += 1
                elif segment.event is None:
                    assert segment.text == "is still"
                    assert part.min() > 0
                    kinds["still"] += 1
                else:
                    event = clip.events[segment.event]
                    assert event.start <= segment.start <= segment.end <= event.end
                    assert track.number in event.subjects
                    kinds[segment.text.split()[0]] += 1
                    kinds["is hit"] += segment.text.startswith("is hit by")
    assert min(kinds[kind] for kind in ("out", "still", "moves", "passes", "is hit", "spins", "falls")) >= 3


def test_what_is_hit_is_described_from_the_touch_on() -> None:
    checked = 0
    for clip in clips():
        for number, event in enumerate(clip.events):
            if event.kind == "collides":
                segment = next(each for each in story(clip, event.subjects[1]) if each.event == number)
                path = clip.tracks[event.subjects[1]].path
                assert (path.x[segment.start], path.y[segment.start]) == (path.x[event.start], path.y[event.start])
                after = segment.start + 1
                assert (path.x[after], path.y[after]) != (path.x[event.start], path.y[event.start])
                assert segment.start > event.start
                checked += 1
    assert checked > 4


def test_region_captions_tell_the_story() -> None:
    for clip in clips()[:40]:
        for track in clip.tracks:
            text = region_caption(clip, track.number, random.Random(0))
            acts = [segment.text for segment in story(clip, track.number) if segment.event is not None]
            assert track.thing.colour in text
            assert all(act in text for act in acts)
            assert acts or text.endswith("that does not move")


def test_frame_captions_name_what_is_visible() -> None:
    empty = 0
    for clip in clips()[:40]:
        for frame in (0, FRAMES // 2, FRAMES - 1):
            text, things = frame_caption(clip, frame, random.Random(2)), clip.scene(frame).things
            for thing in things:
                assert thing.category in text
                assert thing.colour in text
            empty += not things
            assert things or text.startswith("an empty place")


def test_pace() -> None:
    plan = plan_clip(0, frames=8)
    made = [
        Event(kind="moves", subjects=(0,), start=0, end=4, direction="left", speed=speed) for speed in (0.01, 0.04, 0.1)
    ]
    assert [pace(event) for event in made] == ["slowly", "", "quickly"]
    assert SLOW < QUICK
    assert pace(Event(kind="grows", subjects=(0,), start=0, end=4)) == ""
    texts = {event_caption(plan, made[2], random.Random(seed)).endswith(" quickly") for seed in range(20)}
    assert texts == {True, False}


@pytest.mark.parametrize("seed", range(4))
def test_the_record_is_plain_data(seed: int) -> None:
    import json

    clip = generate_clip(seed, frames=16, size=48)
    record = json.loads(json.dumps(clip.record()))
    assert record == json.loads(json.dumps(clip.record()))
    assert len(record["captions"]["frames"]) == len(record["camera"]) == 16
    assert [track["number"] for track in record["tracks"]] == [track.number for track in clip.tracks]
    for track in record["tracks"]:
        assert [box is None for box in track["boxes"]] == [share == 0 or box is None for share, box in zip(track["visible"], track["boxes"], strict=True)]  # fmt: skip
        assert len(track["path"]["x"]) == 16
    assert {"kind", "subjects", "start", "end", "direction", "speed", "text"} <= record["events"][0].keys()
    assert record["questions"]
