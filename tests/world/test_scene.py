"""Scenes: plain data, deterministic, with the mixture of counts, sizes and equal things that was promised."""

import json
from collections import Counter

from percept.world import BACKGROUNDS, CATEGORIES, COLOURS, FILLS, Scene, sample_scene
from percept.world.vocabulary import WORDS


def test_json_round_trip_keeps_everything() -> None:
    for seed in range(40):
        scene = sample_scene(seed, style="mixed", split="evaluation", aspect=1.5)
        assert Scene.from_dict(json.loads(json.dumps(scene.to_dict()))) == scene


def test_same_seed_same_scene() -> None:
    assert [sample_scene(seed) for seed in range(50)] == [sample_scene(seed) for seed in range(50)]
    assert len({str(sample_scene(seed)) for seed in range(50)}) == 50


def test_mixture() -> None:
    scenes = [sample_scene(seed) for seed in range(1500)]
    counts = Counter(len(scene.things) for scene in scenes)
    assert set(counts) == {1, 2, 3, 4, 5, 6}
    assert 0.31 < counts[1] / 1500 < 0.39
    assert 0.26 < counts[2] / 1500 < 0.34
    equal = [max(Counter((t.category, t.colour) for t in scene.things).values()) > 1 for scene in scenes]
    assert 0.07 < sum(equal) / 1500 < 0.16
    assert 0.1 < sum(bool(scene.words) for scene in scenes) / 1500 < 0.2
    things = [thing for scene in scenes for thing in scene.things]
    assert {thing.category for thing in things} == set(CATEGORIES)
    assert {thing.colour for thing in things} == set(COLOURS)
    assert {thing.fill for thing in things} == set(FILLS)
    assert {scene.background for scene in scenes} == set(BACKGROUNDS)


def test_range_of_things_is_kept() -> None:
    assert {len(sample_scene(seed, things=(3, 4)).things) for seed in range(60)} == {3, 4}
    assert {len(sample_scene(seed, things=(5, 5), style="viewpoint").things) for seed in range(30)} == {5}


def test_size_words_follow_the_drawn_size() -> None:
    for seed in range(300):
        for thing in sample_scene(seed).things:
            expected = "small" if thing.scale < 0.28 else "large" if thing.scale > 0.49 else ""
            assert thing.size == expected


def test_printed_words_name_nothing_of_the_world() -> None:
    assert len(set(WORDS)) == len(WORDS) >= 150
    assert not set(WORDS) & (set(COLOURS) | {word for name in CATEGORIES for word in name.split()})


def test_water_animals_keep_to_the_water_in_scenes_by_the_sea() -> None:
    scenes = [sample_scene(seed) for seed in range(700)]
    for scene in scenes:
        if scene.background == "sea":
            for thing in scene.things:
                if CATEGORIES[thing.category].habitat == "water":
                    assert thing.y + 0.5 * thing.scale > scene.horizon
