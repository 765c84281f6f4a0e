"""How a token is chosen, against a plain loop over sorted probabilities."""

import random
from collections import Counter

import numpy as np
import pytest
import torch

from percept.infer.generation import Generation, pick


def naive(logits: list[float], generation: Generation, number: float, allowed: list[int] | None) -> int:
    ids = range(len(logits)) if allowed is None else allowed
    order = sorted(ids, key=lambda place: -logits[place])[: generation.top_k]
    weights = np.exp(np.array([logits[place] / generation.temperature for place in order], dtype=np.float64))
    shares = weights / weights.sum()
    kept = [place for place in range(len(order)) if shares[:place].sum() < generation.top_p]
    target, total = number * shares[kept].sum(), 0.0
    for place in kept:
        total += shares[place]
        if total > target:
            return order[place]
    return order[kept[-1]]


class Fixed(random.Random):
    def __init__(self, number: float) -> None:
        super().__init__()
        self.number = number

    def random(self) -> float:
        return self.number


@pytest.mark.parametrize(
    "options",
    [{}, {"top_p": 0.6}, {"top_k": 3}, {"top_k": 5, "top_p": 0.8}, {"top_p": 1e-6}, {"top_k": 1}, {"top_k": 99}],
)
def test_a_token_is_that_of_the_plain_loop(options: dict) -> None:
    rng = np.random.default_rng(0)
    for temperature in (0.3, 1.0, 4.0):
        generation = Generation(temperature=temperature, **options)
        logits = torch.from_numpy(rng.normal(size=(40, 12)).astype(np.float32)) * 3
        numbers = rng.uniform(size=40).tolist()
        allowed = [None if row % 3 else np.sort(rng.choice(12, 4, replace=False)) for row in range(40)]
        expected = [
            naive(row, generation, number, None if ids is None else ids.tolist())
            for row, number, ids in zip(logits.tolist(), numbers, allowed, strict=True)
        ]
        assert pick(logits, generation, [Fixed(number) for number in numbers], allowed) == expected


def test_frequencies_are_the_probabilities() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0, -1.0]])
    generation, dice = Generation(temperature=1.0, seed=0), Generation(temperature=1.0, seed=0).dice(0)
    counts = Counter(pick(logits, generation, [dice])[0] for _ in range(4000))
    shares = logits.softmax(dim=-1)[0].tolist()
    for token, share in enumerate(shares):
        assert counts[token] / 4000 == pytest.approx(share, abs=4 * (share * (1 - share) / 4000) ** 0.5)


def test_the_most_likely_token_among_those_allowed() -> None:
    logits = torch.tensor([[1.0, 5.0, 3.0], [4.0, 0.0, 2.0]])
    dice = [random.Random()] * 2
    assert pick(logits, Generation(), dice) == [1, 0]
    assert pick(logits, Generation(), dice, [np.array([0, 2]), None]) == [2, 0]


def test_random_numbers_depend_on_seed_and_sample_only() -> None:
    first = Generation(temperature=1.0, seed=1)
    assert first.dice(0).random() == first.dice(0).random() != first.dice(1).random()
    assert Generation(temperature=1.0, seed=2).dice(0).random() != first.dice(0).random()
    assert Generation(temperature=1.0).dice(0).random() != Generation(temperature=1.0).dice(0).random()
