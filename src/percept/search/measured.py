"""What an upgrade costs until every vector is replaced: recall before, through the map, mixed, and after encoding everything again.

Measured on images that did not take part in learning. Without labels, the result of the new model on its own vectors is what a query should
find: recall is the share of its best `TOP` that is among the best `TOP` of the other way.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from percept.search.bridge import Bridge

TOP = 10
WAYS = ("before", "bridged", "half", "after")
"""The old model on its vectors; the new one through the map; half of the vectors replaced; all replaced."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """Images as both models see them."""

    new: Float[np.ndarray, "n d"]
    old: Float[np.ndarray, "n e"]
    labels: np.ndarray

    def take(self, rows: np.ndarray) -> "Seen":
        """Return some of the images."""
        return Seen(new=self.new[rows], old=self.old[rows], labels=self.labels[rows])


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Recall by the kind of queries and by WAYS."""

    images: int
    texts: int
    top: int
    recall: dict[str, dict[str, float]]
    """"texts" and "images": share of the best `top` after complete encoding that is found. "folders": share of the nearest `top` that
    are in the same folder, with images as queries."""


def measured(
    seen: Seen,
    bridge: Bridge,
    now: Float[Tensor, "q d"],
    then: Float[Tensor, "q e"] | None,
    *,
    folders: bool = False,
) -> Measured:
    """Measure recall on images, with texts and with each image as queries.

    Args:
        seen: images that did not take part in learning.
        bridge: the map and the calibration.
        now: texts as the new model embeds them.
        then: the same as the old model embeds them; None if it is not available.
        folders: count also how many of the nearest images have the same label.
    """
    top = max(1, min(TOP, len(seen.new) // 4))
    texts = scores(seen, bridge, now.numpy(), None if then is None else then.numpy())
    images = {way: _without_self(each) for way, each in scores(seen, bridge, seen.new, seen.old).items()}
    recall = {"texts": _overlaps(texts, top), "images": _overlaps(images, top)}
    if folders:
        recall["folders"] = {way: _same(each, seen.labels, top) for way, each in images.items()}
    return Measured(images=len(seen.new), texts=len(now), top=top, recall=recall)


def scores(
    seen: Seen, bridge: Bridge, now: Float[np.ndarray, "q d"], then: Float[np.ndarray, "q e"] | None
) -> dict[str, Float[np.ndarray, "q n"]]:
    """Return the scores of all images for every query, by WAYS; "before" only with queries of the old model."""
    mapped = bridge.mapped(torch.from_numpy(now)).numpy()
    after, bridged = now @ seen.new.T, mapped @ seen.old.T
    on_scale = np.stack([bridge.calibration(*pair)(row) for *pair, row in zip(now, mapped, bridged, strict=True)])
    half = np.where(np.arange(len(seen.new)) % 2 == 0, after, on_scale)
    before = {} if then is None else {"before": then @ seen.old.T}
    return before | {"bridged": bridged, "half": half, "after": after}


def _without_self(values: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"]:
    values = values.copy()
    np.fill_diagonal(values, -np.inf)
    return values


def best(values: Float[np.ndarray, "q n"], top: int) -> np.ndarray:
    """Return the columns of the highest values of each row, in no order."""
    return np.argpartition(-values, top - 1, axis=1)[:, :top]


def _overlaps(ways: dict[str, Float[np.ndarray, "q n"]], top: int) -> dict[str, float]:
    wanted = best(ways["after"], top)
    return _each(
        ways,
        lambda values: float(np.mean([np.isin(a, b).mean() for a, b in zip(wanted, best(values, top), strict=True)])),
    )


def _same(values: Float[np.ndarray, "n n"], labels: np.ndarray, top: int) -> float:
    return float((labels[best(values, top)] == labels[:, None]).mean())


def _each(ways: dict[str, np.ndarray], score: Callable[[np.ndarray], float]) -> dict[str, float]:
    return {way: round(score(values), 4) for way, values in ways.items()}
