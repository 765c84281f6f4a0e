import math

import pytest
import torch

from percept.core.errors import PerceptError
from percept.infer.labels import TEMPLATES, check_templates, fill, rank


@pytest.mark.parametrize(
    ("template", "label", "text"),
    [
        ("a picture of a {}", "orange cat", "a picture of an orange cat"),
        ("a picture of a {}", "cat", "a picture of a cat"),
        ("a {}", "unicorn", "a unicorn"),
        ("a {}", "Umbrella", "an Umbrella"),
        ("the digit {}", "eight", "the digit eight"),
        ("extra {}", "owl", "extra owl"),
        ("a {} on {curly} ground", "{braces}", "a {braces} on {curly} ground"),
        ("a photo of a {}", "set {}", "a photo of a set {}"),
        ("{} on a {", "a {} b", "a {} b on a {"),
    ],
)
def test_the_article_fits_the_label(template, label, text):
    assert fill(template, label) == text


def test_rank_keeps_the_order_of_equal_labels_and_sums_to_one():
    guesses = rank(["a", "b", "c"], torch.tensor([0.1, 0.3, 0.1]), scale=10.0)
    assert [guess.label for guess in guesses] == ["b", "a", "c"]
    assert sum(guess.probability for guess in guesses) == pytest.approx(1)
    assert guesses[0].probability / guesses[1].probability == pytest.approx(math.e**2, rel=1e-5)
    assert str(guesses[0]) == "b 79%"


def test_the_best_of_many_are_those_of_the_whole_ranking():
    names = [f"label {number}" for number in range(50)]
    scores = torch.randn(50, generator=torch.Generator().manual_seed(0))
    assert rank(names, scores, 5.0, top=4) == rank(names, scores, 5.0)[:4]


def test_a_large_scale_does_not_overflow():
    guesses = rank(["a", "b"], torch.tensor([1.0, -1.0]), scale=1e4)
    assert [guess.probability for guess in guesses] == [1.0, 0.0]


def test_templates():
    assert check_templates(None) == TEMPLATES
    assert check_templates("a {}") == ("a {}",)
    for bad in ([], ["a {} {}"], "a cat", ["a {}", ""]):
        with pytest.raises(PerceptError, match="template"):
            check_templates(bad)
