"""Metrics against hand-computed cases, naive loops and numbers of the public evaluation code."""

import itertools
import math
import random
from collections import Counter

import numpy as np
import pytest

from percept.eval.vlm import answers, captions, choices, soda, spans
from percept.eval.vlm.stem import stem
from percept.eval.vlm.texts import vqa_form, words_of

PREDICTED = [
    "a red cup on the table", "two dogs run in the park", "the blue car moves left slowly", "a man is riding a horse",
]  # fmt: skip
REFERENCES = [
    ["a red cup is on a table", "there is a cup on the table"],
    ["two dogs are running in a park", "dogs running through grass", "a pair of dogs in the park"],
    ["the blue car moves to the left", "a car moves"],
    ["a cat sleeps on the sofa"],
]
WORDS = ["the", "a", "red", "blue", "cup", "dog", "moves", "moved", "left", "right", "table", "and"]


def sentence(rng: random.Random) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 9)))


# --- captions: numbers of pycocoevalcap 1.2 (CIDEr-D, ROUGE-L, BLEU) and nltk 3.10 (METEOR without synonyms) ---


def test_cider_has_the_numbers_of_the_public_code():
    expected = [4.082608015783789, 1.9034679856775125, 3.6151029405279123, 0.0]
    assert captions.cider(PREDICTED, REFERENCES) == pytest.approx(expected, abs=1e-12)


def naive_cider(predictions: list[str], references: list[list[str]]) -> list[float]:
    """Equation 2 of the paper, written as loops over words, with the clipping and the length penalty of CIDEr-D."""

    def grams(text: str, size: int) -> Counter[tuple[str, ...]]:
        words = text.split()
        return Counter(tuple(words[at : at + size]) for at in range(len(words) - size + 1))

    scores = []
    for text, own in zip(predictions, references, strict=True):
        total = 0.0
        for other in own:
            for size in range(1, 5):
                vectors = []
                for each in (text, other):
                    vector = {}
                    for gram, count in grams(each, size).items():
                        seen = sum(any(gram in grams(one, size) for one in many) for many in references)
                        vector[gram] = count * (math.log(len(references)) - math.log(max(1, seen)))
                    vectors.append(vector)
                one, two = vectors
                dot = sum(min(one[gram], two[gram]) * two[gram] for gram in one if gram in two)
                norm = math.sqrt(sum(v * v for v in one.values()) * sum(v * v for v in two.values()))
                gap = len(text.split()) - len(other.split())
                total += (dot / norm if norm else 0.0) * math.exp(-(gap**2) / 72) / 4
        scores.append(10 * total / len(own))
    return scores


def test_cider_is_the_naive_loop():
    rng = random.Random(0)
    predicted = [sentence(rng) for _ in range(12)]
    references = [[sentence(rng) for _ in range(rng.randint(1, 4))] for _ in predicted]
    assert captions.cider(predicted, references) == pytest.approx(naive_cider(predicted, references), abs=1e-12)


def test_rouge_has_the_numbers_of_the_public_code_and_is_a_naive_loop():
    expected = [0.7587064676616916, 0.6069651741293532, 0.7587064676616916, 0.16666666666666666]
    got = [captions.rouge_l(text, others) for text, others in zip(PREDICTED, REFERENCES, strict=True)]
    assert got == pytest.approx(expected, abs=1e-12)

    def longest(one: list[str], two: list[str]) -> int:
        if not one or not two:
            return 0
        if one[-1] == two[-1]:
            return longest(one[:-1], two[:-1]) + 1
        return max(longest(one[:-1], two), longest(one, two[:-1]))

    rng = random.Random(1)
    for _ in range(20):
        one, two = sentence(rng), sentence(rng)
        common = longest(one.split(), two.split())
        p, r = common / len(one.split()), common / len(two.split())
        naive = 2.44 * p * r / (r + 1.44 * p) if common else 0.0
        assert captions.rouge_l(one, [two]) == pytest.approx(naive, abs=1e-12)


def test_meteor_has_the_numbers_of_the_public_code():
    expected = [0.7014492753623188, 0.6463768115942029, 0.6463768115942029, 0.08333333333333333]
    got = [captions.meteor(text, others) for text, others in zip(PREDICTED, REFERENCES, strict=True)]
    assert got == pytest.approx(expected, abs=1e-12)
    assert captions.meteor("", ["a cup"]) == 0.0


def test_meteor_counts_chunks():
    # six matches in order are one chunk; exchanged halves are two
    assert captions.meteor("a b c d e f", ["a b c d e f"]) == pytest.approx(1 - 0.5 / 6**3)
    assert captions.meteor("d e f a b c", ["a b c d e f"]) == pytest.approx(1 - 0.5 * (2 / 6) ** 3)


def test_bleu_is_that_of_a_corpus():
    value, low, high = captions.bleu(PREDICTED, REFERENCES)
    assert value == pytest.approx(0.34860473871703224, abs=1e-8)
    assert low < value < high
    assert captions.bleu(["the same words here"], [["the same words here"]])[0] == pytest.approx(1.0)


def test_the_stemmer_strips_by_measure():
    pairs = {
        "caresses": "caress", "ponies": "poni", "agreed": "agre", "plastered": "plaster", "motoring": "motor", "sized": "size",
        "hopping": "hop", "falling": "fall", "filing": "file", "happy": "happi", "sky": "sky", "relational": "relat",
        "vietnamization": "vietnam", "triplicate": "triplic", "hopefulness": "hope", "adoption": "adopt", "probate": "probat",
        "rate": "rate", "controll": "control", "roll": "roll", "is": "is",
    }  # fmt: skip
    assert {word: stem(word) for word in pairs} == pairs


def test_captions_need_no_case_and_no_punctuation():
    assert captions.cider(["A Red CUP.", *PREDICTED], [["a red cup"], *REFERENCES])[0] == pytest.approx(
        captions.cider(["a red cup", *PREDICTED], [["a red cup"], *REFERENCES])[0]
    )
    assert words_of("") == []


# --- spans: numbers of the public evaluation code of PLM-VideoBench ---


@pytest.mark.parametrize(
    ("one", "other", "iou", "recall"),
    [
        ((5, 12), (4, 15), 0.6363636357851239, 0.5),
        ((0, 3), (4, 8), 0.0, 0.0),
        ((3, 3), (3, 3), 0.0, 0.0),
        ((12, 5), (4, 15), 0.6363636357851239, 0.5),
        ((0, 31), (10, 20), 0.32258064505723205, 0.25),
        ((2.5, 7), (3, 9), 0.6153846144378698, 0.5),
    ],
)
def test_published_overlap(one, other, iou, recall):
    assert spans.overlap(one, other, "published") == pytest.approx(iou, abs=1e-12)
    assert spans.mean_recall(spans.overlap(one, other, "published")) == recall


def test_fixed_overlap_counts_frames():
    rng = random.Random(2)
    for _ in range(100):
        one, two = [(min(pair), max(pair)) for pair in [(rng.randint(0, 15), rng.randint(0, 15)) for _ in range(2)]]
        frames = [set(range(start, end + 1)) for start, end in (one, two)]
        expected = len(frames[0] & frames[1]) / len(frames[0] | frames[1])
        assert spans.overlap(one, two) == pytest.approx(expected, abs=1e-12)


def test_charades_frames_become_seconds():
    duration = 47.3
    seconds = np.linspace(0, duration, 32)
    assert spans.frame_to_seconds((4, 17), duration) == pytest.approx((seconds[3], seconds[16]))
    assert spans.frame_to_seconds((0, 99), duration) == pytest.approx((0.0, duration))
    assert spans.seconds_overlap((1.0, 1.0), (1.0, 1.0)) == 0.0


def test_boxes_overlap_like_pixels():
    rng = random.Random(3)
    for _ in range(50):
        boxes = []
        for _ in range(2):
            (x0, x1), (y0, y1) = (sorted(rng.sample(range(12), 2)) for _ in range(2))
            boxes.append((x0, y0, x1, y1))
        sets = [{(x, y) for x in range(b[0], b[2]) for y in range(b[1], b[3])} for b in boxes]
        expected = len(sets[0] & sets[1]) / len(sets[0] | sets[1])
        assert spans.box_iou(*boxes) == pytest.approx(expected, abs=1e-12)


# --- SODA ---


@pytest.mark.parametrize(
    ("ious", "similar", "expected"),
    [
        ([[0.27, 0.04, 0.02], [0.81, 0.91, 0.61], [0.73, 0.54, 0.94], [0.82, 0.0, 0.86]],
         [[0.03, 0.73, 0.18], [0.86, 0.54, 0.3], [0.42, 0.03, 0.12], [0.67, 0.65, 0.62]], 0.356),
        ([[1.0, 0.98], [0.69, 0.65], [0.69, 0.39], [0.14, 0.72]],
         [[0.53, 0.31], [0.49, 0.89], [0.93, 0.36], [0.57, 0.32]], 0.3695),
        ([[0.34, 0.39, 0.89], [0.23, 0.62, 0.08], [0.83, 0.79, 0.24]],
         [[0.88, 0.06, 0.34], [0.15, 0.45, 0.8], [0.23, 0.05, 0.4]], 0.22473333333333334),
    ],
)  # fmt: skip
def test_soda_has_the_numbers_of_the_public_code(ious, similar, expected):
    assert soda.soda(np.array(ious), np.array(similar)) == pytest.approx(expected, abs=1e-12)


def test_soda_of_spans():
    gold = [soda.Event(span=span, text="") for span in ((0, 5), (7, 15), (16, 31))]
    given = [soda.Event(span=span, text="") for span in ((0, 6), (6, 15), (16, 31))]
    similar = np.array([[1, 0.1, 0.2], [0, 0.8, 0.1], [0.9, 0.1, 0.9]])
    assert soda.soda(soda.overlaps(gold, given, "published"), similar) == pytest.approx(0.814815, abs=1e-6)
    assert soda.soda(soda.overlaps(gold, given[:2], "published"), similar[:, :2]) == pytest.approx(0.617778, abs=1e-6)
    assert soda.soda(soda.overlaps(gold, []), np.zeros((3, 0))) == 0.0


def test_the_assignment_is_the_best_of_all():
    rng = np.random.default_rng(4)

    def best(values: np.ndarray) -> float:
        rows, columns = values.shape
        return max(
            sum(values[g, p] for g, p in zip(gs, ps, strict=True))
            for size in range(min(rows, columns) + 1)
            for gs in itertools.combinations(range(rows), size)
            for ps in itertools.combinations(range(columns), size)
        )

    for _ in range(30):
        values = rng.random(rng.integers(1, 5, 2))
        assert soda.assign(values) == pytest.approx(best(values), abs=1e-12)


def test_events_are_read_from_lines():
    text = "Frame [0, 5]: it moves left,\nFrame [7, 15]: it stops: slowly\nFrame [16,31] gone"
    assert [(event.span, event.text) for event in soda.parse_events(text)] == [
        ((0, 5), "it moves left"), ((7, 15), "it stops slowly"), ((16, 31), "gone"),
    ]  # fmt: skip
    assert soda.parse_events("nothing happens") == []


# --- multiple choice ---


@pytest.mark.parametrize(
    ("text", "a", "b"),
    [
        ("(A)", True, False), ("A", True, False), ("(b) blue", False, True), ("b.", False, True), (".", True, True),
        ("(", True, True), ("", False, False), ("  a", False, False), ("Answer: (B)", False, True),
        ("The answer is A", False, False), ("a\nb", False, False), ("(A)\nyes", True, False), ("aa", False, False),
    ],
)  # fmt: skip
def test_published_matching_of_options(text, a, b):
    options = ["red", "blue"]
    assert [choices.binary_right(text, options, answer, "published") for answer in (0, 1)] == [a, b]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("(A)", 0), (" b.", 1), ("C", 2), ("d", None), (".", None), ("(", None), ("", None), ("The answer is (B).", 1),
        ("Option C", 2), ("green", 2), ("A green one", 2), ("It is blue, not red", None), ("(A) or (B)", None),
        ("a blue thing", 1), ("The answer is a red cup", 0), ("answer: c", 2), ("Answer a question", None), ("The best option is: B", 1), ("B) blue", 1), ("**C**", 2),
    ],
)  # fmt: skip
def test_letters_are_found(text, number):
    assert choices.chosen(text, ["red", "blue", "green"]) == number


def test_a_group_is_right_if_all_of_it_is():
    right, groups = [True, True, False, True], ["one", "two", "one", "two"]
    assert choices.mbacc(right, groups) == [False, True]


# --- short answers ---


def test_vqa_accuracy_is_a_mean_over_nine_of_ten():
    rng = random.Random(5)
    for _ in range(100):
        people = [rng.choice(["2", "two", "3", "a cup"]) for _ in range(10)]
        forms = [vqa_form(each) for each in people]
        naive = []
        for place in range(10):
            others = forms[:place] + forms[place + 1 :]
            naive.append(min(1.0, others.count("2") / 3))
        assert answers.vqa_accuracy("Two", people) == pytest.approx(sum(naive) / 10)


def test_the_published_vqa_accuracy_takes_a_unanimous_answer_as_it_is():
    assert answers.vqa_accuracy("yes", ["yes"] * 10, "published") == 1.0
    assert answers.vqa_accuracy("Yes", ["yes"] * 10, "published") == 0.0
    assert answers.vqa_accuracy("Yes", ["yes"] * 10) == 1.0
    assert answers.vqa_accuracy("Yes", ["yes"] * 9 + ["no"], "published") == 1.0


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("red-blue", "red blue"), ("red- blue", "red blue"), ("1,000 cups", "1000 cups"), ("U.S.A.", "usa"),
        ("3.5", "3.5"), ("the Cup", "cup"), ("none", "0"), ("whats up", "what's up"), ("shouldntve", "shouldntve"),
        ("a/b", "b"), ("(left)", "left"),
    ],
)  # fmt: skip
def test_the_normal_form_of_vqa(text, form):
    assert vqa_form(text) == form


def test_anls_by_hand():
    assert answers.anls("abcd", ["abcx", "zzzz"]) == 0.75
    assert answers.anls("abcd", ["abxx"]) == 0.5
    assert answers.anls("abcd", ["axxx"]) == 0.0
    assert answers.anls("", ["a"]) == 0.0
    assert answers.anls("A  b", ["a b"]) == 1.0


@pytest.mark.parametrize(
    ("given", "expected", "published", "fixed"),
    [
        ("10.5", "10", True, True), ("10.6", "10", False, False), ("0", "0", True, True), ("0.0", "0", False, True),
        ("1,000", "1000", False, True), ("12%", "0.12", True, True), ("12", "12%", False, False), ("Blue", "blue", True, True),
        ("blue.", "blue", False, True), ("-9.6", "-10", True, True), ("nan", "nan", True, True),
    ],
)  # fmt: skip
def test_relaxed_accuracy(given, expected, published, fixed):
    assert answers.relaxed(given, expected, "published") is published
    assert answers.relaxed(given, expected) is fixed


def test_pope_by_hand():
    said = [True, True, True, False, False, None]
    due = [True, True, False, False, True, False]
    scores = answers.pope(said, due)
    assert (scores.accuracy, scores.precision, scores.recall) == (0.5, 2 / 3, 2 / 3)
    assert scores.f1 == pytest.approx(2 / 3)
    assert (scores.yes, scores.unclear) == (0.5, 1)
    nothing = answers.pope([False], [True])
    assert (nothing.precision, nothing.recall, nothing.f1) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("text", "published", "fixed"),
    [
        ("Yes.", True, True), ("No, there is none.", False, False), ("there is no cup", False, False), ("NO", True, False),
        ("I see a cup", True, None), ("It isn't", True, False), ("", True, None), ("Yes. It is not red.", True, True),
    ],
)  # fmt: skip
def test_yes_or_no(text, published, fixed):
    assert answers.yes_or_no(text, "published") is published
    assert answers.yes_or_no(text) is fixed
