"""Zero-shot classification: class names as texts, pictures matched to the nearest."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from percept.eval.statistics import Score, mean, proportion
from percept.infer.labels import averaged, fill


@runtime_checkable
class Encodes(Protocol):
    """What evaluators ask of an encoder: unit-length vectors of pictures and of texts."""

    def image(self, images: Any) -> Float[Tensor, "n d"]:
        """Return one vector per picture."""
        ...

    def text(self, texts: Any) -> Float[Tensor, "n d"]:
        """Return one vector per text."""
        ...


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """Pictures of one class taken for another."""

    truth: str
    guess: str
    count: int
    of: int
    """Pictures of the true class."""


@dataclass(frozen=True, kw_only=True)
class ZeroShot:
    """Result of a zero-shot classification."""

    scores: list[Score]
    confusions: list[Confusion]
    """Worst pairs first."""
    right: np.ndarray
    """One truth value per picture: was the best label the true one."""


def prompts(names: Sequence[str], templates: Sequence[str]) -> list[list[str]]:
    """Return the texts of every class: each template with the name in it.

    >>> prompts(["owl", "cat"], ["a {}", "one {}"])
    [['an owl', 'one owl'], ['a cat', 'one cat']]
    """
    return [[fill(template, name) for template in templates] for name in names]


def zeroshot(
    encoder: Encodes,
    images: Any,
    labels: Sequence[int],
    names: Sequence[str],
    texts: Sequence[Sequence[str]],
    *,
    name: str,
) -> ZeroShot:
    """Classify pictures among classes described by texts; scores are called `name` top-1, top-5 and mean per class.

    Args:
        images: whatever `encoder.image` takes.
        labels: the true class of every picture.
        names: one name per class, for the confusions.
        texts: one list of texts per class.
    """
    return judge(encoder.image(images), torch.as_tensor(labels), names, averaged(encoder, texts), name=name)


def judge(
    vectors: Float[Tensor, "n d"],
    labels: Int[Tensor, " n"],
    names: Sequence[str],
    weights: Float[Tensor, "c d"],
    *,
    name: str,
) -> ZeroShot:
    """Score picture vectors against class vectors."""
    logits = vectors.float() @ weights.T
    right = hits(logits, labels, 1)
    scores = [proportion(f"{name} top-1", right.numpy())]
    if len(names) > 10:
        scores.append(proportion(f"{name} top-5", hits(logits, labels, 5).numpy()))
    by_class = [right[labels == label].float().mean().item() for label in labels.unique()]
    scores.append(mean(f"{name} mean per class", by_class))
    return ZeroShot(scores=scores, confusions=worst(labels, logits.argmax(dim=1), names), right=right.numpy())


def hits(logits: Float[Tensor, "n c"], labels: Int[Tensor, " n"], k: int) -> Bool[Tensor, " n"]:
    """Tell for which pictures the true class is among the `k` best; a tie counts against it, and so does a NaN."""
    true = logits.gather(1, labels[:, None])
    above = (~(logits < true)).sum(dim=1) - 1
    return above < k


def worst(
    labels: Int[Tensor, " n"], guesses: Int[Tensor, " n"], names: Sequence[str], top: int = 10
) -> list[Confusion]:
    """Return the pairs of classes most often taken for each other, by share of the true class."""
    table = torch.zeros(len(names), len(names), dtype=torch.int64)
    table.index_put_((labels, guesses), torch.ones(1, dtype=torch.int64), accumulate=True)
    totals = table.sum(dim=1)
    share = table.double() / totals.clamp(min=1)[:, None]
    order = share.fill_diagonal_(0).flatten().argsort(descending=True, stable=True)[:top].tolist()
    pairs = [divmod(int(position), len(names)) for position in order]
    return [
        Confusion(truth=names[row], guess=names[column], count=int(table[row, column]), of=int(totals[row]))
        for row, column in pairs
        if row != column and table[row, column]
    ]
