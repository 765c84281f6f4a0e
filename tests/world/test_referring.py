"""Referring expressions fit exactly one thing and are as short as possible; scene graphs and focused scenes are true."""

import json
import random
from collections import Counter
from dataclasses import replace

import pytest

from percept.core.errors import PerceptError
from percept.world import CATEGORIES, Scene, generate, held_out, obeys, render, sample_scene, triples
from percept.world.focus import FOCI, held_out_print, sample_focused
from percept.world.graph import graph_triples, scene_graph
from percept.world.kinds import may_be_called
from percept.world.referring import Description, describe_thing, matches
from percept.world.relations import relations

SCENES = [sample_scene(seed, things=(2, 6)) for seed in range(120)]


def shorter(description: Description) -> list[Description]:
    """All descriptions with one part less."""
    less = [replace(description, **{part: ""}) for part in ("colour", "fill", "side") if getattr(description, part)]
    if description.anchor is not None:
        less.append(replace(description, relation="", anchor=None))
        if description.anchor.colour:
            less.append(replace(description, anchor=replace(description.anchor, colour="")))
    return less


def test_descriptions_fit_one_thing_and_nothing_can_be_left_out() -> None:
    made = Counter()
    for scene in SCENES:
        for index in range(len(scene.things)):
            found = describe_thing(scene, index, random.Random(index))
            if found is None:
                made["none"] += 1
                continue
            made["relation" if found.anchor else "side" if found.side else "plain"] += 1
            assert matches(scene, found) == [index]
            for less in shorter(found):
                if less.anchor is not None and len(matches(scene, less.anchor)) > 1:
                    continue  # "the cup" would be ambiguous in itself
                assert matches(scene, less) != [index], (found.words(), less.words())
    assert made["plain"] > 10 * made["none"]
    assert min(made["relation"], made["side"]) > 0


def test_descriptions_are_true() -> None:
    for scene in SCENES:
        for index, thing in enumerate(scene.things):
            found = describe_thing(scene, index, random.Random(1))
            if found is None:
                continue
            assert found.category == thing.category
            assert found.colour in ("", thing.colour)
            assert found.fill in ("", thing.fill)
            words = found.words()
            assert words.split()[0] in (found.side, found.fill, found.colour, found.category.split()[0])
            if found.anchor:
                [place] = matches(scene, found.anchor)
                assert found.relation in relations(thing, scene.things[place])


def test_a_tree_is_not_a_description_if_a_palm_tree_is_there() -> None:
    base = sample_scene(3, things=(2, 2))
    first, second = base.things
    things = (
        replace(first, category="tree", colour="red", fill="plain", x=0.2, y=0.5),
        replace(second, category="palm tree", colour="green", fill="plain", x=0.8, y=0.5),
    )
    scene: Scene = replace(base, things=things)
    found = describe_thing(scene, 0, random.Random(0))
    assert found is not None
    assert found.parts == 1
    palm = describe_thing(scene, 1, random.Random(0))
    assert palm is not None
    assert palm.words() == "palm tree"


def test_scene_graphs_are_plain_data_and_true() -> None:
    edges = 0
    for seed in range(40):
        rendering = generate(seed, style="mixed")
        graph = scene_graph(rendering)
        assert json.loads(json.dumps(graph)) == graph
        things = rendering.scene.things
        assert [node["category"] for node in graph["nodes"]] == [thing.category for thing in things]
        for node in graph["nodes"]:
            assert set(node["attributes"]) <= {
                things[node["id"]].colour,
                things[node["id"]].fill,
                things[node["id"]].size,
                "shaded",
            }
        for edge in graph["edges"]:
            assert edge["relation"] in relations(things[edge["subject"]], things[edge["object"]])
        edges += len(graph["edges"])
        assert len(graph_triples(graph)) == len(graph["edges"])
    assert edges > 100


@pytest.mark.parametrize("split", ["train", "validation", "evaluation"])
@pytest.mark.parametrize("focus", FOCI)
def test_focused_scenes_obey_their_split(focus: str, split: str) -> None:
    for seed in range(60):
        scene = sample_focused(seed, focus=focus, split=split, style=("plain", "mixed")[seed % 2])
        assert obeys(scene)
        reserved = [triple for triple in triples(scene) if held_out(*triple)]
        assert bool(reserved) == (split == "evaluation")
        if focus == "word":
            assert held_out_print(scene.words[0]) == (split == "evaluation")
        assert scene == sample_focused(seed, focus=focus, split=split, style=("plain", "mixed")[seed % 2])


def test_counted_things_are_equal_separate_and_visible() -> None:
    counts = Counter()
    for seed in range(60):
        scene = sample_focused(seed, focus="count")
        first = scene.things[0]
        alike = [thing for thing in scene.things if (thing.category, thing.colour) == (first.category, first.colour)]
        counts[len(alike)] += 1
        assert scene.things[: len(alike)] == tuple(alike)
        rendering = render(scene, size=64)
        assert rendering.visible.min() > 0.85, seed
    assert set(counts) == {1, 2, 3, 4, 5, 6}


def test_large_words_are_large_and_hide_nothing() -> None:
    for seed in range(30):
        rendering = render(sample_focused(seed, focus="word"), size=96)
        left, top, right, bottom = rendering.word_boxes[0]
        assert (right - left) > 0.06 * len(rendering.scene.words[0].text)
        assert (bottom - top) > 0.08
        assert rendering.visible.min() > 0.85, seed


def test_number_and_category_can_be_chosen() -> None:
    scene = sample_focused(3, focus="count", count=4, category="cup", total=4)
    assert [thing.category for thing in scene.things] == ["cup"] * 4
    assert len({thing.colour for thing in scene.things}) == 1


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ({"focus": "counts"}, "'count'"),
        ({"focus": "count", "count": 7}, "from 1 to 6"),
        ({"focus": "count", "category": "cupp"}, "'cup'"),
        ({"focus": "count", "style": "skech"}, "'sketch'"),
        ({"focus": "count", "split": "test"}, "split"),
    ],
)
def test_bad_arguments_say_what_is_possible(arguments: dict, hint: str) -> None:
    with pytest.raises(PerceptError, match=hint):
        sample_focused(0, **arguments)


def test_kinds_include_each_other_in_one_direction() -> None:
    assert may_be_called("palm tree", "tree")
    assert may_be_called("owl", "bird")
    assert not may_be_called("bird", "owl")
    for category in CATEGORIES:
        assert may_be_called(category, category)
