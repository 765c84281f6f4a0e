"""Nothing of the evaluation split leaks: compositions, seeds, variants; twins keep the rule."""

import random
from collections import Counter

import pytest

from percept.core.errors import PerceptError
from percept.world import (
    CATEGORIES,
    COLOURS,
    SEEN,
    STYLES,
    UNSEEN,
    Scene,
    held_out,
    obeys,
    sample_scene,
    triples,
    twin,
)
from percept.world.relations import OPPOSITE, RELATIONS, relations
from percept.world.splits import SPLITS, split_seed

STYLES_AND_MIXED = (*STYLES, "mixed")


@pytest.mark.parametrize("split", ["train", "validation"])
def test_no_held_out_composition_outside_evaluation(split: str) -> None:
    for seed in range(1500):
        scene = sample_scene(seed, split=split, style=STYLES_AND_MIXED[seed % 7])
        assert not [triple for triple in triples(scene) if held_out(*triple)], seed


def test_every_evaluation_scene_has_a_held_out_composition() -> None:
    for seed in range(1500):
        scene = sample_scene(seed, split="evaluation", style=STYLES_AND_MIXED[seed % 7])
        assert any(held_out(*triple) for triple in triples(scene)), seed


def plain_triples(scene: Scene) -> set[tuple[str, str, str]]:
    """Read the compositions off the things themselves, without asking the code that keeps the rule."""
    if len(scene.things) == 1:
        return {(scene.things[0].category, scene.things[0].colour, "alone")}
    return {
        (one.category, one.colour, relation)
        for one in scene.things
        for other in scene.things
        if one is not other
        for relation in relations(one, other)
    }


def test_training_never_shows_what_evaluation_relies_on() -> None:
    """Every evaluation scene has a composition that none of 2400 training scenes has, twins and other aspects included."""
    trained: set[tuple[str, str, str]] = set()
    for seed in range(1200):
        scene = sample_scene(seed, split="train", style="mixed", aspect=(1.0, 0.5, 2.0)[seed % 3])
        partner = twin(scene, random.Random(seed))
        trained |= plain_triples(scene) | (plain_triples(partner) if partner else set())
    assert len(trained) > 2000
    for seed in range(500):
        shown = plain_triples(sample_scene(seed, split="evaluation"))
        assert shown - trained, seed
        assert any(held_out(*triple) for triple in shown - trained), seed


def test_triples_are_those_of_a_plain_loop() -> None:
    for seed in range(200):
        scene = sample_scene(seed)
        assert triples(scene) == plain_triples(scene)


def test_an_eighth_is_held_out_of_every_relation_and_every_category_trains() -> None:
    for relation in (*RELATIONS, "alone"):
        flags = [held_out(category, colour, relation) for category in CATEGORIES for colour in COLOURS]
        assert 0.09 < sum(flags) / len(flags) < 0.16
    for category in CATEGORIES:
        alone = [held_out(category, colour, "alone") for colour in COLOURS]
        assert 1 <= sum(alone) < len(COLOURS) / 2, category  # the evaluation shows all of them, and training too


def test_the_hash_is_the_same_everywhere() -> None:
    assert sum(held_out("cat", colour, relation) for colour in COLOURS for relation in RELATIONS) == STORED_CAT_COUNT


STORED_CAT_COUNT = 11
"""Held-out triples of the cat with one of the six relations: changes only if the rule does, and then nano is void."""


def test_seeds_of_splits_do_not_meet() -> None:
    seeds = {split: {split_seed(seed, split) for seed in range(5000)} for split in SPLITS}
    assert len(set.union(*seeds.values())) == 15000
    scenes = {split: {str(sample_scene(seed, split=split).things) for seed in range(300)} for split in SPLITS}
    assert len(set.union(*scenes.values())) == 900


def test_relations_are_opposite_and_exclusive() -> None:
    for seed in range(300):
        scene = sample_scene(seed, things=(2, 6))
        for thing in scene.things:
            for other in scene.things:
                if thing is not other:
                    found = set(relations(thing, other))
                    assert {OPPOSITE[relation] for relation in found} == set(relations(other, thing))
                    assert not found & {OPPOSITE[relation] for relation in found}


def test_twins_keep_the_rule_and_differ() -> None:
    made, recast = Counter(), 0
    for seed in range(300):
        split = SPLITS[seed % 3]
        scene = sample_scene(seed, split=split, things=(1, 4))
        partner = twin(scene, random.Random(seed))
        if partner is not None:
            made[split] += 1
            assert obeys(partner)
            assert partner.split == split
            assert partner.things != scene.things
            assert Counter(thing.colour for thing in partner.things) == Counter(thing.colour for thing in scene.things)
            new = [
                other for one, other in zip(scene.things, partner.things, strict=True) if one.category != other.category
            ]
            assert len(new) <= 1
            assert not {thing.category for thing in new} & {thing.category for thing in scene.things}
            recast += len(new)
            if len(scene.things) == 1:
                assert new
    assert min(made[split] for split in SPLITS) > 50
    assert 0.4 * made.total() < recast < 0.8 * made.total()


def test_unseen_variants_are_for_evaluation_only() -> None:
    for style in STYLES:
        drawn = {
            split: {sample_scene(seed, split=split, style=style).variant for seed in range(90)} for split in SPLITS
        }
        assert drawn["train"] == drawn["validation"] == set(SEEN[style])
        assert drawn["evaluation"] == set(SEEN[style]) | set(UNSEEN[style])


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ({"split": "evalution"}, "'evaluation'"),
        ({"style": "scetch"}, "'sketch'"),
        ({"style": "corruption", "variant": "blurr"}, "'blur'"),
        ({"style": "corruption", "variant": "fog"}, "evaluation split"),
        ({"things": (0, 3)}, "from 1 to 6"),
        ({"things": (4, 2)}, "from 1 to 6"),
        ({"aspect": 9.0}, "0.25 to 4"),
    ],
)
def test_bad_arguments_say_what_is_possible(arguments: dict, hint: str) -> None:
    with pytest.raises(PerceptError, match=hint):
        sample_scene(0, **arguments)
