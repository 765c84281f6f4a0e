"""Documents: boxes hold the ink of their texts, the order is that of reading, and answers follow from the data."""

from functools import cache

import numpy as np
import pytest

from percept.core.errors import PerceptError
from percept.data.chat.regions import parse_box
from percept.world import COLOURS, held_out
from percept.world.documents import DOCUMENTS, Document, documents, generate_document
from percept.world.documents.forms import money
from percept.world.palette import nearest

COUNT = 12
CHARTS = ("bar chart", "line chart", "pie chart")


@cache
def made(kind: str, split: str = "train") -> tuple[Document, ...]:
    return tuple(generate_document(seed, kind=kind, split=split) for seed in range(COUNT))


def overlap(first, second) -> float:
    across = min(first[2], second[2]) - max(first[0], second[0])
    down = min(first[3], second[3]) - max(first[1], second[1])
    return max(0.0, across) * max(0.0, down)


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_boxes_hold_ink_and_do_not_overlap(kind: str) -> None:
    for document in made(kind):
        height, width = document.image.shape[:2]
        for index, text in enumerate(document.texts):
            left, top, right, bottom = text.box
            assert 0 <= left < right <= 1
            assert 0 <= top < bottom <= 1
            cut = document.image[
                int(top * height) : int(bottom * height) + 1, int(left * width) : int(right * width) + 1
            ]
            contrast = int(cut.max(axis=(0, 1)).max()) - int(cut.min(axis=(0, 1)).min())
            assert contrast > 60, (kind, document.seed, text)
            smallest = (right - left) * (bottom - top)
            for other in document.texts[:index]:
                assert overlap(text.box, other.box) < 0.25 * smallest, (kind, document.seed, text.text, other.text)


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_training_contains_no_held_out_fact_and_evaluation_asks_about_one(kind: str) -> None:
    for document in made(kind):
        facts = {text.fact for text in document.texts if text.fact}
        assert facts
        assert not any(held_out(*fact) for fact in facts)
    for document in made(kind, "evaluation"):
        assert document.pairs
        for pair in document.pairs:
            facts = [document.texts[index].fact for _, index in pair.things]
            assert any(fact is not None and held_out(*fact) for fact in facts)


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_questions_are_well_formed(kind: str) -> None:
    for document in made(kind):
        assert len({pair.kind for pair in document.pairs}) >= 4
        for pair in document.pairs:
            assert pair.answer
            assert "{" not in pair.question
            assert not pair.choices or pair.choices.count(pair.answer) == 1
            if pair.kind in ("region", "referring"):
                box = parse_box(pair.question if pair.kind == "region" else pair.answer)
                text = document.texts[pair.things[0][1]]
                assert box is not None
                assert np.abs(np.subtract(box, text.box)).max() <= 0.0011
                assert text.text in (pair.answer if pair.kind == "region" else pair.question)
        whole = next(pair for pair in document.pairs if pair.kind == "reading" and pair.answer == document.text)
        assert all(text.text in whole.answer for text in document.texts)
        row = document.row("a.png")
        assert len(row["conversations"]) == 2 * len(document.pairs)
        assert len(row["bbox"]) == sum(len(pair.boxes) for pair in document.pairs)
        assert set(document.record()) == {"kind", "seed", "split", "text", "texts", "data", "questions"}


def answers(document: Document, kind: str) -> list[tuple[str, str]]:
    return [(pair.question, pair.answer) for pair in document.pairs if pair.kind == kind]


def test_fields_of_forms_have_their_values() -> None:
    for document in made("form"):
        fields = dict(document.data["fields"])
        for question, answer in answers(document, "value"):
            key = next(key for key in fields if f" {key.lower()}" in question.lower())
            assert fields[key] == answer
        assert answers(document, "count")[0][1] == str(len(fields))
        lines = document.text.splitlines()
        assert lines[0] == document.data["title"]
        assert lines[1:] == [f"{key}: {value}" for key, value in document.data["fields"]]


def test_receipts_add_up() -> None:
    for document in made("receipt"):
        prices = dict(document.data["items"])
        assert answers(document, "total")[0][1] == money(sum(prices.values()))
        assert f"TOTAL {money(sum(prices.values()))}" in document.text
        dearest, cheapest = (answer for _, answer in answers(document, "extreme"))
        assert prices[dearest] == max(prices.values())
        assert prices[cheapest] == min(prices.values())
        for question, answer in answers(document, "value"):
            item = next(item for item in prices if f" {item.lower()}" in question)
            assert answer == money(prices[item])


@pytest.mark.parametrize("kind", CHARTS)
def test_answers_about_charts_follow_from_the_values(kind: str) -> None:
    asked = set()
    for document in made(kind):
        values = dict(zip(document.data["labels"], document.data["values"], strict=True))
        hues = dict(zip(document.data["labels"], document.data["hues"], strict=True))
        assert kind != "pie chart" or sum(values.values()) == 100
        for pair in document.pairs:
            asked.add(pair.kind)
            named = [label for label in values if label in pair.question.replace("?", "").replace(",", "").split()]
            if pair.kind == "value":
                assert values[named[0]] == int(pair.answer)
            elif pair.kind == "extreme":
                best = min if "lowest" in pair.question or "smallest" in pair.question else max
                assert values[pair.answer] == best(values.values())
                assert list(values.values()).count(values[pair.answer]) == 1
            elif pair.kind == "comparison":
                assert values[pair.answer] == max(values[label] for label in named)
            elif pair.kind == "difference":
                assert int(pair.answer) == abs(values[named[0]] - values[named[1]])
            elif pair.kind == "colour":
                assert hues[named[0]] == pair.answer in COLOURS
            elif pair.kind == "count":
                assert int(pair.answer) == len(values)
            elif pair.kind == "type":
                assert pair.answer == kind
    assert {"value", "extreme", "comparison", "difference", "count", "title", "type"} <= asked


def test_bars_are_as_high_as_their_values() -> None:
    for document in made("bar chart"):
        height, width = document.image.shape[:2]
        labels = [text for text in document.texts if text.role == "label"]
        ratios = []
        for text, value, hue in zip(labels, document.data["values"], document.data["hues"], strict=True):
            column = document.image[:, round((text.box[0] + text.box[2]) / 2 * width)][
                round(0.2 * height) : round(0.81 * height)
            ]
            pixels = [nearest((int(red), int(green), int(blue))) == hue for red, green, blue in column]
            ratios.append(sum(pixels) / height / (0.62 * value / document.data["top"]))
        assert max(abs(ratio - 1) for ratio in ratios) < 0.3, document.seed
        assert abs(np.mean(ratios) - 1) < 0.12


def test_slices_have_the_colours_of_the_legend_in_proportion() -> None:
    for document in made("pie chart"):
        pixels = document.image[:, : round(0.68 * document.image.shape[1])].reshape(-1, 3)
        names = np.array([nearest((int(red), int(green), int(blue))) for red, green, blue in pixels[::61]])
        counts = np.array([np.sum(names == hue) for hue in document.data["hues"]], float)
        assert np.abs(counts / counts.sum() * 100 - document.data["values"]).max() < 8


def test_pages_are_read_column_by_column() -> None:
    columns = set()
    for document in made("page"):
        columns.add(document.data["columns"])
        lines = document.text.splitlines()
        assert lines[0] == document.data["title"]
        body = [line for section in document.data["sections"] for line in (section["heading"], section["paragraph"])]
        assert lines[1:-1] == body
        for number, (_, answer) in enumerate(answers(document, "heading")):
            assert answer == document.data["sections"][number]["heading"]
        edge = max(text.box[3] for text in document.texts if text.role == "line")
        assert edge < next(text.box[1] for text in document.texts if text.text == "1")
    assert columns == {1, 2}


def test_answers_about_signs_follow_from_the_data() -> None:
    for document in made("sign"):
        data = document.data
        assert document.text.lower().split() == list(data["words"])
        found = {pair.kind: pair.answer for pair in document.pairs if pair.kind != "reading"}
        assert found["colour"] == data["board"]
        assert found["shape"] == data["shape"]
        assert found["existence"] == ("yes" if data["arrow"] else "no")
        assert found.get("direction", "") == data["arrow"]


def test_the_same_seed_gives_the_same_bytes_and_any_width_the_same_text() -> None:
    for kind in DOCUMENTS:
        one, again, wide = (generate_document(4, kind=kind, width=width) for width in (None, None, 500))
        assert one.image.tobytes() == again.image.tobytes()
        assert one.record() == again.record()
        assert wide.image.shape[1] == 500
        assert wide.data == one.data
        assert wide.text == one.text


def test_documents_of_all_kinds_in_turn() -> None:
    stream = documents(5, split="validation", width=96)
    assert {next(stream).kind for _ in range(7)} == set(DOCUMENTS)


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ({"kind": "from"}, "'form'"),
        ({"kind": "form", "width": 10}, "64 to 2048"),
        ({"kind": "form", "split": "test"}, "split"),
    ],
)
def test_bad_arguments_say_what_is_possible(arguments: dict, hint: str) -> None:
    with pytest.raises(PerceptError, match=hint):
        generate_document(0, **arguments)
