"""Captions are true of their scene, and wrong captions differ in the intended point only."""

import random
import re
from collections import Counter
from dataclasses import replace
from itertools import permutations

import pytest

from percept.world import (
    CATEGORIES,
    CLASS_TEMPLATES,
    COLOURS,
    Scene,
    Thing,
    alt_text,
    fill_template,
    held_out,
    long_caption,
    sample_scene,
    short_caption,
    shows_colour,
    swapped_attributes,
    swapped_sides,
)
from percept.world.claims import SIDES, coloured, image_claims, sided
from percept.world.contrary import KINDS, contrary
from percept.world.elements import Word
from percept.world.language import NUMBERS, counted, groups
from percept.world.questions import questions

SCENES = [sample_scene(seed, style="mixed", split="evaluation") for seed in range(400)]


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text)


def _colours(text: str) -> set[str]:
    return set(_words(text)) & set(COLOURS)


@pytest.mark.parametrize("say", [short_caption, long_caption])
def test_captions_name_every_thing_in_its_colour_and_no_other(say) -> None:
    for index, scene in enumerate(SCENES):
        text = say(scene, random.Random(index))
        assert text == text.lower()
        assert "  " not in text
        assert text == text.strip()
        assert _colours(text) == ({thing.colour for thing in scene.things} if shows_colour(scene) else set())
        for things, _ in groups(scene):
            name = things[0].category if len(things) == 1 else CATEGORIES[things[0].category].plural
            assert name in text, (text, name)


def test_articles_fit() -> None:
    for index, scene in enumerate(SCENES):
        for say in (short_caption, long_caption):
            for article, following in re.findall(r"\b(an?) (\w+)", say(scene, random.Random(index))):
                assert (article == "an") == (following[0] in "aeiou"), following


def test_long_captions_are_bounded_and_say_more() -> None:
    lengths = [len(long_caption(scene, random.Random(0)).split()) for scene in SCENES]
    assert max(lengths) <= 45
    short = [len(short_caption(scene, random.Random(0)).split()) for scene in SCENES]
    assert sum(lengths) > 1.4 * sum(short)


def test_relations_in_captions_hold() -> None:
    """Sentences of the long caption about left and right agree with the places."""
    checked = 0
    for index, scene in enumerate(SCENES):
        for one, side, other in re.findall(
            r"the ([a-z ]+) is (?:to the |on the )?(left|right) of the ([a-z ]+)\.",
            long_caption(scene, random.Random(index)),
        ):
            checked += 1
            first, second = _find(scene, one), _find(scene, other)
            assert (first.x < second.x) == (side == "left")
    assert checked > 40


def _find(scene: Scene, name: str) -> Thing:
    coloured = shows_colour(scene)
    hits = [
        thing for thing in scene.things if name == (f"{thing.colour} {thing.category}" if coloured else thing.category)
    ]
    assert len(hits) == 1, (name, scene)
    return hits[0]


def test_swapped_attributes_exchange_two_colours_and_become_false() -> None:
    made = 0
    for index, scene in enumerate(SCENES):
        pair = swapped_attributes(scene, random.Random(index))
        if pair is None:
            continue
        made += 1
        right, wrong = ([word for word in _words(text) if word not in ("a", "an")] for text in pair)
        assert Counter(right) == Counter(wrong)
        assert sum(one != other for one, other in zip(right, wrong, strict=True)) == 2
        truth = {(thing.category, thing.colour) for thing in scene.things}
        assert _claims(pair[0]) <= truth
        assert not _claims(pair[1]) & truth
    assert made > 100


def _claims(text: str) -> set[tuple[str, str]]:
    names = "|".join(sorted(CATEGORIES, key=len, reverse=True))
    found = re.findall(rf"\b({'|'.join(COLOURS)}) ({names})\b", text)
    assert len(found) == 2
    return {(category, colour) for colour, category in found}


def test_swapped_sides_differ_in_one_word_and_the_first_is_true() -> None:
    made = 0
    for index, scene in enumerate(SCENES):
        pair = swapped_sides(scene, random.Random(index))
        if pair is None:
            continue
        made += 1
        right, wrong = (_words(text) for text in pair)
        different = [(one, other) for one, other in zip(right, wrong, strict=True) if one != other]
        assert different in ([("left", "right")], [("right", "left")])
        head, tail = re.split(r" (?:to the |on the )?(?:left|right) of ", pair[0])
        first, second = (_find(scene, re.sub(r"^an? ", "", name)) for name in (head, tail))
        assert (first.x < second.x) == (different[0][0] == "left")
    assert made > 80


def test_contrary_texts_are_one_true_and_one_false_in_one_point() -> None:
    exchanged = 0
    for index, scene in enumerate(SCENES):
        pairs = contrary(scene, random.Random(index))
        assert len(pairs) == len(KINDS)
        truth = set(image_claims(scene))
        for pair in pairs:
            right, wrong = (set(claims) for claims in pair.claims)
            assert pair.texts[0] != pair.texts[1]
            assert right <= truth
            assert wrong <= truth or wrong - right  # two things may stand on both sides of others
        if swapped_attributes(scene, random.Random(index)) is not None:
            exchanged += 1
            for pair in pairs[:2]:
                assert _claims(pair.texts[0]) <= {(thing.category, thing.colour) for thing in scene.things}
                for text, claims in zip(pair.texts, pair.claims, strict=True):
                    assert {coloured(*claim) for claim in _claims(text)} == set(claims)
            continue
        names = {thing.category for thing in scene.things}
        assert all(name in pairs[0].texts[0] or CATEGORIES[name].plural in pairs[0].texts[0] for name in names)
        named = {colour for colour in COLOURS if colour in pairs[0].texts[1].split()}
        unseen = named - {thing.colour for thing in scene.things}
        assert len(unseen) == 1 or not shows_colour(scene)
    assert 100 < exchanged < len(SCENES)


def test_no_wrong_text_for_training_says_a_held_out_composition() -> None:
    """Sides are said with colours, so a text could; and single things in other colours or kinds."""
    checked = 0
    for seed in range(300):
        scene = sample_scene(seed, style="mixed")
        if not shows_colour(scene):
            continue
        for pair in contrary(scene, random.Random(seed)):
            claimed = dict(_claimed(pair.claims[1]))
            if len(claimed) == 1 or any(claimed.values()):
                checked += 1
                assert not any(
                    held_out(*thing, side) for thing, sides in claimed.items() for side in (sides or {"alone"})
                )
    assert checked > 200


def _claimed(claims: list[int]) -> list[tuple[tuple[str, str], set[str]]]:
    """Return what a text of one or two different kinds says: things, each with its sides."""
    found = []
    for category in CATEGORIES:
        sides = {side for side in SIDES if sided(category, side) in claims}
        found += [((category, colour), sides) for colour in COLOURS if coloured(category, colour) in claims]
    return found


def test_alt_text_is_noisy_but_mostly_about_the_image() -> None:
    exact, related = 0, 0
    for index, scene in enumerate(SCENES):
        text = alt_text(scene, random.Random(index))
        assert text == text.strip()
        assert text
        named = sum(thing.category in text or CATEGORIES[thing.category].plural in text for thing in scene.things)
        exact += named == len(scene.things)
        related += named > 0
    assert 0.4 < exact / len(SCENES) < 0.85
    assert 0.8 < related / len(SCENES) < 0.98


def test_vocabulary_stays_small() -> None:
    words = Counter()
    for seed in range(700):
        scene, rng = sample_scene(seed), random.Random(seed)
        for say in (short_caption, long_caption):
            words.update(_words(say(scene, rng)))
    assert len(words) < 800


def test_templates_take_the_right_article() -> None:
    assert fill_template("a photo of a {}", "umbrella") == "a photo of an umbrella"
    assert fill_template("a {colour} {category}", "cup", "orange") == "an orange cup"
    assert fill_template("one {}", "cup", "red") == "one red cup"
    assert all("{}" in template for template in CLASS_TEMPLATES)
    assert counted(3, "sheep", "black") == "three black sheep"


def test_answers_follow_from_the_scene() -> None:
    kinds = Counter()
    for index, scene in enumerate(SCENES):
        for question, answer in questions(scene, random.Random(index)):
            kinds[_check(scene, question, answer)] += 1
    assert (
        min(kinds[kind] for kind in ("total", "count", "presence", "colour", "colour?", "side", "front", "text")) > 10
    )


def _check(scene: Scene, question: str, answer: str) -> str:
    """Work the answer out again from the scene, by the form of the question; return the form."""
    by_name = {thing.category: thing for thing in scene.things}
    plurals = {category.plural: name for name, category in CATEGORIES.items()}
    if question == "how many things are there?":
        assert NUMBERS.index(answer) == len(scene.things)
        return "total"
    if match := re.fullmatch(r"how many (.+) are there\?", question):
        assert NUMBERS.index(answer) == sum(thing.category == plurals[match[1]] for thing in scene.things)
        return "count"
    if question == "is there any text?":
        assert answer == ("yes" if scene.words else "no")
        return "any text"
    if question == "what does the text say?":
        assert sorted(answer.split()) == sorted(word.text for word in scene.words)
        return "text"
    if match := re.fullmatch(r"is there an? (.+)\?", question):
        assert answer == ("yes" if match[1] in by_name else "no")
        return "presence"
    if match := re.fullmatch(r"what colour is the (.+)\?", question):
        assert answer == by_name[match[1]].colour
        return "colour"
    if match := re.fullmatch(rf"is the ([a-z ]+) ({'|'.join(COLOURS)})\?", question):
        assert answer == ("yes" if by_name[match[1]].colour == match[2] else "no")
        return "colour?"
    if match := re.fullmatch(r"where is the (.+) from the (.+)\?", question):
        first, second = _find(scene, match[1]), _find(scene, match[2])
        if "left" in answer or "right" in answer:
            assert (first.x < second.x) == ("left" in answer)
            return "side"
    if match := re.fullmatch(r"which is in front, the (.+) or the (.+)\?", question):
        nearer = min(
            (_find(scene, match[1]), match[1]), (_find(scene, match[2]), match[2]), key=lambda pair: pair[0].depth
        )
        assert answer == f"the {nearer[1]}"
        return "front"
    return "other"


def test_words_are_read_row_by_row_from_the_left() -> None:
    scene = next(scene for scene in map(sample_scene, range(50)) if scene.things)
    word = Word(text="", x=0.5, y=0.5, size=0.1, colour="black")
    late = replace(word, text="late", x=0.2, y=0.8)
    right = replace(word, text="right", x=0.7, y=0.48)
    left = replace(word, text="left", x=0.3, y=0.51)
    for words in permutations((late, right, left)):
        answers = dict(questions(replace(scene, words=words), random.Random(0)))
        assert answers["what does the text say?"] == "left right late"
