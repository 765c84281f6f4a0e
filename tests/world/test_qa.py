"""Answers are true of the scenes, balanced, and about held-out compositions in the evaluation split."""

import math
import random
from collections import Counter
from functools import cache

import pytest

from percept.core.errors import PerceptError
from percept.data.chat.regions import parse_box
from percept.world import CATEGORIES, COLOURS, held_out, obeys, triples
from percept.world.focus import held_out_print
from percept.world.qa import KINDS, SEVERAL, WEIGHTS, Example, example, examples
from percept.world.qa.phrasings import PHRASINGS
from percept.world.qa.things import SIDES
from percept.world.relations import all_relations
from percept.world.vocabulary import WORDS

COUNT = 40
SPLITS = ("train", "evaluation")


@cache
def made(kind: str, split: str, count: int = COUNT) -> tuple[Example, ...]:
    """Small images: what is shown and asked does not depend on the size, but for rounding of boxes."""
    return tuple(example(seed, kind=kind, split=split, size=64) for seed in range(count))


def things(one: Example) -> list:
    return [one.images[image].scene.things[index] for image, index in one.pairs[0].things]


@pytest.mark.parametrize("kind", KINDS)
def test_pairs_are_well_formed_and_repeatable(kind: str) -> None:
    for one in made(kind, "train"):
        pair = one.pairs[0]
        assert pair.kind == kind
        assert (len(one.images) > 1) == (kind in SEVERAL)
        assert pair.answer == pair.answer.strip() != ""
        assert "{" not in pair.question
        if pair.choices:
            assert pair.choices.count(pair.answer) == 1
            assert len(set(pair.choices)) == len(pair.choices) > 1
            assert pair.chance == 1 / len(pair.choices)
        assert all(0 <= side <= 1 for box in pair.boxes for side in box)
    again = example(3, kind=kind, split="train", size=64)
    assert again.pairs == made(kind, "train")[3].pairs
    assert [image.image.tobytes() for image in again.images] == [
        image.image.tobytes() for image in made(kind, "train")[3].images
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_training_shows_no_held_out_composition_and_evaluation_asks_about_one(kind: str) -> None:
    for one in made(kind, "train"):
        for image in one.images:
            assert image.scene.split == "train"
            assert not [triple for triple in triples(image.scene) if held_out(*triple)]
            assert not any(held_out_print(word) for word in image.scene.words)
    for one in made(kind, "evaluation"):
        assert all(obeys(image.scene) for image in one.images)
        if kind == "reading":
            assert held_out_print(one.images[0].scene.words[0])
            continue
        reserved = [
            held_out(image.scene.things[index].category, image.scene.things[index].colour, relation)
            for place, index in one.pairs[0].things
            for image in [one.images[place]]
            for relation in all_relations(image.scene.things)[index]
        ]
        assert any(reserved)


def share(values: list[str], value: str) -> float:
    return values.count(value) / len(values)


@pytest.mark.parametrize(
    ("kind", "answers"),
    [
        ("existence", ("yes", "no")),
        ("attribute", ("yes", "no")),
        ("same", ("yes", "no")),
        ("count", tuple("123456")),
        ("total", tuple("123456")),
        ("side", SIDES),
    ],
)
def test_answers_are_balanced(kind: str, answers: tuple[str, ...]) -> None:
    given = [one.pairs[0].answer for split in SPLITS for one in made(kind, split)]
    for answer in answers:
        expected = 1 / len(answers)
        assert abs(share(given, answer) - expected) < 4 * math.sqrt(expected * (1 - expected) / len(given))


def test_a_model_that_reads_only_the_question_cannot_tell_yes_from_no() -> None:
    """Naive Bayes on the words of the question, trained on half of the questions."""
    pairs = [example(seed, kind="existence", size=32).pairs[0] for seed in range(500)]
    counts = {answer: Counter() for answer in ("yes", "no")}
    for pair in pairs[:300]:
        counts[pair.answer].update(pair.question.lower().split())

    def likelihood(question: str, answer: str) -> float:
        words, total = counts[answer], sum(counts[answer].values())
        return sum(math.log((words[word] + 1) / total) for word in question.lower().split())

    right = sum(
        max(counts, key=lambda answer: likelihood(pair.question, answer)) == pair.answer for pair in pairs[300:]
    )
    assert right < 200 * 0.5 + 4 * math.sqrt(200 * 0.25)


def names_in(text: str, names) -> list[str]:
    """Return the names in a text, longest first, without names that are part of a longer one."""
    found = []
    for name in sorted(names, key=len, reverse=True):
        if f" {name}" in f" {text}" and not any(name in longer for longer in found):
            found.append(name)
    return found


def test_counts_are_those_of_the_scene() -> None:
    for split in SPLITS:
        for one in made("count", split):
            scene, pair = one.images[0].scene, one.pairs[0]
            plural = max((name for name in CATEGORIES if CATEGORIES[name].plural in pair.question), key=len)
            hues = [colour for colour in COLOURS if f" {colour} " in f" {pair.question}"]
            alike = [thing for thing in scene.things if thing.category == plural and thing.colour in (hues or COLOURS)]
            assert len(alike) == int(pair.answer)


def test_sides_are_those_of_the_boxes() -> None:
    for split in SPLITS:
        for one in made("side", split):
            first, second = (one.images[0].boxes[index] for _, index in one.pairs[0].things)
            across, down = ((first - second)[:2] + (first - second)[2:]) / 2
            side = one.pairs[0].answer
            assert {"left": across < 0, "right": across > 0, "above": down < 0, "below": down > 0}[side]
            assert (abs(across) > abs(down)) == (side in ("left", "right"))


def test_existence_is_that_of_the_scene() -> None:
    coloured = 0
    for split in SPLITS:
        for one in made("existence", split):
            scene, pair = one.images[0].scene, one.pairs[0]
            name = names_in(pair.question.rstrip("?"), CATEGORIES)[0]
            hues = [colour for colour in COLOURS if f" {colour} " in pair.question]
            coloured += bool(hues)
            there = any(thing.category == name and thing.colour in (hues or COLOURS) for thing in scene.things)
            assert there == (pair.answer == "yes"), pair
    assert coloured > COUNT / 2


def test_words_colours_and_categories_are_those_of_the_thing() -> None:
    for split in SPLITS:
        for one in made("reading", split):
            assert one.pairs[0].answer == one.images[0].scene.words[0].text in WORDS
        for one in made("colour", split):
            assert one.pairs[0].answer == things(one)[0].colour
            assert things(one)[0].category in one.pairs[0].question
        for one in made("category", split):
            assert one.pairs[0].answer == things(one)[0].category
        for kind in ("region", "region_caption"):
            for one in made(kind, split):
                thing = things(one)[0]
                assert f"{thing.colour} {thing.category}" in one.pairs[0].answer
                box = parse_box(one.pairs[0].question)
                assert box is not None
                assert max(abs(a - b) for a, b in zip(box, one.pairs[0].boxes[0], strict=True)) <= 0.0011


def test_attributes_hold_if_and_only_if_the_answer_is_yes() -> None:
    patterns = 0
    for split in SPLITS:
        for one in made("attribute", split):
            thing, question = things(one)[0], one.pairs[0].question.replace("True or not: ", "").replace("?", "")
            said = [
                word.rstrip(".")
                for word in question.split()
                if word.rstrip(".") in (*COLOURS, "striped", "dotted", "checked")
            ][-1]
            patterns += said not in COLOURS
            assert (said in (thing.colour, thing.fill)) == (one.pairs[0].answer == "yes")
    assert patterns > COUNT / 4


def test_compared_things_differ_clearly() -> None:
    for split in SPLITS:
        for one in made("comparison", split):
            first, second = things(one)
            if "earer" in one.pairs[0].question or "closer" in one.pairs[0].question:
                assert first.depth < second.depth
                assert first.grounded
            else:
                assert first.scale > 1.3 * second.scale
            assert one.pairs[0].answer.endswith(first.category)


def test_one_image_shows_what_is_asked_for() -> None:
    for split in SPLITS:
        for one in made("which_image", split):
            thing = things(one)[0]
            showing = [
                str(number)
                for number, image in enumerate(one.images, start=1)
                if any((other.category, other.colour) == (thing.category, thing.colour) for other in image.scene.things)
            ]
            assert showing == [one.pairs[0].answer]


def test_totals_are_sums_over_the_images() -> None:
    for split in SPLITS:
        for one in made("total", split):
            category = things(one)[0].category
            alike = [thing for image in one.images for thing in image.scene.things if thing.category == category]
            assert len(alike) == int(one.pairs[0].answer)
    assert {len(one.images) for one in made("total", "train")} == {2, 3}


def test_changes_are_those_between_the_images() -> None:
    seen = set()
    for split in SPLITS:
        for one in made("change", split):
            before, after = (image.scene for image in one.images)
            answer = one.pairs[0].answer
            moved = len(after.things) - len(before.things)
            differing = [pair for pair in zip(before.things, after.things, strict=False) if pair[0] != pair[1]]
            if "nothing" in answer:
                assert before == after
            elif "gone" in answer or "appeared" in answer:
                assert moved == (-1 if "gone" in answer else 1)
            else:
                assert moved == 0
                [(old, new)] = differing
                assert (old.category == new.category) == ("is now" in answer)
                assert f"{old.colour} {old.category}" in answer
                assert (new.colour if "is now" in answer else new.category) in answer
            seen.add(answer.split()[-1] if "gone" in answer or "appeared" in answer else answer.split()[1])
    assert {"gone", "appeared"} <= seen


def test_more_pairs_ask_other_things_about_the_same_image() -> None:
    one = example(5, kind="colour", more=3)
    assert len(one.images) == 1
    assert len({pair.kind for pair in one.pairs}) == len(one.pairs) > 2


def test_the_mixture_has_all_kinds() -> None:
    stream = examples(7, more=0, size=32)
    counts = Counter(next(stream).pairs[0].kind for _ in range(250))
    assert set(counts) == set(WEIGHTS) == set(KINDS)
    assert counts["count"] > counts["change"]


def test_rows_follow_the_schema() -> None:
    one = example(2, kind="region", more=3)
    row = one.row(["a.png"])
    assert row["image"] == "a.png"
    assert [turn["from"] for turn in row["conversations"]] == ["human", "assistant"] * len(one.pairs)
    assert "<|bbox0|>" in row["conversations"][0]["value"]
    assert len(row["bbox"]) == sum(len(pair.boxes) for pair in one.pairs)
    x, y, width, height = row["bbox"][0]
    assert (x / row["width"], y / row["height"]) == pytest.approx(one.pairs[0].boxes[0][:2], abs=0.001)
    assert x + width <= row["width"] + 0.01
    assert y + height <= row["height"] + 0.01
    several = example(2, kind="total")
    row = several.row([f"{number}.png" for number in range(len(several.images))])
    assert row["conversations"][0]["value"].count("<image>") == len(row["image"]) == len(several.images)
    with pytest.raises(PerceptError, match="1 paths were given"):
        several.row(["a.png"])


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ({"kind": "colours"}, "'colour'"),
        ({"kind": "count", "split": "test"}, "unknown split"),
        ({"kind": "count", "style": "scetch"}, "'sketch'"),
        ({"kind": "colour", "style": "sketch", "size": 3}, "32 to 2048"),
    ],
)
def test_bad_arguments_say_what_is_possible(arguments: dict, hint: str) -> None:
    with pytest.raises(PerceptError, match=hint):
        example(0, **arguments)


def test_sketches_have_pairs_without_colours() -> None:
    for kind in ("existence", "count", "side", "region"):
        for seed in range(10):
            one = example(seed, kind=kind, style="sketch", size=48)
            if one.images[0].scene.variant != "crayon":
                assert not set(one.pairs[0].question.replace("?", "").split()) & set(COLOURS)


def test_phrasings_are_used() -> None:
    questions = {one.pairs[0].question for one in made("reading", "train")}
    assert questions == set(PHRASINGS["reading"])
    assert random.Random(0).choice(PHRASINGS["side"]).count("{") == 2


def test_weighted_further_pairs_come_in_proportion_and_repeat_no_answer() -> None:
    weights = {"existence": 6, "side": 2, "count": 1}
    kinds: Counter[str] = Counter()
    for seed in range(COUNT):
        first, *further = example(seed, kind="colour", size=64, more=6, others=weights).pairs
        kinds.update(pair.kind for pair in further)
        assert len(further) <= 6
        asked = [(pair.kind, pair.things, pair.answer) for pair in (first, *further)]
        assert len(set(asked)) == len(asked)
    assert set(kinds) == set(weights)
    assert kinds["existence"] > kinds["side"] > 0
    with pytest.raises(PerceptError, match="kind"):
        example(0, kind="colour", more=1, others={"colours": 1})
