"""Claims: their ids, and that they are true of the scene."""

from percept.world import CATEGORIES, COLOURS, sample_scene, shows_colour
from percept.world.claims import COUNT, FIRST_SIDE, MOST_IN_IMAGE, SIDES, coloured, image_claims, sided, text_claims
from percept.world.relations import relations


def test_every_claim_has_its_own_id() -> None:
    numbers = [coloured(kind, colour) for kind in CATEGORIES for colour in (*COLOURS, "")]
    numbers += [sided(kind, side) for kind in CATEGORIES for side in SIDES]
    assert sorted(numbers) == list(range(1, COUNT))
    assert max(coloured(kind, "") for kind in CATEGORIES) < FIRST_SIDE


def test_claims_of_an_image_are_true_of_its_things() -> None:
    count = 0
    for seed in range(150):
        scene = sample_scene(seed, style="mixed")
        claims = image_claims(scene)
        assert len(claims) == len(set(claims)) <= MOST_IN_IMAGE
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
        count += len(sides)
    assert count > 100


def test_exchanged_sides_are_different_claims_in_the_same_words() -> None:
    scene = next(
        scene
        for scene in map(sample_scene, range(200))
        if len(scene.things) == 2 and scene.things[0].category != scene.things[1].category
    )
    left, right = (text_claims(scene.things, colours=True, relation=side) for side in ("left of", "right of"))
    assert len(left) == len(right) == 4
    assert set(left) ^ set(right) == {sided(one.category, side) for one in scene.things for side in SIDES[:2]}
