import sys

import numpy as np
import pytest
import torch

from percept.core.errors import PerceptError
from percept.eval import world
from percept.eval.binding import binding
from percept.eval.digits import NAMES, digits, read_digits
from percept.eval.retrieval import ranks, retrieval, same
from percept.eval.robustness import Styled, robustness
from percept.eval.table import Plan, find
from percept.eval.zeroshot import hits, prompts, worst, zeroshot
from percept.infer.labels import averaged
from tests.eval.fakes import Fake, chance

CLASSES = [f"class {number}" for number in range(20)]


def oracle() -> Fake:
    """Pictures are class numbers, texts end with one."""
    eye = torch.eye(20)
    return Fake(lambda number: eye[int(str(number))], lambda text: eye[int(text.split()[-1])])


def scores(found) -> dict[str, float]:
    return {score.name: score.value for score in found}


def lowest(found) -> bool:
    """True if nothing is found among the first: every recall is 0 and every median rank the last."""
    return {score.value for score in found if score.unit == "share"} == {0} and all(
        score.value == score.n for score in found if score.better == "less"
    )


def test_an_oracle_classifies_perfectly():
    labels = [number % 20 for number in range(60)]
    found = zeroshot(oracle(), labels, labels, CLASSES, prompts(CLASSES, ["a {}", "{}"]), name="c")
    assert scores(found.scores) == {"c top-1": 1, "c top-5": 1, "c mean per class": 1}
    assert found.confusions == []


def test_an_ignorant_encoder_is_at_chance():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 20, 2000).tolist()
    found = zeroshot(chance(), list(range(2000)), labels, CLASSES, prompts(CLASSES, ["a {}"]), name="c")
    top1, top5, _ = found.scores
    assert top1.low < 1 / 20 < top1.high
    assert top5.low < 5 / 20 < top5.high


def test_an_encoder_that_says_always_the_same_gets_nothing():
    constant = Fake(lambda _: torch.ones(4), lambda _: torch.ones(4))
    found = zeroshot(constant, [0, 1, 2], [0, 1, 2], CLASSES[:3], prompts(CLASSES[:3], ["{}"]), name="c")
    assert scores(found.scores)["c top-1"] == 0
    assert lowest(retrieval(constant, [0, 1, 2] * 4, [str(i) for i in range(12)]))
    assert binding(constant, [0], [("a", "b")], name="b").value == 0


def test_mean_per_class_counts_rare_classes_as_much():
    labels = [0] * 9 + [1]
    pictures = [0] * 10  # the single picture of class 1 is taken for 0
    found = zeroshot(oracle(), pictures, labels, CLASSES[:2], prompts(CLASSES[:2], ["{}"]), name="c")
    assert scores(found.scores) == {"c top-1": 0.9, "c mean per class": 0.5}
    assert [(one.truth, one.guess, one.count, one.of) for one in found.confusions] == [("class 1", "class 0", 1, 1)]


def test_classes_are_means_of_unit_vectors():
    table = {"x": [3.0, 0.0], "y": [0.0, 4.0], "z": [0.0, 1.0]}
    encoder = Fake(lambda _: torch.zeros(2), lambda text: torch.tensor(table[text]))
    expected = torch.tensor([[0.5**0.5, 0.5**0.5], [0.0, 1.0]])
    torch.testing.assert_close(averaged(encoder, [["x", "y"], ["z"]]), expected)
    with pytest.raises(PerceptError, match="at least one text"):
        averaged(encoder, [["x"], []])


def test_hits_agree_with_sorting():
    logits = torch.randn(50, 12)
    labels = torch.randint(0, 12, (50,))
    for k in (1, 3, 12):
        expected = torch.tensor([label in row.topk(k).indices for row, label in zip(logits, labels, strict=True)])
        assert torch.equal(hits(logits, labels, k), expected)


def test_worst_pairs_go_by_share_of_the_true_class():
    truth = torch.tensor([0] * 10 + [1] * 2 + [2])
    guess = torch.tensor([0] * 6 + [1] * 4 + [1, 0] + [2])
    pairs = worst(truth, guess, ["a", "b", "c"])
    assert [(one.truth, one.guess, one.count, one.of) for one in pairs] == [("b", "a", 1, 2), ("a", "b", 4, 10)]


def test_ranks_agree_with_a_loop():
    generator = torch.Generator().manual_seed(0)
    similarity = torch.randn(30, 30, generator=generator)
    positive = same([str(number // 2 if number < 10 else number) for number in range(30)])
    for query in range(30):
        right = [j for j in range(30) if positive[query, j]]
        order = similarity[query].argsort(descending=True).tolist()
        first = min(order.index(j) for j in right)
        assert ranks(similarity, positive)[query] == first


def test_equal_captions_share_their_pictures():
    captions = ["a red cup", "A red cup ", "a blue cup"]
    eye = torch.eye(3)
    crossed = Fake(lambda number: eye[[1, 0, 2][int(str(number))]], lambda text: eye[2 if "blue" in text else 0])
    assert scores(retrieval(crossed, [0, 1, 2], captions))["caption→image R@1"] == 1
    different = ["red cup", "cup red", "blue"]
    both = Fake(lambda number: eye[[1, 0, 2][int(str(number))]], lambda text: eye[different.index(text)])
    assert scores(retrieval(both, [0, 1, 2], different))["caption→image R@1"] == pytest.approx(1 / 3)


def test_retrieval_at_chance():
    found = {score.name: score for score in retrieval(chance(), list(range(800)), [f"text {i}" for i in range(800)])}
    assert found["caption→image R@10"].low < 10 / 800 < found["caption→image R@10"].high


def test_counts_that_do_not_match_are_refused():
    with pytest.raises(PerceptError, match="2 captions for 3 images"):
        retrieval(chance(), [1, 2, 3], ["a", "b"])
    with pytest.raises(PerceptError, match="one pair per image"):
        binding(chance(), [1, 2, 3], [("a", "b")], name="b")


def test_binding_at_chance_and_with_a_judge_that_knows():
    pictures = list(range(1000))
    pairs = [(f"right {number}", f"wrong {number}") for number in pictures]
    guess = binding(chance(), pictures, pairs, name="b")
    assert guess.low < 0.5 < guess.high
    knowing = Fake(lambda _: torch.tensor([1.0, 0.0]), lambda text: torch.tensor([1.0, float("wrong" in text)]))
    assert binding(knowing, pictures, pairs, name="b").value == 1
    assert binding(knowing, pictures, [(wrong, right) for right, wrong in pairs], name="b").value == 0


def test_robustness_averages_styles_and_splits_by_novelty():
    numbers = [number % 20 for number in range(100)]
    shifted = [(number + (position % 2)) % 20 for position, number in enumerate(numbers)]  # half of them wrong
    seen = np.arange(100) % 2 == 0
    styles = {
        "plain": Styled(images=numbers, labels=numbers, seen=np.ones(100, bool)),
        "sketch": Styled(images=shifted, labels=numbers, seen=seen),
    }
    found = scores(robustness(oracle(), styles, CLASSES, prompts(CLASSES, ["{}"])))
    assert found["style plain"] == 1
    assert found["style sketch"] == 0.5
    assert found["mean of the styles"] == 0.75
    assert found["drop of the mean against plain"] == 0.25
    assert found["drop of the styles other than plain"] == 0.5
    assert (found["variants seen in training"], found["variants never seen"]) == (1, 0)


def test_digits_are_the_real_ones():
    pixels, labels = read_digits()
    assert pixels.shape == (1797, 8, 8)
    assert (pixels.min(), pixels.max()) == (0, 255)
    table = {digit.tobytes(): label for digit, label in zip(pixels, labels, strict=True)}
    eye = torch.eye(10)
    reader = Fake(lambda one: eye[table[np.asarray(one).tobytes()]], lambda text: eye[NAMES.index(text.split()[-1])])
    top1 = digits(reader).scores[0]
    assert (top1.value, top1.n) == (1, 1797)


def test_digits_name_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(PerceptError, match=r"percept-models\[eval\]"):
        digits(chance())


def test_a_model_that_computes_no_numbers_gets_nothing():
    broken = Fake(lambda _: torch.full((4,), float("nan")), lambda _: torch.full((4,), float("nan")))
    found = zeroshot(broken, [0, 1, 2], [0, 1, 2], CLASSES[:3], prompts(CLASSES[:3], ["{}"]), name="c")
    assert scores(found.scores)["c top-1"] == 0
    assert lowest(retrieval(broken, list(range(12)), [str(i) for i in range(12)]))
    assert binding(broken, [0], [("a", "b")], name="b").value == 0


def test_binding_records_every_pair(monkeypatch):
    pairs = world.Pairs(
        images=[np.zeros((8, 8, 3), np.uint8)] * 2, captions=[("right a", "wrong a"), ("right b", "wrong b")]
    )
    monkeypatch.setattr(world, "pairs", lambda count, **_: {"attributes": pairs, "sides": pairs})
    half = Fake(
        lambda _: torch.tensor([1.0, 0.0]), lambda text: torch.tensor([1.0, float(text in ("wrong a", "right b"))])
    )
    result = find("binding").run(half, Plan(count=2))
    assert [score.value for score in result.scores] == [0.5, 0.5]
    first = result.records[0]
    assert (list(first.value), first.prediction) == ([1.0, 0.0], ["right a", "wrong b"])
    assert (first.keys[1], first.truth[1]) == ("attributes/plain/1", "right b")
