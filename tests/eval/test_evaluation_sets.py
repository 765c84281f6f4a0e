from collections import Counter

import numpy as np
import pytest
import torch

from percept.core.errors import PerceptError
from percept.eval import world
from percept.eval.table import Plan, find
from percept.eval.zeroshot import colour_texts
from percept.world import CATEGORIES, COLOURS, SEEN, UNSEEN, Scene, held_out, obeys, triples
from tests.eval.fakes import Fake, bag_of_words, chance


def test_singles_show_one_thing_in_a_combination_that_training_never_shows_alone():
    data = world.singles(40)
    assert len(data.images) == len(data.scenes) == 40
    for scene, category, colour in zip(data.scenes, data.categories, data.colours, strict=True):
        assert (scene.split, len(scene.things)) == ("evaluation", 1)
        assert obeys(scene)
        assert held_out(list(CATEGORIES)[category], list(COLOURS)[colour], "alone")


@pytest.mark.parametrize("split", ["validation", "train"])
def test_a_model_can_be_chosen_without_looking_at_the_evaluation_split(split, monkeypatch):
    drawn: list[Scene] = []
    blank = np.zeros((8, 8, 3), np.uint8)
    monkeypatch.setattr(world, "draw", lambda chosen: drawn.extend(chosen) or [blank] * len(chosen))
    of_the_world = ("zeroshot", "retrieval", "robustness", "binding")
    plan = Plan(count=12, split=split)
    found = {score.name for name in of_the_world for score in find(name).run(chance(), plan).scores}
    assert len(drawn) == 12 + 4 + 6 * 4 + 2 * 12
    assert {scene.split for scene in drawn} == {split}
    assert not any(held_out(*triple) for scene in drawn for triple in triples(scene))
    assert "variants seen in training" in found
    assert "variants never seen" not in found


def test_every_category_is_asked_for(monkeypatch):
    monkeypatch.setattr(world, "draw", lambda chosen: [np.zeros((8, 8, 3), np.uint8)] * len(chosen))
    asked = Counter(world.singles(3000).categories)
    assert len(asked) == len(CATEGORIES)
    assert min(asked.values()) >= 5


def test_sets_depend_on_the_seed_alone():
    first, again, other = world.singles(5), world.singles(8), world.singles(5, seed=1)
    assert all(np.array_equal(one, two) for one, two in zip(first.images, again.images[:5], strict=True))
    assert first.scenes == again.scenes[:5] != other.scenes


def test_processes_do_not_change_pictures():
    chosen = world.singles(world.FEW + 1)
    assert len(chosen.images) > world.FEW
    alone = world.draw(chosen.scenes, processes=1)
    several = world.draw(chosen.scenes, processes=2)
    assert all(np.array_equal(one, two) for one, two in zip(alone, several, strict=True))


def test_styles_are_what_they_say():
    data = world.singles_by_style({"plain": 3, "sketch": 12})
    assert [len(one.images) for one in data.values()] == [3, 12]
    assert {scene.style for scene in data["sketch"].scenes} == {"sketch"}
    variants = {scene.variant for scene in data["sketch"].scenes}
    assert variants & set(SEEN["sketch"])
    assert variants & set(UNSEEN["sketch"])


def test_captions_differ_from_each_other():
    data = world.captioned(60)
    assert len(data.images) == len(data.long) == len(data.short) == 60
    assert len({caption.lower() for caption in data.long}) == 60


def test_pairs_hold_the_same_words_in_another_order():
    data = world.pairs(20)
    assert all(len(one.images) == len(one.captions) == 20 for one in data.values())
    for right, wrong in data["attributes"].captions:
        assert right != wrong
        bare = [sorted(text.replace("an ", "a ").replace(",", "").split()) for text in (right, wrong)]
        assert bare[0] == bare[1]
    for right, wrong in data["sides"].captions:
        assert ("left" in right) == ("right" in wrong)
        assert right != wrong


def test_no_pictures_is_an_error():
    for make in (world.singles, world.captioned, world.pairs):
        with pytest.raises(PerceptError, match="count must be at least 1"):
            make(0)


@pytest.fixture
def words(monkeypatch):
    """An encoder that reads scenes as bags of words, and sets that hand it scenes in place of pictures."""
    monkeypatch.setattr(world, "draw", lambda chosen: [np.array(scene, dtype=object) for scene in chosen])
    return bag_of_words()


def values(name: str, encoder, count: int) -> dict[str, float]:
    return {score.name: score.value for score in find(name).run(encoder, Plan(count=count)).scores}


def test_a_bag_of_words_names_single_things(words):
    found = values("zeroshot", words, 120)
    assert found["category top-1"] == 1
    assert found["colour top-1"] == 1
    assert found["colour top-1, category given"] == 1


def test_no_score_is_free(words):
    constant = Fake(lambda _: torch.ones(4), lambda _: torch.ones(4))
    for name in ("zeroshot", "retrieval", "robustness", "binding"):
        found = {score: value for score, value in values(name, constant, 36).items() if "median rank" not in score}
        assert [score for score, value in found.items() if value > 0] == [], name


def test_a_bag_of_words_is_robust_but_cannot_bind(words):
    robust = values("robustness", words, 60)
    assert robust["mean of the styles"] == 1
    assert robust["drop of the mean against plain"] == 0
    assert values("binding", words, 40) == {"attributes exchanged": 0, "left and right exchanged": 0}


def test_a_bag_of_words_finds_most_pictures(words):
    found = values("retrieval", words, 300)
    assert found["caption→image R@5"] > 0.8
    assert found["short caption→image R@5"] > 0.7


def test_colour_texts_give_no_category_away():
    texts = colour_texts(["cup", "owl"])
    assert len(texts) == len(COLOURS)
    assert all(
        sum(f"{colour} cup" in text for text in forms) == len(forms) / 2
        for colour, forms in zip(COLOURS, texts, strict=True)
    )
