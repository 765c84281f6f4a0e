"""The cache of text vectors: asked once, dropped in order, and never older than what made them."""

import pytest
import torch

from percept.core.errors import PerceptError
from percept.infer.texts import TextCache
from tests.infer import tiny

WORDS = tiny.tokenizer()


class Counting:
    """Computes the length of a text, and notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.tower = torch.nn.Linear(1, 1)

    def __call__(self, texts: list[str]) -> torch.Tensor:
        self.asked.append(texts)
        return torch.tensor([[float(len(text))] for text in texts])

    def of(self, cache: TextCache, *texts: str, tokenizer=WORDS) -> list[float]:
        return cache.vectors(texts, self, tokenizer=tokenizer, tower=self.tower)[:, 0].tolist()


def test_a_text_is_asked_once():
    cache, compute = TextCache(), Counting()
    assert compute.of(cache, "a", "bb", "a") == [1, 2, 1]
    assert compute.of(cache, "bb", "ccc") == [2, 3]
    assert compute.asked == [["a", "bb"], ["ccc"]]


def test_the_least_recently_used_is_dropped():
    cache, compute = TextCache(most=3), Counting()
    compute.of(cache, "a", "bb", "ccc")
    compute.of(cache, "a")
    compute.of(cache, "dddd")
    assert len(cache) == 3
    compute.of(cache, "a", "ccc", "dddd")
    compute.of(cache, "bb")
    assert compute.asked == [["a", "bb", "ccc"], ["dddd"], ["bb"]]


def test_more_texts_than_are_kept():
    cache, compute = TextCache(most=2), Counting()
    assert compute.of(cache, "a", "bb", "ccc", "dddd") == [1, 2, 3, 4]
    assert len(cache) == 2


def test_other_weights_or_another_tokenizer_begin_anew():
    cache, compute = TextCache(), Counting()
    compute.of(cache, "a")
    with torch.no_grad():
        compute.tower.weight.add_(1)
    compute.of(cache, "a")
    compute.of(cache, "a", tokenizer=tiny.tokenizer())
    assert compute.asked == [["a"]] * 3


def test_a_copy_goes_its_own_way():
    cache, compute = TextCache(), Counting()
    compute.of(cache, "a")
    other = cache.copy()
    compute.of(other, "a", "bb")
    compute.of(cache, "bb")
    assert compute.asked == [["a"], ["bb"], ["bb"]]


def test_what_cannot_be_computed_changes_nothing():
    cache, compute = TextCache(), Counting()
    compute.of(cache, "a")

    def broken(texts: list[str]) -> torch.Tensor:
        raise PerceptError("no")

    with pytest.raises(PerceptError, match="no"):
        cache.vectors(["bb"], broken, tokenizer=WORDS, tower=compute.tower)
    assert len(cache) == 1
    assert compute.of(cache, "a") == [1]
    assert compute.asked == [["a"]]
