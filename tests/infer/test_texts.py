"""The cache of text vectors: asked once, dropped in order, and never older than what made them."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from percept.core.errors import PerceptError
from percept.infer.texts import TextCache
from tests.infer import tiny

WORDS = tiny.tokenizer()


class Counting:
    """Computes the length of a text, and notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.tower: nn.Module = nn.Linear(1, 1)

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


def linear(tower: nn.Sequential) -> nn.Linear:
    layer = tower[0]
    assert isinstance(layer, nn.Linear)
    return layer


def in_place(tower: nn.Sequential) -> None:
    with torch.no_grad():
        linear(tower).weight.add_(1)


def replaced(tower: nn.Sequential) -> None:
    linear(tower).weight = nn.Parameter(linear(tower).weight.detach().clone())


def behind(tower: nn.Sequential) -> None:
    linear(tower).weight.data[:, 30:40] += 1


def buffer(tower: nn.Sequential) -> None:
    next(tower.buffers()).add_(1)


def part(tower: nn.Sequential) -> None:
    tower.register_module("2", nn.Tanh())


@pytest.mark.parametrize("change", [in_place, replaced, behind, buffer, part])
def test_another_tower_or_tokenizer_begins_anew(change):
    cache, compute = TextCache(), Counting()
    compute.tower = tower = nn.Sequential(nn.Linear(100, 80), nn.BatchNorm1d(80), nn.Identity())
    for _ in range(3):
        compute.of(cache, "a")
        change(tower)
    compute.of(cache, "a")
    assert compute.asked == [["a"]] * 4
    compute.of(cache, "a")
    assert len(compute.asked) == 4
    compute.of(cache, "a", tokenizer=tiny.tokenizer())
    compute.tower = nn.Identity()
    compute.of(cache, "a")
    assert len(compute.asked) == 6


def test_nothing_is_kept_where_changes_cannot_be_seen():
    cache, compute = TextCache(), Counting()
    compute.of(cache, "a")
    hook = compute.tower.register_forward_hook(lambda *_: None)
    compute.of(cache, "a")
    compute.of(cache, "a", "bb")
    assert len(cache) == 0
    hook.remove()
    compute.of(cache, "a")
    with torch.inference_mode():
        compute.tower = nn.Linear(1, 1)
    compute.of(cache, "a")
    compute.of(cache, "a")
    assert compute.asked == [["a"], ["a"], ["a", "bb"], ["a"], ["a"], ["a"]]


def test_threads_share_a_cache():
    cache, compute = TextCache(most=3), Counting()
    words = ["a" * n for n in range(1, 9)]

    def ask(seed: int) -> bool:
        chosen = [words[(seed * step) % 8] for step in range(1, 6)]
        return compute.of(cache, *chosen) == [len(word) for word in chosen]

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(ask, range(600)))


def test_deep_copies_and_pickles_begin_empty():
    cache, compute = TextCache(most=5), Counting()
    compute.of(cache, "a")
    for other in (copy.deepcopy(cache), pickle.loads(pickle.dumps(cache))):
        assert len(other) == 0
        assert compute.of(other, "a") == [1]


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
