"""Nothing of the evaluation split leaks into training clips: no action, no frame, and no row of any task."""

from collections import Counter

from percept.world import held_out
from percept.world.clips import Plan, clip_rows, generate_clip, held_out_action
from percept.world.clips.rows import TASKS
from percept.world.clips.splits import action_triples, is_held_out, obeys
from percept.world.objects import CATEGORIES
from percept.world.palette import COLOURS
from percept.world.relations import relations

from .corpus import plans


def plain_triples(plan: Plan) -> set[tuple[str, str, str]]:
    """Read the compositions off the events, without asking the code that keeps the rule."""
    found = set()
    for event in plan.events:
        if event.subjects:
            thing = plan.tracks[event.subjects[0]].thing
            found.add((event.kind, thing.category, thing.colour))
            if event.direction:
                found.add((event.kind, thing.category, event.direction))
    return found


def test_no_held_out_action_outside_evaluation() -> None:
    for split in ("train", "validation"):
        for plan in plans(split):
            assert plain_triples(plan) == set().union(*(action_triples(plan, event) for event in plan.events))
            assert not [triple for triple in plain_triples(plan) if held_out_action(*triple)], plan.seed
        assert all(obeys(plan) for plan in plans(split)[:24])


def test_every_evaluation_clip_shows_an_action_that_training_never_shows() -> None:
    trained = set().union(*(plain_triples(plan) for plan in plans("train", 400)))
    assert len(trained) > 1500
    for plan in plans("evaluation"):
        held = {triple for triple in plain_triples(plan) if held_out_action(*triple)}
        assert held, plan.seed
        assert not held & trained


def test_no_frame_of_training_shows_a_held_out_image() -> None:
    for plan in plans("train"):
        for frame in range(0, plan.frames, 3):
            things = plan.scene(frame).things
            for one in things:
                assert not held_out(one.category, one.colour, "alone")
                for other in things:
                    if one is not other:
                        for relation in relations(one, other):
                            assert not held_out(one.category, one.colour, relation), (plan.seed, frame)


def test_an_eighth_is_held_out() -> None:
    flags = [
        held_out_action(kind, category, manner)
        for kind in ("moves", "spins", "falls")
        for category in CATEGORIES
        for manner in (*COLOURS, "left", "right")
    ]
    assert 0.115 < sum(flags) / len(flags) < 0.135


def test_the_hash_is_the_same_everywhere() -> None:
    assert (
        sum(held_out_action(kind, "cat", colour) for kind in ("moves", "spins") for colour in COLOURS) == STORED_COUNT
    )


STORED_COUNT = 5
"""Held-out actions of the cat, by colour: changes only if the rule does."""


def test_splits_have_different_clips() -> None:
    looks = [
        str([track.thing for track in plan.tracks])
        for split in ("train", "validation", "evaluation")
        for plan in plans(split)
    ]
    assert len(set(looks)) == len(looks)


def test_rows_of_every_task_are_held_out_in_evaluation_and_never_in_training() -> None:
    counts: dict[str, Counter] = {split: Counter() for split in ("train", "evaluation")}
    for split, count in counts.items():
        for seed in range(10):
            clip = generate_clip(seed, split=split, frames=24, size=32)
            rows = list(clip_rows(clip, video="clip.mp4"))
            count.update(row.task for row in rows if row.held_out)
            count["all"] += len(rows)
            if split == "evaluation":
                assert {"caption", "dense", "rdcap"} <= {row.task for row in rows if row.held_out}, seed
    assert set(counts["train"]) == {"all"}
    assert counts["train"]["all"] > 100
    assert set(counts["evaluation"]) == {"all", *TASKS}
    assert any(is_held_out(plan, event) for plan in plans("evaluation") for event in plan.events)
