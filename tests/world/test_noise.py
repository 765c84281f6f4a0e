"""Noise of captions has the set rates exactly, and each kind is what it says."""

from collections import Counter

import pytest

from percept.core.errors import PerceptError
from percept.world import sample_scene
from percept.world.noise import BLOCK, Noise, noise_kind, noisy_caption

NOISE = Noise(wrong=0.2, empty=0.1, boilerplate=0.075, truncated=0.125)


@pytest.mark.parametrize("seed", [0, 5])
def test_rates_are_exact_in_every_block(seed: int) -> None:
    orders = []
    for block in range(3):
        kinds = [noise_kind(block * BLOCK + number, NOISE, seed=seed) for number in range(BLOCK)]
        assert Counter(kinds) == {"wrong": 200, "empty": 100, "boilerplate": 75, "truncated": 125, "clean": 500}
        orders.append(kinds)
    assert orders[0] != orders[1]


def test_rates_that_do_not_divide_a_block_are_rounded() -> None:
    kinds = Counter(noise_kind(number, Noise(wrong=1 / 3, empty=1 / 3, boilerplate=1 / 3)) for number in range(BLOCK))
    assert "clean" not in kinds
    assert set(kinds.values()) <= {333, 334}


def test_noise_is_spread_over_the_block() -> None:
    kinds = [noise_kind(number, Noise(wrong=0.5)) == "wrong" for number in range(BLOCK)]
    tenths = [sum(kinds[first : first + 100]) for first in range(0, BLOCK, 100)]
    assert 25 < min(tenths) <= max(tenths) < 75


def test_each_kind_is_what_it_says() -> None:
    seen = Counter()
    for number in range(300):
        scene = sample_scene(number)
        noisy = noisy_caption(scene, number, NOISE)
        assert noisy == noisy_caption(scene, number, NOISE)
        seen[noisy.kind] += 1
        names = {thing.category for thing in scene.things}
        assert all(name.split()[-1][:3] in noisy.clean for name in names)
        if noisy.kind == "clean":
            assert noisy.text == noisy.clean
        elif noisy.kind == "empty":
            assert noisy.text == ""
        elif noisy.kind == "truncated":
            assert noisy.clean.startswith(noisy.text)
            assert 0 < len(noisy.text) < len(noisy.clean)
        else:
            assert noisy.text
            assert noisy.text != noisy.clean
    assert len(seen) == 5


def test_wrong_captions_name_other_things() -> None:
    for number in range(40):
        scene = sample_scene(number, things=(1, 1))
        noisy = noisy_caption(scene, number, Noise(wrong=1.0))
        assert noisy.kind == "wrong"
        assert scene.things[0].category not in noisy.text.split()


def test_impossible_rates_are_refused() -> None:
    for arguments in ({"wrong": -0.1}, {"wrong": 0.6, "empty": 0.5}):
        with pytest.raises(PerceptError, match="at most 1"):
            Noise(**arguments)
