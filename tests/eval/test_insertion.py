"""Attribute insertion: the score by hand, what is inserted where, the rivals, and the second task."""

import random
from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import f1_score

from percept.core.errors import PerceptError
from percept.eval import entailment, insertion
from percept.eval.insertion import Attack, Bigram, Changed, Item, Weights
from percept.eval.statistics import Score
from tests.eval.fakes import Fake

WORDS = ("cup", "dog", "red", "blue", "striped", "small")


def item(*, words=("a", "cup", "and", "a", "dog"), nouns=None, image=(1.0, 1, 1, 0, 0, 0)) -> Item:
    return Item(
        image=np.array(image), words=words, nouns={1: ("red",), 4: ("blue", "small")} if nouns is None else nouns
    )


def seeing() -> Fake:
    """An encoder of words: an image is the vector of the words that it shows."""

    def of_text(text: str) -> torch.Tensor:
        return torch.tensor([float(word in text.split()) for word in WORDS]) + 0.01

    return Fake(lambda image: torch.as_tensor(image).float() + 0.01, of_text)


LANGUAGE = Bigram(["a red cup", "a red cup", "a blue cup", "a striped cup.", "a blue dog, a red dog", "a small dog"])


@pytest.mark.parametrize(
    ("weights", "expected"),
    [((1.0, 5.0, 5.0), (0.0909, 0.5909, 0.6818)), ((1.0, 1.0, 1.0), (0.3333, 0.5667, 0.5))],
)
def test_scores_of_the_paper_by_hand(weights, expected):
    chosen = Weights(likelihood=weights[0], likeness=weights[1], distance=weights[2])
    found = insertion.combined([0.3, 0.2, 0.1], [0.2, 0.6, 0.4], [0.70, 0.72, 0.80], chosen)
    assert found == pytest.approx(expected, abs=5e-5)
    assert insertion.combined([1, 1], [1, 1], [0, 0], chosen).tolist() == [0.0, 0.0]


def test_true_attributes_are_inserted_before_their_nouns():
    (changed,) = Attack(model=seeing(), language=LANGUAGE, weights=Weights(candidates=None))([item()])
    assert changed.text in ("a red cup and a blue dog", "a red cup and a small dog")
    assert changed.true == (True, True)


def test_the_distance_decides_when_it_alone_counts():
    weights = Weights(likelihood=0.0, likeness=0.0, candidates=len(insertion.ATTRIBUTES))
    (changed,) = Attack(model=seeing(), language=LANGUAGE, weights=weights)([item(image=(1.0, 1, 1, 1, 1, 0))])
    assert "small cup" in changed.text  # the only known word that the image does not show


def test_likely_words_are_candidates_and_near_words_are_not():
    weights = Weights(likeness=0.0, distance=0.0, candidates=1)
    (changed,) = Attack(model=seeing(), language=LANGUAGE, weights=weights)([item(nouns={1: ()})])
    assert changed.text == "a red cup and a dog"
    near = item(words=("red", "a", "cup"), nouns={2: ("blue",)})
    (changed,) = Attack(model=seeing(), language=LANGUAGE, weights=weights)([near])
    assert changed.text == "red a blue cup"


def test_captions_with_unequal_numbers_of_nouns_and_repeated_ones():
    twice = item(words=("a", "cup", "and", "a", "cup"), nouns={1: ("red",), 4: ("blue",)})
    changed = Attack(model=seeing(), language=LANGUAGE, weights=Weights(candidates=None))(
        [item(nouns={4: ("blue",)}), twice]
    )
    assert [each.text for each in changed] == ["a cup and a blue dog", "a red cup and a blue cup"]


def test_the_article_fits_the_inserted_word():
    words = item(words=("an", "apple"), nouns={1: ("red",)})
    (changed,) = insertion.at_random([words], random.Random(0), true=True)
    assert changed.text == "a red apple"
    assert insertion.joined(("a", "apple")) == "an apple"


def test_a_thing_without_visible_attributes_is_left_alone():
    (changed,) = Attack(model=seeing(), language=LANGUAGE, weights=Weights(candidates=None))(
        [item(nouns={1: (), 4: ("blue",)})]
    )
    assert changed == Changed(text="a cup and a blue dog", true=(True,))
    assert insertion.truth([Changed(text="x")]) is None


@pytest.mark.parametrize("name", insertion.TEXT_ONLY)
def test_text_only_changes_take_one_edit_per_noun(name):
    changed = [insertion.text_only([item()], name, random.Random(seed))[0].text.split() for seed in range(20)]
    before = list(item().words)
    lengths = {"delete": 3, "swap": 5, "synonym": 5}
    assert all(len(words) == lengths[name] for words in changed)
    assert all(sum(one != two for one, two in zip(words, before, strict=False)) <= 5 for words in changed)
    assert insertion.delete(["cup"], random.Random(0)) == ["cup"]
    assert insertion.swap(["cup"], random.Random(0)) == ["cup"]


@pytest.mark.parametrize("name", insertion.TEXT_ONLY)
def test_text_only_changes_leave_the_articles_of_the_caption(name):
    octopus = item(words=("a", "octopus", "and", "a", "cup"))
    before = Counter(octopus.text.split())
    for seed in range(20):
        (changed,) = insertion.text_only([octopus], name, random.Random(seed))
        after = Counter(changed.text.split())
        added, removed = (after - before).total(), (before - after).total()
        assert (added, removed) == {"delete": (0, 2), "swap": (0, 0), "synonym": (2, 2)}[name]


def test_every_swap_changes_the_caption():
    assert all(insertion.swap(["a", "cup", "a"], random.Random(seed)) != ["a", "cup", "a"] for seed in range(20))
    assert insertion.swap(["a", "a"], random.Random(0)) == ["a", "a"]
    short = item(words=("a", "cup", "a"), nouns={1: (), 2: ()})  # two of its three swaps would undo the first
    for seed in range(50):
        (changed,) = insertion.text_only([short], "swap", random.Random(seed))
        assert changed.text != short.text


def test_truth_resamples_captions():
    def share(changed: list[Changed]) -> Score:
        score = insertion.truth(changed)
        assert score is not None
        return score

    whole = [Changed(text="", true=(flag,) * 3) for flag in (True, False) * 20]
    score = share([*whole, Changed(text="")])
    assert (score.value, score.n) == (0.5, 40)
    assert score.high - score.low > 0.25  # words as independent samples would give 0.18
    assert share([Changed(text="", true=(True, True))] * 10).low == pytest.approx(0.7225, abs=1e-4)
    assert share([Changed(text="", true=(False,))] * 10).high == pytest.approx(0.2775, abs=1e-4)


def test_reciprocal_ranks_by_hand_and_ties_do_not_help():
    model = Fake(lambda image: torch.as_tensor(image).float(), lambda text: torch.tensor([1.0, float(text == "b")]))
    images = F.normalize(torch.tensor([[1.0, 0.0], [1.0, 1.0]]), dim=1)
    assert insertion.reciprocal_ranks(model, images, ["a", "b"]).tolist() == [1.0, 1.0]
    tied = F.normalize(torch.ones(2, 2), dim=1)
    assert insertion.reciprocal_ranks(model, tied, ["a", "b"]).tolist() == [0.5, 0.5]
    with pytest.raises(PerceptError, match="1 texts for 2 images"):
        insertion.reciprocal_ranks(model, images, ["a"])


def test_the_relative_drop_is_paired():
    before, after = np.array([1.0, 0.5, 1.0]), np.array([0.5, 0.25, 0.5])
    score = insertion.drop_of("d", before, after)
    assert (score.value, score.low, score.high) == (0.5, 0.5, 0.5)
    assert insertion.drop_of("d", after, before).value == -1.0


def test_items_of_the_world_name_things_and_know_their_attributes():
    for each in insertion.items(6, seed=0):
        assert 2 <= len(each.nouns) <= 3
        assert all(set(own) <= set(insertion.ATTRIBUTES) for own in each.nouns.values())
        assert not set(each.words) & set(insertion.ATTRIBUTES)
    assert len({each.text for each in insertion.items(6, seed=0)}) == 6


def test_a_wrong_hypothesis_names_a_thing_that_is_not_there():
    whole = insertion.items(8, seed=0)
    mixed, right = entailment.hypotheses(whole, random.Random(0))
    assert right.tolist() == [True, False] * 4
    for before, after, true in zip(whole, mixed, right, strict=True):
        assert (before.text == after.text) == true
        assert len(after.nouns) == len(before.nouns)
        assert all(after.words[place - 1] == "a" for place in after.nouns)


def test_f1_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    guesses, right = rng.random(50) < 0.7, rng.random(50) < 0.4
    assert entailment.f1(guesses, right) == pytest.approx(f1_score(right, guesses, average="macro"))
    assert entailment.f1(np.zeros(3, bool), np.ones(3, bool)) == 0.0
    assert entailment.f1_drop("d", guesses, guesses, right).value == 0.0


def test_the_classifier_learns_what_the_vectors_tell():
    rng = torch.Generator().manual_seed(0)
    base = F.normalize(torch.randn(80, 16, generator=rng), dim=1)
    right = np.arange(80) % 2 == 0
    texts = {str(n): base[n] if right[n] else -base[n] for n in range(80)}
    judge = entailment.train(Fake(torch.as_tensor, lambda text: texts[text]), base[:60], list(texts)[:60], right[:60])
    assert (judge(base[60:], list(texts)[60:]) == right[60:]).mean() > 0.9
