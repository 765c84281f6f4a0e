"""Claims: their numbers, and that they are true of the scene."""

from percept.world import CATEGORIES, COLOURS, sample_scene, shows_colour
from percept.world.claims import COUNT, FIRST_SIDE, MOST_SHOWN, SIDES, coloured, said, shown, sided
from percept.world.relations import relations


def test_every_claim_has_a_number_of_its_own() -> None:
    numbers = [coloured(kind, colour) for kind in CATEGORIES for colour in (*COLOURS, "")]
    numbers += [sided(kind, side) for kind in CATEGORIES for side in SIDES]
    assert sorted(numbers) == list(range(1, COUNT))
    assert max(coloured(kind, "") for kind in CATEGORIES) < FIRST_SIDE


def test_claims_of_a_picture_are_true_of_its_things() -> None:
    told = 0
    for seed in range(150):
        scene = sample_scene(seed, style="mixed")
        claims = shown(scene)
        assert len(claims) == len(set(claims)) <= MOST_SHOWN
        colours = {coloured(one.category, one.colour if shows_colour(scene) else "") for one in scene.things}
        assert {claim for claim in claims if claim < FIRST_SIDE} == colours
        true = {
            sided(one.category, side)
            for one in scene.things
            for other in scene.things
            if one is not other
            for side in relations(one, other)
            if side in SIDES
        }
        sides = {claim for claim in claims if claim >= FIRST_SIDE}
        assert sides <= true
        told += len(sides)
    assert told > 100


def test_exchanged_colours_and_sides_are_other_claims_though_the_words_are_the_same() -> None:
    scene = next(
        scene
        for scene in map(sample_scene, range(200))
        if len(scene.things) == 2 and scene.things[0].category != scene.things[1].category
    )
    left, right = (said(scene.things, colours=True, relation=side) for side in ("left of", "right of"))
    assert len(left) == len(right) == 4
    assert set(left) ^ set(right) == {sided(one.category, side) for one in scene.things for side in SIDES[:2]}
