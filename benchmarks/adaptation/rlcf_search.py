"""Retrieval for `rlcf.py`: short captions of the world and their images, in both directions; the tower of the queries is adapted."""

import random
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from PIL import Image
from recorded import Record, best_of
from rlcf_report import OBJECTIVES, SIDES
from torch import Tensor

from percept.infer.encoder import Encoder
from percept.methods.adaptation.rlcf import RLCF, Query, Sample
from percept.methods.adaptation.texts import base_of
from percept.world import generate, short_caption

SEARCHING = ("RLCF", "distilled", "random reward")
"""Arms of retrieval."""


def scale_of(encoder: Encoder) -> float:
    """Return what multiplies cosines before the softmax."""
    return float(encoder.model.scale())


class Searching:
    """A policy and a reward model with queries and a gallery of the world."""

    def __init__(
        self, policy: Encoder, reward: Encoder, direction: str, *, split: str, seed: int, gallery: int, queries: int
    ) -> None:
        """Draw images with their captions, and encode them."""
        self.side: Literal["text", "image"] = SIDES[direction]
        drawn = [
            generate(1_000_000 * seed + n, split=split, style="mixed", things=(1, 3), truth=False)
            for n in range(gallery)
        ]
        self.texts = [short_caption(each.scene, random.Random(n)) for n, each in enumerate(drawn)]
        images = [each.image for each in drawn]
        own, others = ((each.image(images), each.text(self.texts)) for each in (policy, reward))
        asked, items = (1, 0) if self.side == "text" else (0, 1)
        self.judged = (others[asked] @ others[items].T)[:queries]
        self.module, self.scale = Query(base_of(policy), own[items], self.side), scale_of(reward)
        if self.side == "text":
            assert policy.tokenizer is not None
            self.views = policy.tokenizer(self.texts[:queries])
        else:
            stacked = policy.preprocess.stack([Image.fromarray(image) for image in images[:queries]])
            self.views = policy.preprocess.normalise(stacked)

    def hits(self, scores: Callable[[int], Tensor]) -> list[int]:
        """Return for every query whether the best item has its caption."""
        return [int(self.texts[int(scores(query).argmax())] == self.texts[query]) for query in range(len(self.views))]

    def adapted(self, arm: str, rate: float) -> list[int]:
        """Return the hits of an arm."""
        task = RLCF(RLCF.Config.queries(self.side, rate=rate, objective=OBJECTIVES[arm]), self.module, self.scale)
        return self.hits(
            lambda query: task.adapted(
                Sample(view=self.views[query : query + 1], cosine=self.judged[query : query + 1])
            )
        )

    @torch.no_grad()
    def plain(self) -> dict[str, list[int]]:
        """Return the hits of both models without adaptation."""
        return {
            "un-adapted": self.hits(lambda query: self.module(self.views[query : query + 1])[0]),
            "reward model alone": self.hits(lambda query: self.judged[query]),
        }

    def chosen_rates(self, rates: Sequence[float]) -> dict[str, float]:
        """Return for every arm the rate with the most hits."""
        return {arm: best_of(rates, lambda rate, arm=arm: float(np.mean(self.adapted(arm, rate)))) for arm in SEARCHING}


def measured(
    policy: Encoder, reward: Encoder, direction: str, seed: int, drawn: dict[str, int], rates: dict[str, float]
) -> Record:
    """Return whether every arm finds the item of every query, each arm with its rate."""
    searching = Searching(policy, reward, direction, split="evaluation", seed=seed, **drawn)
    hits = searching.plain() | {arm: searching.adapted(arm, rate) for arm, rate in rates.items()}
    return {"rates": dict(rates), "hits": hits}


def chosen_rates(policy: Encoder, reward: Encoder, direction: str, drawn: dict[str, int], rates: Sequence[float]) -> dict[str, float]:  # fmt: skip
    """Return the rate of every arm, chosen on half a gallery of the training split."""
    half = {name: max(1, size // 2) for name, size in drawn.items()}
    return Searching(policy, reward, direction, split="train", seed=0, **half).chosen_rates(rates)
